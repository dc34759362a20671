"""Cases and judges of lab 00 for the stack machine: tasks 00.1 to 00.5."""

from __future__ import annotations

from typing import Any

from autograder import judge
from autograder.model import Case, Finding
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages import lab00_machine as machine
from autograder.stages.lab00_machine import amount

# ---- 00.1 compute ----


def sums(nonces: Nonces) -> list[Case]:
    """Words chosen so that some results wrap and some don't; a bystander lies below them on each stack."""
    cases = [
        arithmetic("PUSH", nonces.range("push", 0x100, 0x10000), [7]),
        arithmetic("DUP", 0, [9, nonces.range("dup", 256, 9999)]),
    ]
    for turn in range(3):
        small, large = nonces.range(f"small{turn}", 1, 0x4000), nonces.range(f"large{turn}", 0xC000, 0x10000)
        # Exactly 0x10000 comes first: it tells all wrong ways to wrap from each other.
        sums = ((large, 0x10000 - large), (large, 0x8000), (small, small + 5))
        cases += [arithmetic("ADD", 0, [7, *pair]) for pair in sums]
        cases += [arithmetic("SUB", 0, [7, *pair]) for pair in ((large, small), (small, small + 5))]
    return cases


def faults(nonces: Nonces) -> list[Case]:
    word = nonces.range("word", 1, 0x10000)
    odd = nonces.choice("odd", ("MUL", "DIV", "XOR", "NOP", "POP"))
    tries = [("ADD", [word]), ("SUB", []), ("DUP", []), (odd, [word, 3]), ("SUB", [word]), (odd, [])]
    return [arithmetic(op, 0, stack) for op, stack in tries]


def arithmetic(op: str, argument: int, stack: list[int]) -> Case:
    after = list(stack)
    why = machine.compute(op, argument, after)
    shown = f"{op} {argument}" if op == "PUSH" else op
    return Case({"op": op, "argument": argument, "stack": stack}, (why, after), f"{shown} on the stack {stack}")


def computed(case: Case, obs: Observation) -> Finding:
    def wrong(mistake: str) -> list[int]:
        stack = list(case.inputs["stack"])
        machine.compute(case.inputs["op"], case.inputs["argument"], stack, mistake)
        return stack

    why, after = case.expected
    value, stack = obs.raw(), obs.raw("stack")
    changed = "half-done" if why else ""
    seen = machine.same_or_named(
        after, stack, "the stack afterwards", ("order", "wrap", "modulus", "signed", "clipped"), wrong
    )
    if not seen.ok:
        return judge.fail(seen.message, seen.hint or changed)
    return judge.same_value(why, value, "what `compute` returned", "why" if not why else "which")


# ---- 00.2 run_cpu ----

LOOP_MISTAKES = ("stuck", "jnz-keeps", "jnz-sense", "past-culprit", "why", "ignored", "relative", "out-pops")


def loops(nonces: Nonces) -> list[Case]:
    out, into = nonces.range("out", 1, 99), nonces.range("in", 100, 199)
    word = nonces.range("word", 1, 0x10000)
    times = nonces.range("times", 2, 6)
    straight = [("PUSH", word), ("OUT", out), ("IN", into), ("OUT", out), ("HALT", 0)]
    loop = [
        ("PUSH", word),
        ("OUT", out),
        ("NEXT", 0),
        ("JNZ", 0),
        ("IN", into),
        ("NEXT", 0),
        ("JNZ", 8),
        ("HALT", 1),
        ("HALT", 0),
    ]
    forward = [("NEXT", 0), ("JNZ", 3), ("OUT", out), ("PUSH", word), ("HALT", 0)]
    return [
        traced(straight, nonces, "a program without a loop"),
        traced(loop, nonces, "a loop", words=[*range(times, -1, -1), word]),
        traced(forward, nonces, "a jump forward", words=[word]),
    ]  # fmt: skip


