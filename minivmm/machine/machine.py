"""The machine: guest memory, vCPUs, two buses, an interrupt controller, and the devices that every guest here has."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol, Self

from minivmm.boot import layout
from minivmm.bus import Bus, Device, SharedBus
from minivmm.devices.debug_exit import DebugExit
from minivmm.devices.post_code import PostCode
from minivmm.devices.uart import Uart
from minivmm.exits import Exit, Interrupted
from minivmm.irqchip import make_irqchip
from minivmm.kvm.seam import Backend
from minivmm.machine.crew import Crew
from minivmm.machine.loop import Loop
from minivmm.machine.processors import set_up_cpuid
from minivmm.machine.stop import Stop
from minivmm.timers import Timers
from minivmm.vcpu import Vcpu
from minivmm.vm import Vm

if TYPE_CHECKING:
    from minivmm.boot.platform import Platform
    from minivmm.guests import Guest
    from minivmm.trace import Tracer

HISTORY = 64
CONSOLE_KEPT = 1 << 20
UART_IRQ = 4
FIRST_DAY = 1_700_000_000_000_000_000  # ns since 1970: when machines begin whose time is counted, soft's clock too


class TerminalEnd(Protocol):
    """The device at which the user's terminal hangs: `feed` queues what is typed, `backlog` is how much still waits."""

    @property
    def backlog(self) -> int: ...

    def feed(self, data: bytes) -> None: ...


