"""Lab 00's stack machine, done right, and done wrong in the classic ways: so that a judge can name the mistake.

`mistake` is the key of a hint. What a student's code did is compared with the right run; where it differs, with the
run of each mistake, and the one that explains it gives the hint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from autograder import judge
from autograder.model import OK, Finding
from autograder.odd import describe

Program = Sequence[tuple[str, int]]
NEEDS = {"PUSH": 0, "DUP": 1, "ADD": 2, "SUB": 2}


def compute(op: str, argument: int, stack: list[int], mistake: str = "") -> str:
    """The four instructions of task 00.1."""
    if op not in NEEDS:
        return "unknown"
    if len(stack) < NEEDS[op]:
        if mistake == "half-done":
            del stack[:]
        return "underflow"
    word = argument if op == "PUSH" else stack[-1]
    if op in ("ADD", "SUB"):
        top, below = stack.pop(), stack.pop()
        word = below + top if op == "ADD" else top - below if mistake == "order" else below - top
    if mistake == "signed":
        word = min(word, 0xFFFF)
    if mistake == "clipped":
        word = min(max(word, 0), 0xFFFF)
    stack.append(word if mistake in ("wrap", "signed") else word % 0xFFFF if mistake == "modulus" else word % 0x10000)
    return ""


def until_exit(
    program: Program, state: dict[str, Any], alu: Callable[[str, int, list[int]], str], mistake: str = ""
) -> tuple[str, Any]:
    """The loop of task 00.2. `state` has "pc" and "stack"."""
    stack = state["stack"]
    for _ in range(10_000):
        if state["pc"] >= len(program):
            break
        op, argument = program[state["pc"]]
        state["pc"] += 1
        if op in ("HALT", "IN", "OUT"):
            state["pc"] -= mistake == "stuck"
            if mistake == "out-pops" and op == "OUT" and stack:
                return op, stack.pop()
            return op, argument
        if op == "JNZ":
            word = stack[-1] if mistake == "jnz-keeps" else stack.pop()
            if bool(word) != (mistake == "jnz-sense"):
                state["pc"] = argument + (state["pc"] if mistake == "relative" else 0)
        elif (why := alu(op, argument, stack)) and mistake != "ignored":
            state["pc"] -= mistake != "past-culprit"
            return "TRAP", "" if mistake == "why" else why
    return "TRAP", "no instruction"


def trace(inputs: dict[str, Any], mistake: str = "") -> list[str]:
    """What the driver `exits_of` sees, line by line."""
    words = iter(inputs["words"])
    state: dict[str, Any] = {"pc": 0, "stack": []}
    seen: list[str] = []

    def alu(op: str, argument: int, stack: list[int]) -> str:
        if op in inputs["faults"]:
            return str(inputs["faults"][op])
        stack.append(next(words, 0) if op == "NEXT" else argument)
        return ""

    while len(seen) < inputs["limit"]:
        what, detail = until_exit(inputs["program"], state, alu, mistake)
        seen.append(f"{what} {detail}, pc {state['pc']}, stack {state['stack']}")
        if what == "IN":
            state["stack"].append(inputs["answer"])
        elif what == "OUT" and state["stack"]:
            state["stack"].pop()
        elif what != "OUT":
            break
    return seen


def run(program: Program, typed: bytes) -> tuple[tuple[str, Any], bytes]:
    """The whole machine of task 00.4."""
    state: dict[str, Any] = {"pc": 0, "stack": []}
    keys, printed = iter(typed), bytearray()
    while True:
        what, detail = until_exit(program, state, compute)
        if what == "OUT":
            printed.append(state["stack"].pop() & 0xFF)
        elif what == "IN":
            state["stack"].append(next(keys, 0))
        else:
            return (what, detail), bytes(printed)


def serve(inputs: dict[str, Any], mistake: str = "") -> tuple[Any, list[str], list[int], int]:
    """The monitor of task 00.3: its result, the devices' log, the stack, and how many exits it took."""
    script, log, stack = iter(inputs["script"]), [], list(inputs["stack"])
    devices = {number: iter(answers) for number, answers in inputs["devices"]}
    for calls in range(1, inputs["budget"] + 1):
        what, detail, word = next(script, inputs["then"])
        if what == "OUT":
            if detail in devices:
                log.append(f"port {detail} was written {word}")
            if mistake == "word-stays" or (mistake == "lost-word" and detail not in devices):
                stack.append(word)
        elif what == "IN":
            nobody = 0 if mistake == "zero" else 0xFF if mistake == "narrow" else 0xFFFF
            if detail in devices:
                log.append(f"port {detail} was read")
                answer = next(devices[detail], 0)
                if mistake != "no-answer":
                    stack.append(answer)
            elif mistake != "no-word":
                stack.append(nobody)
        else:
            return (what, detail), log, stack, calls
    return ("BUDGET", inputs["budget"]), log, stack, inputs["budget"]


def amount(value: object) -> str:
    """What came where two values were wanted, in words."""
    return f"{len(value)} values" if isinstance(value, list) else describe(value)


def named(actual: object, mistakes: Iterable[str], wrong: Callable[[str], object]) -> str:
    """The first of `mistakes` whose wrong run is what was seen; "" where none explains it."""
    return next((mistake for mistake in mistakes if judge.same_value(wrong(mistake), actual).ok), "")


def same_or_named(
    expected: object, actual: object, what: str, mistakes: Iterable[str], wrong: Callable[[str], object]
) -> Finding:
    """Equal values, or the difference with the hint of the mistake that explains it."""
    if judge.same_value(expected, actual).ok:
        return OK
    return judge.same_value(expected, actual, what, named(actual, mistakes, wrong))
