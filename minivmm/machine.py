"""The machine: a VM, its buses and devices, and the run loop that drives them. The only file that knows them all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from minivmm.boot import layout
from minivmm.bus import Bus, Device
from minivmm.devices.debug_exit import DebugExit
from minivmm.devices.post_code import PostCode
from minivmm.devices.uart import Uart
from minivmm.exits import Exit, Halted, Interrupted, MmioRead, MmioWrite, PortIn, PortOut, SystemEvent
from minivmm.kvm.seam import Backend
from minivmm.vm import Vm
from minivmm.watch import Watch

if TYPE_CHECKING:
    from minivmm.debug import Explanation
    from minivmm.guests import Guest

HISTORY = 64
CONSOLE_KEPT = 1 << 20
DIED, TIMED_OUT = 125, 124


@dataclass(frozen=True)
class Stop:
    """Why a run ended. `reason`: "halted", "debug-exit", "timeout", "asked" or "died"; `exit_code` as `minivmm run`
    gives it. `explanation` is there for "died", and says what the guest did."""

    reason: str
    exit_code: int
    exit: Exit | None = None
    explanation: Explanation | None = None

    def __str__(self) -> str:
        detail = f" ({self.exit})" if self.exit is not None and self.reason == "died" else ""
        return f"{self.reason}{detail}, exit code {self.exit_code}"


class Machine:
    """One vCPU, RAM from 0 up, a 16550 at 0x3F8, debug-exit at 0xF4, a POST code port. A context manager.

    `memory` is the RAM in bytes (0 for none: add slots to `machine.memory` yourself). `input` is what the guest finds
    typed on its serial port. What it prints is in `console`, and goes to `sink` as it comes.
    """

    def __init__(
        self,
        memory: int = 1 << 20,
        backend: Backend | None = None,
        *,
        input: bytes = b"",
        sink: Callable[[bytes], object] | None = None,
        devices: Iterable[Device] = (),
    ) -> None:
        self.vm = Vm(backend)
        self.memory = self.vm.memory
        if memory:
            self.memory.add(0, memory)
        self.vcpu = self.vm.create_vcpu()
        self.vm.show_supported_cpuid(self.vcpu)
        self.ports = Bus("port")
        self.mmio = Bus("address")
        self.console = bytearray()
        self.history: deque[Exit] = deque(maxlen=HISTORY)
        self.on_exit: Callable[[Exit], object] | None = None  # sees every exit before it is served
        self._sink = sink
        self._stop: Stop | None = None
        self.uart = Uart(self._print)
        self.uart.feed(input)
        standard: tuple[Device, ...] = (self.uart, DebugExit(self._debug_exit), PostCode())
        for device in (*standard, *devices):
            self.ports.attach(device)

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

    # ---- the run loop ----

    def run(self, timeout: float | None = None) -> Stop:
        """Runs the vCPU until the guest stops, `timeout` seconds pass, or `stop` is called from another thread.

        Ctrl-C comes out as KeyboardInterrupt; the machine is whole then, and may be run again.
        """
        self._clear()
        self.vcpu.claim()
        run, ports, mmio = self.vcpu.run, self.ports, self.mmio
        record = self.history.append if self.on_exit is None else self._record
        with Watch(self.vcpu.kick, timeout) as watch:
            while self._stop is None:
                exit = run()
                record(exit)
                match exit:
                    case PortOut():
                        ports.write_from(exit.port, exit.size, exit.data)
                    case PortIn():
                        ports.read_into(exit.port, exit.size, exit.buffer)
                    case MmioWrite():
                        mmio.write_from(exit.address, exit.size, exit.data)
                    case MmioRead():
                        mmio.read_into(exit.address, exit.size, exit.buffer)
                    case Halted():
                        return Stop("halted", 0, exit)
                    case Interrupted():
                        self.history.pop()  # a kick is ours, not the guest's
                        if watch.expired:
                            return Stop("timeout", TIMED_OUT, exit)
                    case SystemEvent(kind=1 | 2):
                        return Stop("halted", 0, exit)
                    case _:
                        return self._died(exit)
        return self._stop

    def _clear(self) -> None:
        self._stop = None

    def stop(self) -> None:
        """Ends the run in progress, from any thread or from a device."""
        self._stop = Stop("asked", 0)
        self.vcpu.kick()

    def _record(self, exit: Exit) -> None:
        self.history.append(exit)
        if self.on_exit is not None:
            self.on_exit(exit)

    def _debug_exit(self, code: int) -> None:
        self._stop = Stop("debug-exit", code)

    def _died(self, exit: Exit) -> Stop:
        from minivmm.debug import explain  # only now: a disassembler and tables that a healthy guest never needs

        return Stop("died", DIED, exit, explain(self.vcpu, self.memory, exit, self.history))

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
