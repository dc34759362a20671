"""What the drivers of lab 05 share: devices that are listened to, pages and rings made up. Sandbox side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from autograder.drivers.lab05_parts import Bus
from autograder.drivers.recorder import Recorder
from minivmm.kvm import ffi
from minivmm.kvm.run_page import RunPage
from minivmm.lab05 import Bench, Registers, Tape

Observed = dict[str, Any]

PAGE = 4096
MOST = 6000  # exits of one guest; none needs half of it
LOG = 3000  # cycles that go back
MOST_ITEMS = 1000  # of a list that goes back


class TooManyExitsError(RuntimeError):
    """The guest does not come to its end."""


class Listed(Registers):
    """Registers whose cycles go to a list that all devices share: [name, kind, offset, size, value]."""

    def __init__(self, log: list[Any], name: str, first: int, count: int, width: int, contents: bytes) -> None:
        super().__init__(name, range(first, first + count), width, contents)
        self._all = log

    def read(self, offset: int, size: int) -> int:
        value = super().read(offset, size)
        self._note("read", offset, size, value)
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        super().write(offset, size, value)
        self._note("write", offset, size, value)

    def _note(self, *cycle: Any) -> None:
        self.log.clear()
        if len(self._all) < LOG:
            self._all.append([self.name, *cycle])


class Items(Tape):
    """A tape of items, `width` bytes each: a read takes one off, however few of its bytes are asked for."""

    def read(self, offset: int, size: int) -> int:
        return super().read(offset, self.width) & (1 << 8 * size) - 1


def bus_of(devices: Iterable[Any]) -> tuple[Bus, list[Any]]:
    """A bus with these devices on it, in order, and the list of their cycles."""
    log: list[Any] = []
    return Bus(sorted((Listed(log, *each) for each in devices), key=lambda each: each.claim.start)), log


def a_page() -> RunPage:
    """A kvm_run page that no kernel fills."""
    return RunPage(ffi.from_buffer("struct kvm_run *", bytearray(3 * PAGE)), 3 * PAGE)


class Bounded(Bench):
    """A bench on which no guest runs for ever."""

    def go(self) -> None:
        if self.exits.total() >= MOST:
            raise TooManyExitsError(f"more than {MOST} exits, and the guest has not come to its end")
        super().go()


def on_the_bench(rec: Recorder, parts: Mapping[str, Any], inputs: Observed, **more: Any) -> Bounded:
    """The guest that the inputs name, with its parameters."""
    return Bounded(parts, inputs["guest"], backend=rec, **more, **inputs["parameters"])


class Claim:
    """A device that is nothing but a claim, and counts how often somebody looks at it."""

    looks = 0

    def __init__(self, name: str, first: int, count: int) -> None:
        self.name, self._claim = name, range(first, first + count)

    @property
    def claim(self) -> range:
        Claim.looks += 1
        return self._claim


def who(device: Any) -> Any:
    """[its name] for a device, so that a name by itself is none; anything else as it is."""
    return [device.name] if isinstance(device, Claim) else device


def as_lists(value: Any) -> Any:
    """A list or tuple, or an iterator of them, as it may cross the channel."""
    if isinstance(value, (list, tuple, Iterator)):
        return [as_lists(each) for each in islice(value, MOST_ITEMS)]
    return value
