"""What the monitor may do with a machine (monitor.Controls): look, pause, go on, press its buttons."""

from __future__ import annotations

from typing import Any

from minivmm.machine.machine import Machine
from minivmm.machine.stop import Stop
from minivmm.memory import GuestMemory


class MachineControls:
    """For threads that run no vCPU. `reset_pressed` tells the reset button from a guest that resets itself."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.paused = False
        self.reset_pressed = False

    @property
    def memory(self) -> GuestMemory:
        return self.machine.memory

    @property
    def cpus(self) -> int:
        return len(self.machine.vcpus)

    def state(self, cpu: int) -> tuple[Any, Any]:
        """Copies of a vCPU's general and special registers. One that runs is stopped for a moment."""
        crew, vcpu = self.machine.crew, self.machine.vcpus[cpu]
        crew.pause()
        try:
            return vcpu.get_regs(), vcpu.get_sregs()
        finally:
            crew.resume()

    def exits(self) -> str:
        tracer = self.machine.tracer
        return tracer.statistics().text() if tracer else "Exits are counted with --trace or --trace-summary."

    def pause(self) -> None:
        if not self.paused:
            self.paused = True
            self.machine.crew.pause()

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            self.machine.crew.resume()

    def reset(self) -> None:
        """The reset button: the run ends with the reason "reset", and whoever runs the machine makes it anew."""
        self.reset_pressed = True
        self.machine.crew.stop(Stop("reset", 0))

    def power_button(self) -> None:
        self.machine.press_power_button()

    def quit(self) -> None:
        self.machine.stop()
