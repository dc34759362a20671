"""What the drivers of lab 04 share: a machine whose guest runs on page tables that somebody else has made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autograder.drivers.machines import run_to_end
from minivmm import guests
from minivmm.machine import Machine
from minivmm.memory import GuestMemory, GuestMemoryError

Observed = dict[str, Any]

PAGE = 4096
RAM = 8 << 20
SECONDS = 8.0  # for one guest; it needs some milliseconds, but the machine may be busy, or emulated
CONSOLE, EXITS = 8192, 100  # bytes and lines that go back
WP, NXE = 1 << 16, 1 << 11
MOST = 4096  # items of a list that goes back


def plant(machine: Machine, inputs: Observed, base: int = 0) -> None:
    """Writes the case's bytes to memory."""
    for gpa, data in inputs.get("plant", ()):
        machine.memory.write(base + gpa, data)


def start(machine: Machine, inputs: Observed, cr3: int, base: int = 0) -> None:
    """Loads the guest and lets it begin on the tables at `cr3`, with CR0.WP and EFER.NXE set."""
    guest = guests.load(inputs["guest"])
    machine.load_guest(guest, **inputs["parameters"])
    if base:
        for page in (guest.load, 0x7F000):  # the image and the GDT, where the guest's own memory begins
            machine.memory.write(base + page, machine.memory.read(page, PAGE))
    sregs = machine.vcpu.get_sregs()
    sregs.cr3 = cr3
    sregs.cr0 |= WP
    sregs.efer |= NXE
    machine.vcpu.set_sregs(sregs)


def run(machine: Machine) -> Observed:
    """Runs the guest and tells its console, its end, and its exits but for those that print."""
    return run_to_end(machine, SECONDS, CONSOLE, EXITS)


class Entries:
    """Page-table entries in guest memory, for the student: `read(place)` and `write(place, entry)`, 8 bytes each.

    `outside` are the places that were written outside the range of the tables.
    """

    def __init__(self, memory: GuestMemory, tables: range, base: int = 0) -> None:
        self._memory = memory
        self._tables = tables
        self._base = base
        self.outside: list[int] = []

    def read(self, place: int) -> int:
        try:
            return self._memory.read_int(self._base + place, 8)
        except GuestMemoryError:
            return (1 << 64) - 1  # nobody is at home: all ones

    def write(self, place: int, entry: int) -> None:
        if place not in self._tables or place % 8:
            self.outside.append(place)
            del self.outside[8:]
            return
        if not 0 <= entry < 1 << 64:
            raise ValueError(f"an entry has 64 bits; {entry:#x} has not")
        self._memory.write_int(self._base + place, 8, entry)


def pool(pages: list[int], what: str) -> Callable[[], int]:
    """A function that hands out these pages, one a call. Raises RuntimeError when they are used up."""
    left = list(pages)

    def take() -> int:
        if not left:
            raise RuntimeError(f"{what} was called more than {len(pages)} times")
        return left.pop(0)

    return take


def plain(value: Any) -> Any:
    """Tuples as lists, as far as they are short."""
    return [plain(each) for each in value][:MOST] if isinstance(value, (tuple, list)) else value
