"""Today's Machine with one vCPU, run on a thread of its own, with what the monitor may ask of it."""

from __future__ import annotations

import threading
from typing import Any

from minivmm.machine import Machine, Stop
from minivmm.trace import Tracer
from minivmm.vcpu import Vcpu


class OneVcpu:
    """`Controls` of a Machine. `run` is for the thread that runs the guest; everything else for other threads."""

    cpus = 1

    def __init__(self, machine: Machine, tracer: Tracer | None = None) -> None:
        self.machine = machine
        self.memory = machine.memory
        self.tracer = tracer
        self.paused = False
        self.pressed: list[str] = []
        self._changed = threading.Condition()
        self._running = False
        self._left = False

    def run(self, timeout: float = 20) -> Stop:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._left or not self.paused)
                self._running = not self._left
            if self._left:
                return Stop("asked", 0)
            stop = self.machine.run(timeout)
            with self._changed:
                self._running = False
                self._changed.notify_all()
                if stop.reason != "asked" or not (self.paused or self._left):
                    return stop

    def state(self, cpu: int) -> tuple[Any, Any]:
        was_paused = self.paused
        self.pause()
        vcpu: Vcpu = self.machine.vcpu
        state = vcpu.get_regs(), vcpu.get_sregs()
        if not was_paused:
            self.resume()
        return state

    def exits(self) -> str:
        return self.tracer.statistics().text() if self.tracer else "Exits are counted only with --trace."

    def pause(self) -> None:
        with self._changed:
            self.paused = True
            while self._running:
                self.machine.stop()
                self._changed.wait(0.01)

    def resume(self) -> None:
        with self._changed:
            self.paused = False
            self._changed.notify_all()

    def reset(self) -> None:
        raise ValueError("This machine has no reset button.")

    def power_button(self) -> None:
        self.pressed.append("power")

    def quit(self) -> None:
        with self._changed:
            self._left = True
            self._changed.notify_all()
        self.machine.stop()
