"""The guest that is driven by keys, and the student's keyboard. Sandbox side: no answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from autograder.drivers.base import Student
from autograder.drivers.lab06_bench import Bench, Observed, a_bench
from autograder.drivers.lab06_parts import Parts

DATA, STATUS, KEYBOARD_IRQ = 0x60, 0x64, 1
SCREEN = range(0xB8000, 0xB8000 + 80 * 25 * 2)

ReadKey = Callable[[bytearray, int, Callable[[Any], None]], Any]


class Desk:
    """A bench with a keyboard: `read` serves its two ports, `type` adds scan codes."""

    def __init__(self, bench: Bench, read: ReadKey) -> None:
        self.bench = bench
        self.waiting = bytearray()
        self.read = read
        for port in (DATA, STATUS):
            bench.add(f"keyboard at {port:#x}", range(port, port + 1), self._reader(port))

    def _reader(self, port: int) -> Any:
        return lambda offset, size: self.read(self.waiting, port, self.irq1)

    def irq1(self, level: Any) -> None:
        self.bench.line(KEYBOARD_IRQ, level)

    def type(self, codes: bytes) -> None:
        self.waiting += codes
        self.irq1(True)

    def look(self) -> Observed:
        screen = self.bench.vm.memory.read(SCREEN.start, len(SCREEN))
        return {"screen": bytes(screen[::2]), "left": len(self.waiting)}


def read_key(waiting: bytearray, port: int, irq1: Callable[[Any], None]) -> int:
    """The library's way with a keyboard, in small."""
    if port == STATUS:
        return int(bool(waiting))
    code = waiting.pop(0) if waiting else 0
    irq1(False)
    if waiting:
        irq1(True)
    return code


def reads_by_hand(student: Student, waiting: bytearray, ports: list[int]) -> Iterator[list[Any]]:
    """What the keyboard answers, how many bytes wait behind it, and how it moved its line, for a read of each port."""
    for port in ports:
        moves: list[bool] = []
        answer = student.target(waiting, port, lambda up, moves=moves: moves.append(bool(up)))
        yield [answer, len(waiting), moves[:8]]


def etch_a_sketch(student: Student, inputs: Observed) -> Observed:
    """The student's keyboard at our bench: each burst of keys comes when the guest sleeps. Or, where `waiting` is
    given, by hand."""
    if "waiting" in inputs:
        return {"reads": [*reads_by_hand(student, bytearray(inputs["waiting"]), inputs["ports"])]}
    with a_bench(Parts(), inputs) as bench:
        desk = Desk(bench, student.target)
        seen = bench.run(bench.offer)
        for codes in inputs["bursts"]:
            if seen["stop"] != "asleep":
                break
            bench.end = None
            desk.type(codes)
            seen = bench.run(bench.offer)
        return {**seen, **desk.look()}