def culprits(nonces: Nonces) -> list[Case]:
    name, why = (
        nonces.choice("name", ("MUL", "DIV", "XOR")),
        nonces.choice("why", ("too hot", "overflow", "no licence")),
    )
    first = nonces.range("first", 1, 6)
    pushes = [("PUSH", nonces.range(f"push{n}", 0, 0x10000)) for n in range(first)]
    return [
        traced([*pushes, (name, 0), ("HALT", 0)], nonces, "an instruction that faults", faults={name: why}),
        traced(pushes, nonces, "a program without HALT"),
        traced([("PUSH", 1), ("JNZ", first + 40), ("HALT", 0)], nonces, "a jump beyond the end"),
    ]


def traced(program: machine.Program, nonces: Nonces, label: str, **more: Any) -> Case:
    inputs = {
        "program": list(program),
        "words": [],
        "faults": {},
        "limit": 24,
        "answer": nonces.range("answer", 0, 9999),
    }
    inputs |= more
    return Case(inputs, machine.trace(inputs), label)


def same_trace(case: Case, obs: Observation) -> Finding:
    seen = obs.raw("seen")
    hint = machine.named(seen, LOOP_MISTAKES, lambda mistake: machine.trace(case.inputs, mistake))
    return judge.same_exits(case.expected, seen, "the exits", hint)


# ---- 00.3 monitor ----

MONITOR_MISTAKES = ("word-stays", "lost-word", "zero", "narrow", "no-answer", "no-word")


def owned_ports(nonces: Nonces) -> list[Case]:
    a, b = nonces.range("a", 1, 50), nonces.range("b", 50, 99)
    words = [nonces.range(f"word{n}", 256, 0x10000) for n in range(4)]
    script = [
        ["OUT", a, words[0]],
        ["IN", b, 0],
        ["OUT", b, words[1]],
        ["IN", b, 0],
        ["OUT", a, words[1]],
        ["IN", a, 0],
    ]
    devices = [[a, [words[3], 0]], [b, [words[2], words[3]]]]
    return [
        monitored(script[:1], devices, "one OUT"),
        monitored(script[1:2], devices, "one IN"),
        monitored(script, devices, f"{len(script)} exits for two devices"),
    ]


def floating_ports(nonces: Nonces) -> list[Case]:
    a, nobody = nonces.range("a", 1, 50), nonces.range("nobody", 50, 0x400)
    word = nonces.range("word", 1, 0xFFFF)
    device = [[a, [word]]]
    both = [["OUT", a, word], ["OUT", nobody, word], ["IN", nobody, 0], ["IN", a, 0]]
    return [
        monitored(both, device, "a port with a device and one without"),
        monitored(both[1:2], device, "a write where no device is"),
        monitored(both[2:3], device, "a read where no device is"),
    ]


def endings(nonces: Nonces) -> list[Case]:
    budget, why = nonces.range("budget", 5, 60), nonces.choice("why", ("underflow", "too hot", "no instruction"))
    out = ["OUT", 9, nonces.range("word", 0, 0x10000)]
    few = [out] * nonces.range("few", 1, 4)
    device = [[9, []]]
    return [
        monitored(few, device, "a guest that halts", budget=budget),
        monitored(few, device, "a guest that traps", budget=budget, then=["TRAP", why, 0]),
        monitored([], device, f"a guest that prints for ever and a budget of {budget}", budget=budget, then=out),
        monitored([out] * (budget - 1), device, f"a guest that halts with exit {budget} of {budget}", budget=budget),
    ]


def monitored(script: list[Any], devices: list[Any], label: str, **more: Any) -> Case:
    inputs = {"script": script, "devices": devices, "stack": [11, 22], "budget": 1000, "then": ["HALT", 0, 0]} | more
    return Case(inputs, machine.serve(inputs), label)


