"""Lab 06, the tables: a far pointer of real mode, and a gate of 64 bits, each with a guest that goes through it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import suited
from autograder.stages.lab06_bench import console, ended, pick
from autograder.stages.lab06_hints import hints
from autograder.stages.models import expected_console

# ---- 06.1 hook ----

STRAYS = 0x7000  # where the bench has the handler of vector 0; eight bytes further is the next one's


def hooks(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(2):
        vectors = pick(nonces, f"vectors{run}", 4, range(0x60, 0x68))
        vectors += [nonces.range("far vector", 0x70, 0x100)] * run  # one that the guest never calls

        def handlers(name: str, wanted: Sequence[int], first: int, run: int = run) -> list[list[int]]:
            # Each handler has a paragraph of its own, so that none overwrites another.
            places = [0x2000 + 0x100 * (first + n) + nonces.range(f"{name}{run}{n}", 1, 15) for n in range(len(wanted))]
            offsets = [nonces.range(f"{name} offset {run}{n}", 1, 0xFFF) for n in range(len(wanted))]
            values = nonces.bytes(f"{name} values {run}", len(wanted))
            return [list(each) for each in zip(wanted, places, offsets, values, strict=True)]

        first = handlers("first", range(0x60, 0x68), 0)
        then = handlers("then", vectors, 16)
        parameters = {"nonce": nonces.u64(f"nonce{run}"), "count": 24}
        answers = {vector: value for vector, _, _, value in first + then}
        before = {vector: [segment, offset] for vector, segment, offset, _ in first}
        olds = [before.get(vector, [0, STRAYS + 8 * vector]) for vector in vectors]
        expected = {"console": expected_console("ivt-caller", parameters, answers=answers), "olds": olds}
        expected["then"] = then
        inputs = {"guest": "ivt-caller", "parameters": parameters, "first": first, "then": then}
        cases.append(Case(inputs, expected, f"the vectors {', '.join(f'{vector:#x}' for vector in vectors)}"))
    return cases


def hooked(case: Case, obs: Observation) -> Finding:
    table = obs.bytes("table")
    pointers = [
        offset.to_bytes(2, "little") + segment.to_bytes(2, "little") for _, segment, offset, _ in case.expected["then"]
    ]
    elsewhere = any(pointer in table for pointer in pointers)
    for (vector, segment, offset, _), wanted in zip(case.expected["then"], pointers, strict=True):
        held = table[4 * vector : 4 * vector + 4]
        if held != wanted:
            hint = "order" if held == wanted[2:] + wanted[:2] else "place" if elsewhere else "pointer"
            text = f"at 4 × {vector:#x} the table has {held.hex(' ')} where {wanted.hex(' ')} is expected"
            return fail(f"{text}: the far pointer {segment:#06x}:{offset:#06x}", hint)
    olds, wanted_olds = obs.list(), case.expected["olds"]
    for old, wanted in zip(olds, wanted_olds, strict=False):
        if old != wanted:
            text = "the old handler was {} where ({:#x}, {:#x}) is expected".format(far(old), *wanted)
            return fail(text, hint_of_old(old, wanted))
    finding = ended(obs, "halted")
    return finding if not finding.ok else console(case, obs, "pointer")


def hint_of_old(old: Any, wanted: list[int]) -> str:
    if not (isinstance(old, list) and len(old) == 2 and all(type(part) is int for part in old)):
        return "return"
    swapped = [int.from_bytes(part.to_bytes(2, "little"), "big") for part in wanted]
    return "old-order" if old == wanted[::-1] else "old-bytes" if old in (swapped, swapped[::-1]) else "old"


def far(pointer: Any) -> str:
    if isinstance(pointer, list) and all(type(part) is int for part in pointer):
        return f"({', '.join(hex(part) for part in pointer)})"
    return describe(pointer)


# ---- 06.2 gate ----


CODE64 = 0x18  # in the flat GDT that a long-mode guest starts with


def gates(nonces: Nonces) -> list[Case]:
    cases = []
    half = 0xFFFF_FF80_0000_0000
    for run, (label, above, trap) in enumerate(
        (
            ("an interrupt gate, and a handler below 1 MiB", 0, False),
            ("a trap gate", 0, True),
            ("a handler in the upper half of the address space", half, False),
        )
    ):
        place = 0xA0000 + nonces.range(f"place{run}", 1, 0x4FFFF)
        number = nonces.range(f"number{run}", 1, 0xFFFF_FFFF)
        parameters = {"nonce": nonces.u64(f"nonce{run}"), "address": 0x20000, "count": 2}
        console = expected_console("gate-caller", parameters, number=number, trap=trap)
        handler = above + place
        inputs = {"guest": "gate-caller", "parameters": parameters, "place": place, "number": number}
        inputs |= {"handler": handler, "selector": CODE64, "trap": trap}
        cases.append(Case(inputs, {"console": console}, label))
    return [*cases, another_segment(nonces)]


def another_segment(nonces: Nonces) -> Case:
    """A gate that no guest goes through: the one code segment of our guests is always at the same place."""
    selector = suited(lambda label: nonces.range(label, 0x21, 0x1FFF) << 3, "selector", lambda it: it >> 8 != it & 0xFF)
    handler = nonces.range("handler", 1 << 40, 1 << 47)
    return Case({"handler": handler, "selector": selector, "trap": False}, None, f"the selector {selector:#x}")


FIELDS = (  # of a 64-bit gate: name, first byte, end, hint
    ("offset, bits 0–15", 0, 2, "offset"), ("selector", 2, 4, "selector"), ("type and present", 5, 6, "type"),
    ("byte 4, IST", 4, 5, "zeros"), ("offset, bits 16–31", 6, 8, "offset"), ("offset, bits 32–63", 8, 12, "high"),
    ("bytes 12–15", 12, 16, "zeros"),
)  # fmt: skip


def gate(case: Case, obs: Observation) -> Finding:
    raw = obs.raw("value")
    if not isinstance(raw, bytes):
        return fail(f"{describe(raw)} where the 16 bytes of a gate are expected", "sixteen")
    if len(raw) != 16:
        return fail(f"{len(raw)} bytes where the 16 of a 64-bit gate are expected", "sixteen")
    handler, kind = case.inputs["handler"], 0x8F if case.inputs["trap"] else 0x8E
    parts = (handler & 0xFFFF, case.inputs["selector"], kind, 0, handler >> 16 & 0xFFFF, handler >> 32, 0)
    for (name, start, end, hint), wanted in zip(FIELDS, parts, strict=True):
        found = int.from_bytes(raw[start:end], "little")
        if hint == "selector" and raw.startswith(handler.to_bytes(8, "little")):
            hint = "offset"  # in one piece, over the selector's place
        if found != wanted:
            name = "byte 5, type and present," if hint == "type" else name
            return fail(f"the gate's {name} is {found:#x} where {wanted:#x} is expected", hint)
    if "guest" not in case.inputs:
        return OK
    finding = ended(obs, "halted")
    return finding if not finding.ok else console(case, obs, "type")


CHECKS = (
    Check(
        "06.1", "a vector of real mode leads to your handler", 1,
        exercise="hook", driver="vectors_hooked", cases=hooks, judge=hooked,
        guests=("ivt-caller",),
        hints=hints(
            Hint("pointer", "The table entry at `4 * vector` is two words: first the offset, then the segment, "
                 "each little-endian."),
            Hint("order", "Offset and segment have changed places. A far pointer lies in memory as x86 numbers "
                 "do, low part first: the offset comes first."),
            Hint("place", "The pointer is in the table, but not in the vector's place. An entry has 4 bytes, so "
                 "that of vector n begins at 4 * n; the classic mistake is n itself, or 8 * n."),
            Hint("old", "The old pointer must be read *before* the new one is written, and from the same place."),
            Hint("old-order", "The answer is (segment, offset), in this order, as people write 0x1234:0x0010; in "
                 "memory the offset comes first."),
            Hint("return", "Return the old pointer: two numbers, (segment, offset). `int.from_bytes(data, "
                 "\"little\")` makes a number of two bytes."),
            Hint("old-bytes", "The old pointer has its bytes the wrong way round: in memory the low byte comes "
                 "first, so `int.from_bytes(data, \"little\")`."),
            Hint("types", "Guest memory takes bytes: `number.to_bytes(2, \"little\")`.",
                 when="TypeError|ValueError|OverflowError"),
        ),
    ),
    Check(
        "06.2", "a 64-bit gate leads to a handler anywhere", 1,
        exercise="gate", driver="exception_gates", cases=gates, judge=gate,
        guests=("gate-caller",),
        hints=hints(
            Hint("sixteen", "A gate has 16 bytes: offset 2, selector 2, IST 1, type 1, offset 2, offset 4, and "
                 "four zeros."),
            Hint("offset", "The handler's address is cut in three: bits 0–15 go to bytes 0–1, bits 16–31 to bytes "
                 "6–7, each little-endian. The classic mistake puts the parts side by side, as if they were one."),
            Hint("high", "Bits 32–63 of the address go to bytes 8–11. The classic mistake is to forget them, for "
                 "as long as all handlers are below 4 GiB nobody notices."),
            Hint("selector", "Bytes 2–3 are the selector of a 64-bit code segment, as given: both its bytes, low byte "
                 "first, whatever they are."),
            Hint("type", "Byte 5 is 0x8E for an interrupt gate and 0x8F for a trap gate: present (bit 7), DPL 0, "
                 "type 14 or 15. The classic mistakes: the present bit forgotten, and the types exchanged."),
            Hint("zeros", "Byte 4 is 0 (IST: another stack from the task's segment, which nobody has set up), and "
                 "so are bytes 12–15."),
            Hint("types", "A piece of the address does not fit its field: mask it (`& 0xFFFF`) before "
                 "`to_bytes`.", when="OverflowError"),
            Hint("bytes", "Join pieces of bytes with +; one number becomes bytes by `to_bytes`.",
                 when="TypeError|ValueError|struct"),
        ),
    ),
)  # fmt: skip
