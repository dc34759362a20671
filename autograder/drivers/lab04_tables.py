"""Drivers of lab 04, tasks 1 to 7: addresses, walks, builders, faults. Sandbox side: no answers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from autograder.drivers.base import Student
from autograder.drivers.lab04_machine import MOST, PAGE, RAM, Entries, Observed, plain, plant, pool, run, start
from autograder.drivers.machines import a_machine
from minivmm.devices.window import Window
from minivmm.machine import Machine

PAGER = 0xE4


def cut_addresses(student: Student, inputs: Observed) -> Observed:
    return {"value": [plain(student.target(va)) for va in inputs["addresses"]]}


def reader(inputs: Observed) -> tuple[Callable[[int], int], list[int]]:
    """`read` for tables that are only planted, no machine around them, and the list of the places it was asked for."""
    pages = dict(inputs["plant"])
    asked: list[int] = []

    def read(place: int) -> int:
        if len(asked) < MOST:
            asked.append(place)
        page, at = pages.get(place & ~0xFFF, b""), place & 0xFFF
        return int.from_bytes(page[at : at + 8], "little")

    return read, asked


def walk_tables(student: Student, inputs: Observed) -> Observed:
    read, _ = reader(inputs)
    return {"found": [plain(student.target(read, inputs["cr3"], va)) for va in inputs["addresses"]]}


def walk_beside_a_guest(student: Student, inputs: Observed) -> Observed:
    """far-writer has written through the tables; where does the student's walk find what it wrote?"""
    with a_machine(RAM) as machine:
        plant(machine, inputs)
        start(machine, inputs, inputs["cr3"])
        seen = run(machine)
        entries = Entries(machine.memory, range(0))
        found = [plain(student.target(entries.read, inputs["cr3"], va)) for va in inputs["addresses"]]
        return {**seen, "found": found, "bytes": [bytes_at(machine, place) for place in found]}


def walk_any_tables(student: Student, inputs: Observed) -> Observed:
    """With a guest where the case names one."""
    return (walk_beside_a_guest if "guest" in inputs else walk_tables)(student, inputs)


def bytes_at(machine: Machine, found: Any) -> bytes:
    """The four bytes where a walk ended, none where it ended nowhere."""
    try:
        return machine.memory.read(found[1], 4)
    except (TypeError, ValueError, IndexError, OverflowError):
        return b""


def judge_accesses(student: Student, inputs: Observed) -> Observed:
    return {"value": [student.target(list(entries), *how) for entries, how in inputs["accesses"]]}


def pages_built(student: Student, inputs: Observed) -> Observed:
    """The student maps all pages; then a guest runs on the tables that came of it."""
    tables = range(*inputs["tables"])
    with a_machine(RAM) as machine:
        plant(machine, inputs)
        entries = Entries(machine.memory, tables)
        new_table = pool(inputs["free"], "new_table")
        taken: list[int] = []

        def take() -> int:
            taken.append(new_table())
            return taken[-1]

        for va, pa, flags in inputs["pages"]:
            student.target(entries.read, entries.write, inputs["cr3"], va, pa, flags, take)
        seen: Observed = {"taken": taken, "outside": entries.outside}
        seen["built"] = machine.memory.read(tables.start, len(tables))
        start(machine, inputs, inputs["cr3"])
        seen |= run(machine)
        seen["bytes"] = [machine.memory.read(pa, 4) for pa in inputs["look"]]
        return seen


def bits_harvested(student: Student, inputs: Observed) -> Observed:
    """Rounds of page-user; after each the student collects accessed and dirty bits."""
    rounds = []
    with a_machine(RAM) as machine:
        plant(machine, inputs)
        entries = Entries(machine.memory, range(*inputs["tables"]))
        for parameters in inputs["rounds"]:
            start(machine, {**inputs, "parameters": parameters}, inputs["cr3"])
            seen = run(machine)
            before = [entries.read(place) for place in inputs["places"]]
            value = student.target(entries.read, entries.write, inputs["cr3"], list(inputs["addresses"]))
            after = [entries.read(place) for place in inputs["places"]]
            rounds.append({**seen, "value": plain(value), "before": before, "after": after})
    return {"rounds": rounds, "outside": entries.outside, "exits": rounds[-1]["exits"]}


class Pager(Window):
    """The host's side of pager.inc: hears three numbers of a fault, asks `serve`, answers 1 or 0."""

    def __init__(self, serve: Callable[[int, int], object]) -> None:
        super().__init__("pager", range(PAGER, PAGER + 4), self._answer, self._hear)
        self._serve = serve
        self._said: list[int] = []
        self.faults: list[list[Any]] = []

    def _hear(self, offset: int, size: int, value: int) -> None:
        self._said = [*self._said, value][-3:]

    def _answer(self, offset: int, size: int) -> int:
        low, high, code = self._said
        cr2 = low | high << 32
        answer = self._serve(cr2, code)
        if len(self.faults) < MOST:
            self.faults.append([cr2, code, answer])
        return 1 if answer else 0


def faults_served(student: Student, inputs: Observed) -> Observed:
    """demand-pager, whose page faults the student serves: from the heap, or (`copies`) by copying pages."""
    with a_machine(RAM) as machine:
        plant(machine, inputs)
        entries = Entries(machine.memory, range(*inputs["tables"]))
        read, write, cr3 = entries.read, entries.write, inputs["cr3"]
        new_page = pool(inputs["free"], "new_page")
        heap = range(*inputs["heap"])

        def new_copy(gpa: int) -> int:
            fresh = new_page()
            machine.memory.write(fresh, machine.memory.read(gpa & ~0xFFF, PAGE))
            return fresh

        def serve(cr2: int, code: int) -> object:
            if inputs["copies"]:
                return student.target(read, write, cr3, cr2, code, new_copy)
            return student.target(read, write, cr3, cr2, code, heap, new_page)

        pager = Pager(serve)
        machine.ports.attach(pager)
        start(machine, inputs, cr3)
        seen = run(machine)
        left = [machine.memory.read(gpa, PAGE) for gpa in inputs["look"]]
        faults = list(pager.faults)
        edges = [serve(at, 2) for at in (heap.start - 1, heap.stop) if inputs["edges"]]
        return {**seen, "faults": faults, "outside": entries.outside, "left": left, "edges": edges}


def pages_listed(student: Student, inputs: Observed) -> Observed:
    read, asked = reader(inputs)
    found = [plain(page) for page in islice(student.target(read, inputs["cr3"]), MOST)]
    return {"value": found, "asked": len(asked)}


def tables_listed(student: Student, inputs: Observed) -> Observed:
    read, _ = reader(inputs)
    return {"value": list(islice(student.target(read, inputs["cr3"]), MOST))}


def walk_in_32_bits(student: Student, inputs: Observed) -> Observed:
    pages = dict(inputs["plant"])

    def read(place: int) -> int:
        page, at = pages.get(place & ~0xFFF, b""), place & 0xFFF
        return int.from_bytes(page[at : at + 4], "little")

    return {"value": [student.target(read, inputs["cr3"], va) for va in inputs["addresses"]]}
