"""Drivers of lab 04, tasks 8 and 9: a guest on shadow tables. Sandbox side: no answers.

The guest's physical memory begins at `base` of the machine's; what the guest believes to be its page tables the
processor never sees. Its table pages lie in a read-only slot, so each write to them is an MMIO exit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from autograder.drivers.base import Student, attempt
from autograder.drivers.lab04_machine import MOST, PAGE, Observed, run, start
from autograder.drivers.machines import Served, a_machine
from minivmm.kvm import anonymous_memory, struct
from minivmm.kvm.run_page import RunPage
from minivmm.machine import Machine

LOW = 1 << 20  # our own memory, out of the guest's sight: here lie the shadow tables
POOL = range(0x90000, 0xF0000, PAGE)
FLAGS = 0x8000_0000_0000_0006  # W, U, NX


class ShadowTables:
    """Page tables in the machine's own memory, made anew by `clear` and `map`. `maps` is what was mapped, in order."""

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self.root = POOL.start
        self.clear()

    def clear(self) -> None:
        self._memory[POOL.start : POOL.stop] = bytes(POOL.stop - POOL.start)
        self._free = iter(POOL[1:])
        self._tables: dict[tuple[int, int], int] = {}
        self.maps: list[list[int]] = []

    def map(self, va: int, pa: int, rights: int) -> None:
        """Maps one page of 4 KiB."""
        if len(self.maps) < MOST:
            self.maps.append([va, pa, rights])
        table = self.root
        for shift in (39, 30, 21):
            key = (shift, va >> shift)
            if key not in self._tables:
                page = next(self._free, 0)
                if not page:
                    raise RuntimeError("map was called for too many places: the shadow tables are full")
                self._tables[key] = page
                self._store(table, va >> shift, page | 7)
            table = self._tables[key]
        self._store(table, va >> 12, (pa | 1 | rights & FLAGS) & (1 << 64) - 1)

    def _store(self, table: int, index: int, entry: int) -> None:
        place = table + 8 * (index & 511)
        self._memory[place : place + 8] = entry.to_bytes(8, "little")


@contextmanager
def a_guest(inputs: Observed) -> Iterator[tuple[Machine, memoryview, ShadowTables]]:
    """A machine, the guest's RAM in it from `base` on, and the shadow tables that it will run on."""
    base, size, (first, last) = inputs["base"], inputs["ram"], inputs["tables"]
    ram = memoryview(anonymous_memory(size)).cast("B")
    with a_machine(LOW) as machine:
        for start_, end, read_only in ((0, first, False), (first, last, inputs["protect"]), (last, size, False)):
            machine.memory.add(base + start_, end - start_, backing=ram[start_:end], read_only=read_only)
        machine.memory.add(base + size, 16 * PAGE, name="the neighbour")
        machine.memory.write(base + size, inputs["secret"] * (16 * PAGE // len(inputs["secret"])))
        for gpa, data in inputs["plant"]:
            ram[gpa : gpa + len(data)] = data
        yield machine, ram, ShadowTables(machine.memory.view(0, LOW))


def reading(ram: memoryview) -> Callable[[int], int]:
    """`read` for the guest's own tables: an entry at a guest-physical address."""
    return lambda place: int.from_bytes(ram[place : place + 8], "little")


def shadow_built(student: Student, inputs: Observed) -> Observed:
    """The student builds the shadow once; then the guest runs on it."""
    with a_guest(inputs) as (machine, ram, shadow):
        student.target(reading(ram), inputs["cr3"], inputs["base"], inputs["ram"], shadow.map)
        start(machine, inputs, shadow.root, inputs["base"])
        seen = run(machine)
        found = [bytes(ram[gpa : gpa + 4]) for gpa in inputs["look"]]
        return {**seen, "maps": shadow.maps, "bytes": found}


def table_writes(student: Student, inputs: Observed) -> Observed:
    """The guest edits its tables; each edit comes to the student, who has the shadow rebuilt."""
    build = student.get("build_shadow")
    answers: list[list[Any]] = []
    with a_guest(inputs) as (machine, ram, shadow):

        def rebuild() -> None:
            shadow.clear()
            build(reading(ram), inputs["cr3"], inputs["base"], inputs["ram"], shadow.map)
            rebuilt.append(len(answers))

        def serve(page: RunPage) -> None:
            mmio = page.mmio
            told = [mmio.phys_addr, mmio.len, bool(mmio.is_write)]
            if len(answers) < MOST:
                said = student.target(page, ram, inputs["base"], rebuild)
                answers.append([*told, said, entry_at(ram, told[0] - inputs["base"])])
            if not mmio.is_write:
                page.mmio.data = [0xFF] * 8  # nobody else is there

        rebuilt: list[int] = []
        rebuild()
        machine.mmio = Served(machine, serve)  # type: ignore[assignment]
        start(machine, inputs, shadow.root, inputs["base"])
        seen = run(machine)
        first, last = inputs["tables"]
        guest_tables, rebuilds = bytes(ram[first:last]), rebuilt[1:]
        tried = [attempt(student.target, foreign(*each), ram, inputs["base"], rebuild) for each in inputs["others"]]
        others = [each.get("value", each.get("raised")) for each in tried]
        unharmed = guest_tables == bytes(ram[first:last]) and rebuilds == rebuilt[1:]
        return {
            **seen, "answers": answers, "rebuilt": rebuilds, "guest_tables": guest_tables, "others": others,
            "unharmed": unharmed,
        }  # fmt: skip


def entry_at(ram: memoryview, at: int) -> int:
    """The whole entry that the byte at `at` is part of."""
    return int.from_bytes(ram[at & ~7 : (at & ~7) + 8], "little")


def foreign(address: int, is_write: int) -> SimpleNamespace:
    """An MMIO exit that some other device's address, or a read, has caused."""
    run = struct("kvm_run")
    run.mmio.phys_addr, run.mmio.len, run.mmio.is_write, run.mmio.data = address, 8, is_write, [0x55] * 8
    return SimpleNamespace(mmio=run.mmio, owner=run)
