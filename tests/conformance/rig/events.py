"""What a guest did, as plain values that a test can compare: one event for each exit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from minivmm import exits
from rig.layout import TRAP_PORT


@dataclass(frozen=True, repr=False)
class Event:
    """Anything that ended KVM_RUN. Printed in hex, as people think of ports and addresses."""

    def __repr__(self) -> str:
        values = (getattr(self, field.name) for field in fields(self))
        return f"{type(self).__name__}({', '.join(hex(v) if isinstance(v, int) else repr(v) for v in values)})"


@dataclass(frozen=True, repr=False)
class Out(Event):
    port: int
    size: int
    value: int


@dataclass(frozen=True, repr=False)
class In(Event):
    port: int
    size: int


@dataclass(frozen=True, repr=False)
class Store(Event):
    """A write to where no writable memory is (MMIO)."""

    gpa: int
    size: int
    value: int


@dataclass(frozen=True, repr=False)
class Load(Event):
    """A read from where no memory is (MMIO)."""

    gpa: int
    size: int


@dataclass(frozen=True, repr=False)
class Trapped(Event):
    """An exception or interrupt reached its stub (rig/stubs.py). `error` is the error code, or None."""

    vector: int
    error: int | None = None


@dataclass(frozen=True, repr=False)
class Ended(Event):
    """Another exit; most end a trace. `how` is its kernel name, `what` a number that tells more."""

    how: str
    what: int = 0


HLT = Ended("KVM_EXIT_HLT")
SHUTDOWN = Ended("KVM_EXIT_SHUTDOWN")
EMULATION_FAILED = Ended("KVM_EXIT_INTERNAL_ERROR", 1)


def events_of(exit: exits.Exit, answers: Iterator[int]) -> Iterator[Event]:
    """The events in one exit: string I/O may bring several items at once. Reads take their data from `answers`."""
    match exit:
        case exits.PortOut(port=port, size=size):
            for start in range(0, len(exit.data), size):
                yield Out(port, size, int.from_bytes(exit.data[start : start + size], "little"))
        case exits.PortIn(port=port, size=size):
            for start in range(0, len(exit.buffer), size):
                exit.buffer[start : start + size] = _answer(answers, size)
                yield In(port, size)
        case exits.MmioWrite():
            yield Store(exit.address, exit.size, int.from_bytes(exit.data, "little"))
        case exits.MmioRead(size=size):
            exit.buffer[:size] = _answer(answers, size)
            yield Load(exit.address, size)
        case exits.InternalError():
            yield Ended(exit.name, exit.suberror)
        case _:
            yield Ended(exit.name)


def _answer(answers: Iterator[int], size: int) -> bytes:
    ones = (1 << 8 * size) - 1
    return (next(answers, ones) & ones).to_bytes(size, "little")


def is_trap(exit: exits.Exit) -> bool:
    return isinstance(exit, exits.PortOut) and exit.port == TRAP_PORT