def same_service(case: Case, obs: Observation) -> Finding:
    _, log, stack, _ = case.expected
    seen = [obs.raw(key) for key in ("log", "stack")]
    hint = machine.named(seen, MONITOR_MISTAKES, lambda mistake: machine.serve(case.inputs, mistake)[1:3])
    return judge.all_of(
        judge.same_exits(log, seen[0], "what the devices saw", hint),
        judge.same_value(stack, seen[1], "the guest's stack afterwards", hint),
    )


def same_end(case: Case, obs: Observation) -> Finding:
    """Only how it ended: what a monitor does to the stack is the business of the other two checks."""
    end, _, _, calls = case.expected
    taken = obs.raw("calls")
    went_on = end[0] != "BUDGET" and isinstance(taken, int) and taken > calls
    return judge.all_of(
        judge.same_value(calls, taken, "the number of exits taken", "goes-on" if went_on else "one-more"),
        judge.same_value(end, obs.raw(), "what `monitor` returned", "which-end"),
    )


# ---- 00.4 stack_machine ----


def programs(nonces: Nonces) -> list[Case]:
    letter, count = nonces.range("letter", 65, 85), nonces.range("count", 2, 6)
    key = nonces.range("key", 1, 9)
    typed = bytes(65 + byte % 26 for byte in nonces.bytes("typed", 8))
    letters = f"PUSH {letter + count};DUP;OUT 1;PUSH 1;SUB;DUP;PUSH {letter};SUB;JNZ 1;HALT"
    cipher = f"IN 1;DUP;JNZ 4;HALT;PUSH {key};ADD;OUT 1;PUSH 1;JNZ 0"
    return [
        assembled(letters, b"", "a countdown in letters"),
        assembled(cipher, typed, "a program that answers what is typed"),
        assembled(f"PUSH {letter};OUT 1;PUSH {key};ADD", b"", "a program with a fault"),
    ]


def assembled(text: str, typed: bytes, label: str) -> Case:
    words = [line.split() for line in text.split(";")]
    program = [(word[0], int(word[1]) if word[1:] else 0) for word in words]
    return Case({"program": program, "typed": typed}, machine.run(program, typed), label)


def same_run(case: Case, obs: Observation) -> Finding:
    value = obs.raw()
    if not isinstance(value, list) or len(value) != 2:
        return judge.fail(
            f"`stack_machine` gave {amount(value)} where the last exit and the bytes are expected", "pair"
        )
    end, printed = case.expected
    console = judge.same_bytes(
        printed, value[1], "the console", "" if value[1] and isinstance(value[1], bytes) else "console"
    )
    return judge.all_of(console, judge.same_value(end, value[0], "the exit that ended the guest", "pair"))


# ---- 00.5 take_turns ----


def queues(nonces: Nonces) -> list[Case]:
    guests = [[name, nonces.range(name, 1, 6)] for name in ("red", "green", "blue", "white")]
    return [
        queue([["red", 3]], "one guest of three turns"),
        queue([["red", 2], ["green", 2]], "two guests of two turns each"),
        queue([["red", 1], ["green", 1], ["blue", 3]], "two guests that end at once, and one that goes on"),
        queue(guests, "guests of " + ", ".join(str(turns) for _, turns in guests) + " turns"),
        queue([], "no guests"),
    ]


def queue(guests: list[Any], label: str) -> Case:
    longest = max((turns for _, turns in guests), default=0)
    order = [name for turn in range(longest) for name, turns in guests if turns > turn]
    return Case({"guests": guests}, order, label)


def fair(case: Case, obs: Observation) -> Finding:
    starved = [name for name, turns in case.inputs["guests"] for _ in range(turns)]
    order = obs.raw("order")
    hint = "starved" if order == starved else "skipped"
    return judge.all_of(
        judge.same_exits(case.expected, order, "the turns", hint),
        judge.same_value(len(case.expected), obs.raw(), "what `take_turns` returned", "count"),
    )
