"""The bench of lab 07: a guest whose clock moves only when it works, and timers to go with it.

    clock = WorkClock()
    guest = TimedGuest("tick-sleeper", clock, nonce=7)
    ioctl(guest.fd, KVM_RUN)
    guest.serve(guest.page)                     # the exit that is in the page
    guest.console                               # what it has printed

Nothing here looks at the host's time: a guest does the same on a fast machine and on a slow one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from minivmm import guests
from minivmm.bus import Device
from minivmm.devices.window import Window
from minivmm.devices.work_clock import WorkClock
from minivmm.exits import InterruptWindow, MmioRead, MmioWrite, PortIn, PortOut, decode
from minivmm.kvm import KVM_EXIT_HLT, KVM_RUN, ioctl
from minivmm.kvm.run_page import RunPage
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine

__all__ = ["ApicPage", "PitPorts", "Ticks", "TimedGuest", "WorkClock", "play"]

PAUSE = 0xE4
EXITS_KEPT = 200


class TimedGuest:
    """A reference guest in a machine of 1 MiB, which nobody has run yet.

    `fd` and `page` are its vCPU's handle and kvm_run page, `clock` the clock that its work moves. `later` holds writes
    to its memory, (GPA, bytes), that happen one by one, each when the guest writes to port 0xE4.
    """

    def __init__(
        self,
        name: str,
        clock: WorkClock | None = None,
        *,
        devices: Iterable[Device] = (),
        memory_mapped: Iterable[Device] = (),
        backend: Backend | None = None,
        **parameters: int,
    ) -> None:
        self.clock = clock or WorkClock()
        self.later: deque[tuple[int, bytes]] = deque()
        pause = Window("pause", range(PAUSE, PAUSE + 1), lambda offset, size: 0xFF, self._pause)
        self.machine = Machine(backend=backend, devices=[self.clock, pause, *devices])
        for device in memory_mapped:
            self.machine.mmio.attach(device)
        self.machine.load_guest(guests.load(name), **parameters)
        self.fd = self.machine.vcpu.fd
        self.page = self.machine.vcpu.run_page
        self.exits: deque[str] = deque(maxlen=EXITS_KEPT)
        self.halted = False

    @property
    def console(self) -> str:
        """What the guest has printed."""
        return self.machine.console.decode("ascii", "backslashreplace")

    def write(self, gpa: int, data: bytes) -> None:
        """Writes to the guest's memory, at once."""
        self.machine.memory.write(gpa, data)

    def write_later(self, gpa: int, data: bytes) -> None:
        """Writes to the guest's memory when the guest next pauses, behind the writes that wait already.

        A copy is no single step: eight bytes are written at each pause.
        """
        self.later.extend((gpa + at, bytes(data[at : at + 8])) for at in range(0, len(data), 8))

    def serve(self, page: RunPage) -> None:
        """Serves the exit in the page: a port, or memory-mapped registers. An open interrupt window needs nothing.

        Raises RuntimeError, with the exit, for any other: then the guest has died.
        """
        exit = decode(page)
        self.exits.append(str(exit))
        match exit:
            case PortOut():
                self.machine.ports.write_from(exit.port, exit.size, exit.data)
            case PortIn():
                self.machine.ports.read_into(exit.port, exit.size, exit.buffer)
            case MmioWrite():
                self.machine.mmio.write_from(exit.address, exit.size, exit.data)
            case MmioRead():
                self.machine.mmio.read_into(exit.address, exit.size, exit.buffer)
            case InterruptWindow():
                pass
            case _:
                raise RuntimeError(f"`serve` got an exit that is no device's: {exit}")

    def _pause(self, offset: int, size: int, value: int) -> None:
        if self.later:
            self.write(*self.later.popleft())


def play(guest: TimedGuest) -> str:
    """Runs a guest that never sleeps to its HLT. Returns what it has printed."""
    while True:
        ioctl(guest.fd, KVM_RUN)
        if guest.page.exit_reason == KVM_EXIT_HLT:
            return guest.console
        guest.serve(guest.page)


class Timer(Protocol):
    """What drives a guest by interrupts. `next` is the tick when it fires, None for never; `fire` gives the vector."""

    @property
    def next(self) -> int | None: ...
    def fire(self) -> int: ...


class Ticks:
    """A timer that fires at given ticks, in order. `fired` counts."""

    def __init__(self, due: Iterable[int], vector: int = 8) -> None:
        self.due = deque(due)
        self.vector = vector
        self.fired = 0

    @property
    def next(self) -> int | None:
        return self.due[0] if self.due else None

    def fire(self) -> int:
        self.due.popleft()
        self.fired += 1
        return self.vector


class PitPorts:
    """Ports 0x40 and 0x43 of an 8254, for one counter with `control(word)`, `write(byte)` and `read()`."""

    name = "8254 counter 0"
    claim = range(0x40, 0x44)

    def __init__(self, counter: Any) -> None:
        self.counter = counter

    def read(self, offset: int, size: int) -> int:
        return int(self.counter.read()) if offset == 0 else 0xFF

    def write(self, offset: int, size: int, value: int) -> None:
        if offset == 3:
            self.counter.control(value)
        elif offset == 0:
            self.counter.write(value)

    def save(self) -> dict[str, Any]:
        return {}

    def load(self, state: dict[str, Any]) -> None:
        pass


class ApicPage:
    """The registers of a local APIC's timer, and the timer: `count(initial, divide, entry, elapsed)` says what the
    current count is and how many interrupts came. Interrupts that nobody took are one (SDM vol. 3, "IRR")."""

    name = "local APIC"
    claim = range(0xFEE0_0000, 0xFEE0_1000)
    ENTRY, INITIAL, CURRENT, DIVIDE = 0x320, 0x380, 0x390, 0x3E0

    def __init__(self, clock: WorkClock, count: Callable[[int, int, int, int], tuple[int, int]]) -> None:
        self.registers = {self.ENTRY: 1 << 16, self.INITIAL: 0, self.DIVIDE: 0}  # as after RESET
        self._clock = clock
        self._count = count
        self._start = self._taken = 0

    def _now(self) -> tuple[int, int]:
        initial, divide, entry = (self.registers[at] for at in (self.INITIAL, self.DIVIDE, self.ENTRY))
        return self._count(initial, divide, entry, self._clock.now - self._start)

    @property
    def next(self) -> int | None:
        """The present, if an interrupt waits."""
        return self._clock.now if self._now()[1] > self._taken else None

    def fire(self) -> int:
        self._taken = self._now()[1]
        return self.registers[self.ENTRY] & 0xFF

    def read(self, offset: int, size: int) -> int:
        return self._now()[0] if offset == self.CURRENT else self.registers.get(offset, 0)

    def write(self, offset: int, size: int, value: int) -> None:
        if offset in self.registers:
            self.registers[offset] = value
        if offset == self.INITIAL:
            self._start, self._taken = self._clock.now, 0

    def save(self) -> dict[str, Any]:
        return {}

    def load(self, state: dict[str, Any]) -> None:
        pass
