"""The bench of lab 05: devices to attach, and a guest whose exits the student's parts serve.

    card = Registers("card", range(0x500, 0x508), width=1)
    bench = Bench(globals(), "bus-prober", ports=[card], nonce=7)
    bench.play()                                # to the guest's HLT
    bench.console, bench.exits, bench.samples   # what it printed; exits by name; (kind, place, ns) of each

The first argument are the student's parts, by name: the class `Bus`, `attach`, `serve_port`, `serve_mmio`, and for
`work` the run loop `work`. They are looked up when they are needed, so a cell may be run again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from minivmm import guests
from minivmm.boot.image import load_image
from minivmm.exits import Exit, Halted, Interrupted, MmioRead, MmioWrite, PortIn, PortOut
from minivmm.kvm.seam import Backend
from minivmm.lab05_devices import Mixer, Registers, Tape, face
from minivmm.lab05_ring import Ring, empty_ring
from minivmm.vm import Vm
from minivmm.watch import Watch

__all__ = ["Bench", "Mixer", "Registers", "Tape", "empty_ring", "time_of"]

CONSOLE = 0x3F8
SECONDS = 5.0  # for a guest to come to its end
TRACED = 10_000  # exits


class Bench:
    """One vCPU, 1 MiB of RAM at 0 in `memory`, a console at port 0x3F8, and devices on two buses of the student's.

    `zones`, ranges of guest-physical addresses, and `port_zones` hold writes that may wait in the ring; the host's KVM
    fills it, or the bench, where KVM can't or `native` is false. `trace` has the exits, in order, up to the 10 000th. A
    guest that doesn't come to its end within 5 s raises TimeoutError.
    """

    def __init__(
        self,
        parts: Mapping[str, Any],
        guest: str,
        *,
        ports: Iterable[Any] = (),
        mmio: Iterable[Any] = (),
        zones: Iterable[range] = (),
        port_zones: Iterable[range] = (),
        backend: Backend | None = None,
        native: bool = True,
        **parameters: int,
    ) -> None:
        self.parts = parts
        self.vm = Vm(backend)
        self.vm.prepare_for_vtx()
        self.vm.memory.add(0, 1 << 20)
        self.memory = self.vm.memory.slots[0].data
        self.vcpu = self.vm.create_vcpu()
        self.vm.show_supported_cpuid(self.vcpu)
        self.page = self.vcpu.run_page
        self.coalescing = Ring(self.vm, self.page, zones, port_zones, native)
        self.ring = self.coalescing.c
        self.exits: Counter[str] = Counter()
        self.trace: list[Any] = []
        self.samples: list[tuple[str, str, int]] = []
        self._printed = bytearray()
        self._last: tuple[str, str, int] | None = None
        self._watch: Watch | None = None
        self.ports, self.mmio = parts["Bus"](), parts["Bus"]()
        console = face("console", range(CONSOLE, CONSOLE + 1), lambda *_: 0xFF, self._print, width=1)
        for bus, devices in ((self.ports, (console, *ports)), (self.mmio, mmio)):
            for device in devices:
                parts["attach"](bus, device)
        loaded = guests.load(guest)
        load_image(self.vcpu, self.vm.memory, loaded.patched(**parameters), **loaded.placement)

    @property
    def console(self) -> str:
        """What the guest has printed."""
        return self._printed.decode("ascii", "backslashreplace")

    def _print(self, offset: int, size: int, value: int) -> None:
        self._printed.append(value & 0xFF)

    # ---- running ----

    def go(self) -> None:
        """Runs the guest until its next exit that nobody else serves, and leaves that in the page."""
        now = time.perf_counter_ns()
        if self._last is not None:
            kind, place, left = self._last
            self.samples.append((kind, place, now - left))
        if self._watch is None:  # by hand, outside of `play` and `work`
            with self._watched():
                exit = self._next()
        else:
            exit = self._next()
        left = time.perf_counter_ns()
        self._last = None if isinstance(exit, Halted) else (*_kind_and_place(exit), left)
        self.exits[exit.name] += 1
        if len(self.trace) < TRACED and not isinstance(exit, Halted):
            self.trace.append(exit)
        self.exit = exit

    def _next(self) -> Exit:
        exit = self.vcpu.run()
        while isinstance(exit, Interrupted) or self.coalescing.takes(exit):
            if self._watch is not None and self._watch.expired:
                raise TimeoutError(f"the guest did not come to its end within {SECONDS:g} s")
            exit = self.vcpu.run()
        return exit

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """One watch for a whole run: a thread for each exit would cost more than the exit."""
        with Watch(self.vcpu.kick, SECONDS) as self._watch:
            try:
                yield
            finally:
                self._watch = None

    def play(self) -> str:
        """Runs the guest to its HLT. Its exits go to `serve_port` and `serve_mmio`. Returns what it has printed."""
        with self._watched():
            while True:
                self.go()
                match self.exit:
                    case PortIn() | PortOut():
                        self.parts["serve_port"](self.ports, self.page)
                    case MmioRead() | MmioWrite():
                        self.parts["serve_mmio"](self.mmio, self.page)
                    case Halted():
                        return self.console
                    case _:
                        raise RuntimeError(f"the guest died: {self.exit}")

    def work(self) -> str:
        """The same in the student's own loop, `work`."""
        with self._watched():
            self.parts["work"](self.go, self.page, self.ring, self.ports, self.mmio)
        return self.console


def _kind_and_place(exit: Exit) -> tuple[str, str]:
    match exit:
        case PortOut() | PortIn():
            return "out" if isinstance(exit, PortOut) else "in", f"port {exit.port:#x}"
        case MmioWrite() | MmioRead():
            return "write" if isinstance(exit, MmioWrite) else "read", f"address {exit.address:#x}"
        case _:
            return exit.name, ""


def time_of(run: Callable[[], object]) -> int:
    """How long `run()` takes, in ns."""
    start = time.perf_counter_ns()
    run()
    return time.perf_counter_ns() - start
