"""The guest that is driven by keys, and the student's parts that drive it. Sandbox side: no answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autograder.drivers.base import Student
from autograder.drivers.lab06_bench import MOST, SECONDS, Bench, Observed, a_bench
from autograder.drivers.lab06_parts import Parts, alone
from minivmm.exits import PortIn, PortOut
from minivmm.kvm import KvmError
from minivmm.watch import Watch

DATA, STATUS, KEYBOARD_IRQ = 0x60, 0x64, 1
SCREEN = range(0xB8000, 0xB8000 + 80 * 25 * 2)
ALL = ("set_line", "request", "acknowledge", "write", "intr", "inta")

ReadKey = Callable[[bytearray, int, Callable[[Any], None]], Any]


class EndlessError(Exception):
    """The student's loop enters the guest again and again, or the guest does not come out of it."""


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


def etch_a_sketch(student: Student, inputs: Observed) -> Observed:
    """The student's keyboard at our bench: each burst of keys comes when the guest sleeps. Or, where `waiting` is
    given, by hand: what each read gives, and how many bytes wait after it."""
    if "waiting" in inputs:
        waiting = bytearray(inputs["waiting"])
        return {"reads": [[student.target(waiting, port, lambda up: None), len(waiting)] for port in inputs["ports"]]}
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


def typed_guest(student: Student, inputs: Observed) -> Observed:
    """The student's run loop, called once for each burst of keys; what it offers is ours."""
    return typed(student.target, read_key, None, inputs)


def whole_machine(student: Student, inputs: Observed) -> Observed:
    """The same, and every part is the student's."""
    return typed(student.get("work"), student.target, Parts.of(student, *ALL), inputs)


def typed(work: Callable[..., Any], read: ReadKey, theirs: Parts | None, inputs: Observed) -> Observed:
    """Types burst after burst. `theirs`: the student's parts; where there are none, all parts but `work` are ours."""
    with a_bench(theirs or Parts(), inputs) as bench, Watch(bench.vcpu.kick, SECONDS * 2) as watch:
        desk = Desk(bench, read)
        if theirs is None:
            alone(work, offer=bench.offer)
        left, idle, misserved = MOST, 0, 0

        def go() -> None:
            nonlocal left, idle
            left -= 1
            idle += bench.idle_window
            if left < 0:
                raise EndlessError
            bench.last = bench.enter(watch)
            if watch.expired:
                raise EndlessError

        def serve(_: Any) -> None:
            nonlocal misserved
            misserved += not isinstance(bench.last, (PortIn, PortOut))
            bench.step(bench.last)

        answers: list[Any] = []
        ending: Observed = {}
        try:
            for codes in [b"", *inputs["bursts"]]:
                if codes:
                    desk.type(codes)
                answers.append(work(go, bench.vcpu.fd, bench.page, lambda: bool(bench.intr()), bench.inta, serve))
                if bench.end and bench.end["stop"] != "ended":  # such as a vector that no handler has
                    ending = bench.end
                    break
        except EndlessError:
            ending = bench.end or {"stop": "endless"}
        except KvmError as error:
            ending = {"stop": "died", "why": str(error)}
        except RuntimeError as error:
            ending = {"stop": "raised", "why": str(error)}
        report = bench.report() | {"stop": "returned"} | ending
        return {**report, **desk.look(), "answers": answers, "idle": idle, "misserved": misserved}