class Machine:
    """RAM from 0 up, a 16550 at 0x3F8, debug-exit at 0xF4, a POST code port. A context manager.

    `memory` is the RAM in bytes (0 for none: add slots to `machine.memory` yourself). `input` is what the guest finds
    typed on its serial port. What it prints is in `console`, and goes to `sink` as it comes. `irqchip` is one of
    minivmm.irqchip.KINDS; `cpus` above 1 need one with APICs, and are started by the guest.

    With `counted`, for a backend that counts time in instructions, the devices' time is the VM's, not the host's, and
    nothing that they do depends on the host's pace or chance.

    `terminal` is the device that reads what is typed while it runs: the 16550, unless somebody plugs in another.

    `vcpu` is the first of `vcpus`. With several, each bus serves one exit at a time.
    """

    def __init__(
        self,
        memory: int = 1 << 20,
        backend: Backend | None = None,
        *,
        input: bytes = b"",
        sink: Callable[[bytes], object] | None = None,
        devices: Iterable[Device] = (),
        cpus: int = 1,
        irqchip: str = "none",
        counted: bool = False,
    ) -> None:
        self.vm = Vm(backend)
        self.now: Callable[[], int] = self.vm.now if counted else time.monotonic_ns
        self.time_of_day: Callable[[], int] = (lambda: FIRST_DAY + self.vm.now()) if counted else time.time_ns
        self.timers = Timers(self.now)
        self.irqchip = make_irqchip(irqchip, self.vm, self.timers)
        if cpus > 1 and not self.irqchip.has_apics:
            raise ValueError(f"The irqchip “{irqchip}” has no APICs, so there is 1 vCPU: {cpus} need kernel or split.")
        self.memory = self.vm.memory
        for ram in layout.ram_ranges(memory):
            if ram:
                self.memory.add(ram.start, len(ram))
        self.vcpus = [self.vm.create_vcpu() for _ in range(cpus)]
        self.vcpu = self.vcpus[0]
        if irqchip == "none":
            self.vm.show_supported_cpuid(self.vcpu)
        else:
            set_up_cpuid(self.vm, self.vcpus, apics=self.irqchip.has_apics)
        self._runners = [self.irqchip.attach(vcpu) for vcpu in self.vcpus]
        bus = Bus if cpus == 1 else SharedBus
        self.ports, self.mmio = bus("port"), bus("address")
        self.console = bytearray()
        self.histories: list[deque[Exit]] = [deque(maxlen=HISTORY) for _ in self.vcpus]
        self.history = self.histories[0]
        self.on_exit: Callable[[Exit], object] | None = None  # sees every exit of the guest before it is served
        self.tracer: Tracer | None = None
        self.crew = Crew(cpus)
        self._sink = sink
        self.uart = Uart(self._print, set_line=self.irqchip.line(UART_IRQ).set)
        self.uart.feed(input)
        self.terminal: TerminalEnd = self.uart
        standard: tuple[Device, ...] = (self.uart, DebugExit(self._debug_exit), PostCode())
        for device in (*standard, *self.irqchip.ports, *devices):
            self.ports.attach(device)
        for device in self.irqchip.addresses:
            self.mmio.attach(device)

    # ---- a guest ----

    def load(self, gpa: int, data: bytes) -> None:
        """Copies `data` to guest memory."""
        self.memory.write(gpa, data)

    def enter(self, mode: layout.Mode, entry: int) -> None:
        """Puts the vCPU at `entry` in "real", "protected" or "long" mode; see boot/layout.py."""
        layout.enter(self.vcpu, self.memory, mode, entry)

    def load_guest(self, guest: Guest, **parameters: int) -> None:
        """Loads a reference guest with its parameter block filled in, and enters it as its manifest says."""
        from minivmm.boot.image import load_image

        image = guest.patched(**parameters)
        load_image(self.vcpu, self.memory, image, **guest.placement)

    # ---- running ----

    def run(self, timeout: float | None = None, *, cpus: Iterable[int] | None = None) -> Stop:
        """Runs all vCPUs (or those in `cpus`) until the guest stops, `timeout` seconds pass, or `stop` is called.

        Ctrl-C comes out as KeyboardInterrupt; the machine is whole then, and may be run again.
        """
        numbers = range(len(self.vcpus)) if cpus is None else sorted(cpus)
        self.timers.start()
        try:
            stop = self.crew.run([self._loop(number) for number in numbers], timeout)
        finally:
            self.timers.stop()
        if stop.reason != "died" or stop.exit is None:
            return stop
        from minivmm.debug import explain  # only now: a disassembler and tables that a healthy guest never needs

        vcpu, history = self.vcpus[stop.cpu], self.histories[stop.cpu]
        return dataclasses.replace(stop, explanation=explain(vcpu, self.memory, stop.exit, history))

    def _loop(self, number: int) -> Loop:
        history, runner = self.histories[number], self._runners[number]
        run = self.tracer.wrap(runner) if self.tracer else runner.run
        record = history.append if self.on_exit is None else self._recorder(history)
        return Loop(self.vcpus[number], self.crew, self.ports, self.mmio, self.irqchip, history, run, record)

    def _recorder(self, history: deque[Exit]) -> Callable[[Exit], None]:
        def record(exit: Exit) -> None:
            history.append(exit)
            if self.on_exit is not None and not isinstance(exit, Interrupted):
                self.on_exit(exit)

        return record

    def settle(self) -> None:
        """Completes each vCPU's last access to a device, so that its registers are those behind the instruction. For a
        machine that stands still."""
        for number in range(len(self.vcpus)):
            self._loop(number).settle()

    def stop(self) -> None:
        """Ends the run in progress, from any thread or from a device."""
        self.crew.stop(Stop("asked", 0))

    @property
    def platform(self) -> Platform | None:
        """What a kernel has to be told of the machine, where there is anything."""
        return None

    def press_power_button(self) -> None:
        """Asks the guest to shut down. Raises ValueError where there is no such button."""
        raise ValueError("This machine has no power button: only one for kernels has.")

    @property
    def here(self) -> Vcpu:
        """The vCPU whose exit the calling thread serves: who is at the device now."""
        return next((vcpu for vcpu in self.vcpus if vcpu.is_here), self.vcpu)

    def _debug_exit(self, code: int) -> None:
        self.crew.stop(Stop("debug-exit", code, cpu=self.here.index))

    def _print(self, data: bytes) -> None:
        if len(self.console) < CONSOLE_KEPT:  # a guest may print for ever; we keep the first MiB
            self.console += data
        if self._sink is not None:
            self._sink(data)

    # ---- the end ----

    def close(self) -> None:
        self.vm.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
