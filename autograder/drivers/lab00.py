"""Drivers of lab 00: the toy machine's parts with scripted neighbours, and guests in the student's hands."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from autograder.drivers.base import Student, recording

PATIENCE = 1000  # calls beyond what a case needs, before a student's loop is called endless


@dataclass
class Cpu:
    """The same three fields as the notebook's."""

    program: list[tuple[str, int]]
    pc: int = 0
    stack: list[int] = field(default_factory=list)


Instruction = namedtuple("Instruction", "name reads writes traps")  # as in the notebook


class EndlessError(RuntimeError):
    """A scripted neighbour was called so often that nobody would wait any longer."""


def compute_once(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """One instruction on a stack."""
    stack = list(inputs["stack"])
    value = student.target(inputs["op"], inputs["argument"], stack)
    return {"value": value, "stack": stack}


def exits_of(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """Runs the loop to its end; this driver is the VMM. The arithmetic unit is a strange one, so that the loop can't
    rely on what an instruction means: NEXT pushes the next of `words`, a name in `faults` fails, all else pushes its
    argument."""
    words, faults = iter(inputs["words"]), inputs["faults"]
    cpu = Cpu([(op, argument) for op, argument in inputs["program"]])
    calls = 0

    def compute(op: str, argument: int, stack: list[int]) -> str:
        nonlocal calls
        calls += 1
        if calls > PATIENCE:
            raise EndlessError(f"`compute` was called {PATIENCE} times; the program is much shorter")
        if op in faults:
            return str(faults[op])
        stack.append(next(words, 0) if op == "NEXT" else argument)
        return ""

    seen: list[str] = []
    while len(seen) < inputs["limit"]:
        what, detail = student.target(cpu, compute)
        seen.append(f"{what} {detail}, pc {cpu.pc}, stack {cpu.stack}")
        if what == "OUT":
            del cpu.stack[-1:]  # a loop that got lost may come here with an empty stack
        elif what == "IN":
            cpu.stack.append(inputs["answer"])
        else:
            break
    return {"seen": seen}


def served(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """The monitor over a CPU that only replays a script of exits, and devices that write down who called."""
    cpu = Cpu([], stack=list(inputs["stack"]))
    script = iter(inputs["script"])
    log: list[str] = []
    calls = 0

    def run(cpu: Cpu) -> tuple[str, Any]:
        nonlocal calls
        calls += 1
        if calls > inputs["budget"] + PATIENCE:
            raise EndlessError(f"`run` was called {PATIENCE} times more than the budget allows")
        what, detail, word = next(script, inputs["then"])
        if what == "OUT":
            cpu.stack.append(word)
        return what, detail

    ports = {number: scripted_device(number, answers, log) for number, answers in inputs["devices"]}
    value = student.target(cpu, run, ports, inputs["budget"])
    return {"value": value, "log": log, "stack": cpu.stack, "calls": calls}


def scripted_device(number: int, answers: list[int], log: list[str]) -> SimpleNamespace:
    left = iter(answers)

    def write(word: object) -> None:
        log.append(f"port {number} was written {word}")

    def read() -> int:
        log.append(f"port {number} was read")
        return next(left, 0)

    return SimpleNamespace(read=read, write=write)


def whole(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """All parts of the student's together."""
    program = [(op, argument) for op, argument in inputs["program"]]
    return {"value": student.target(program, inputs["typed"])}


def turns_taken(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """Guests that are names, each with a number of turns to live."""
    left = dict(inputs["guests"])
    order: list[str] = []

    def serve(guest: str) -> bool:
        order.append(guest)
        if len(order) > PATIENCE:
            raise EndlessError(f"`serve` was called {PATIENCE} times; the guests had ended long before")
        left[guest] -= 1
        return bool(left[guest] > 0)

    value = student.target([name for name, _ in inputs["guests"]], serve)
    return {"value": value, "order": order}


def holes_found(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    return {"value": student.target([Instruction(*row) for row in inputs["rows"]])}


def host_read(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    return {"value": student.target(inputs["cpuinfo"], inputs["has_device"])}


def guest_run(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    return with_kvm(lambda: student.target(inputs["image"], inputs["typed"], inputs["patience"]))


def guest_ended(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    return with_kvm(lambda: student.target(inputs["image"], inputs["mode"], inputs["patience"]))


def with_kvm(call: Callable[[], Any]) -> dict[str, Any]:
    """The call's value, with the exits that the guest really made."""
    with recording() as recorder:
        value = call()
    return {"value": value, "exits": recorder.exits}
