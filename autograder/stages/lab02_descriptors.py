"""Lab 02, tasks 3 and 4: descriptors, written and read."""

from __future__ import annotations

import struct
from itertools import zip_longest
from typing import Any

from autograder import judge
from autograder.model import OK, Case, Finding
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages import models
from autograder.stages.lab02_common import image, ran

SCATTERED = ("base", "limit", "type", "s", "dpl", "present", "avl", "l", "db", "g")


# ---- 02.3: encode_descriptor ----


def pack(base: int, limit: int, access: int, flags: int) -> bytes:
    """The eight bytes, as SDM vol. 3, "Segment Descriptors" draws them."""
    high = (limit >> 16 & 15) | flags << 4
    return struct.pack("<HHBBBB", limit & 0xFFFF, base & 0xFFFF, base >> 16 & 0xFF, access, high, base >> 24)


def quads(nonces: Nonces) -> list[Case]:
    fields = []
    for n in range(6):
        base, limit = nonces.range(f"b{n}", 1 << 24, 1 << 32), nonces.range(f"l{n}", 1 << 16, 1 << 20)
        fields.append((base, limit, 0x90 | nonces.range(f"a{n}", 2, 16)))
    rows = [[*each, nonces.range(f"f{n}", 1, 15)] for n, each in enumerate(fields)]
    flat = [[0, 0xFFFFF, 0x9B, 0xC], [0, 0xFFFFF, 0x9B, 0xA]]
    return [
        Case({"fields": flat}, [pack(*row) for row in flat], "the flat segments"),
        Case({"fields": rows}, [pack(*row) for row in rows], "six random descriptors"),
    ]


def right_bytes(case: Case, obs: Observation) -> Finding:
    for fields, right, actual in zip_longest(case.inputs["fields"], case.expected, obs.list()[: len(case.expected)]):
        found = judge.same_bytes(right, actual, f"encode_descriptor({', '.join(map(hex, fields))})")
        if not found.ok:
            return judge.fail(found.message, encoding_mistake(fields, right, actual))
    return OK


def encoding_mistake(fields: list[int], right: bytes, actual: object) -> str:
    if not isinstance(actual, bytes) or len(actual) != 8:
        return "length"
    if actual == right[::-1]:
        return "little-endian"
    wrong = {at for at in range(8) if actual[at] != right[at]}
    if actual[6] == (right[6] >> 4 | (right[6] & 15) << 4) and wrong == {6}:
        return "nibbles"
    return {frozenset({7}): "base-high", frozenset({6}): "limit-high"}.get(frozenset(wrong), "layout")


def loads(nonces: Nonces) -> list[Case]:
    nonce, values = nonces.u64("nonce"), [nonces.range(f"v{n}", 0, 1 << 32) for n in range(4)]
    plant = struct.pack("<4I", *values)
    small = nonces.range("small", 0x10000, 0x60000)
    big = (nonces.range("high", 1, 3) << 24) + nonces.range("big", 0x10000, 0xFF0000)
    beyond = nonces.range("ends", 1, 3) * 4 + 3  # the last valid offset: one or two numbers fewer than are read
    runs: list[tuple[tuple[int, int, int, int], int, dict[str, Any], str]] = [
        ((small, beyond, 0x93, 0x4), 1 << 20, {"values": values, "limit": beyond}, "a segment that ends too soon"),
        ((big, 0xFFFFF, 0x93, 0xC), 64 << 20, {"values": values}, "a base above 16 MiB"),
        ((small, 0xFFFFF, 0x13, 0xC), 1 << 20, {"refused": "#NP"}, "a descriptor that is not present"),
    ]
    parameters = {"nonce": nonce, "option": 0x18}
    cases = []
    for fields, memory, host, label in runs:
        inputs = {"fields": list(fields), "memory": memory, "plant": [[fields[0], plant]]}
        inputs["image"] = image("segment-load", **parameters)
        expected = models.expected_console("segment-load", parameters, **host), pack(*fields)
        cases.append(Case(inputs, expected, label))
    return cases


def read_by_the_cpu(case: Case, obs: Observation) -> Finding:
    expected, right = case.expected
    raw = obs.bytes("raw")
    return ran(expected, obs, encoding_mistake(case.inputs["fields"], right, raw) if raw != right else "layout")


# ---- 02.4: decode_descriptor ----


def unpack(raw: bytes) -> dict[str, int]:
    value = int.from_bytes(raw, "little")
    limit, g = (value & 0xFFFF) | (value >> 48 & 15) << 16, value >> 55 & 1
    return {
        "base": (value >> 16 & 0xFF_FFFF) | (value >> 56) << 24, "limit": limit << 12 | 0xFFF if g else limit,
        "type": value >> 40 & 15, "s": value >> 44 & 1, "dpl": value >> 45 & 3, "present": value >> 47 & 1,
        "avl": value >> 52 & 1, "l": value >> 53 & 1, "db": value >> 54 & 1, "g": g,
    }  # fmt: skip


def eights(nonces: Nonces) -> list[Case]:
    raws = [(pack(0, 0xFFFFF, 0x9B, 0xC), "flat 32-bit code"), (pack(0, 0xFFFFF, 0xFB, 0xA), "64-bit code of ring 3")]
    for n, g in enumerate((0, 1, 0, 1)):
        base, limit = nonces.range(f"b{n}", 1 << 24, 1 << 32), nonces.range(f"l{n}", 1 << 16, 1 << 20)
        access, flags = nonces.range(f"a{n}", 0, 256), nonces.range(f"f{n}", 0, 8) | g << 3
        raws.append((pack(base, limit, access, flags), f"a random descriptor with G={g}"))
    return [Case({"raw": raw}, unpack(raw), f"{label}, {raw.hex(' ')}") for raw, label in raws]


def right_fields(case: Case, obs: Observation) -> Finding:
    actual = obs.dict()
    wrong = {name for name, value in case.expected.items() if actual.get(name) != value}
    return judge.same_values(
        case.expected, actual, "what `decode_descriptor` returned", decoding_mistake(case, wrong, actual)
    )


def decoding_mistake(case: Case, wrong: set[str], actual: dict[Any, Any]) -> str:
    limit = actual.get("limit")
    right = unpack(case.inputs["raw"])
    if "limit" in wrong and isinstance(limit, int):
        if limit == (right["limit"] >> 12 if right["g"] else right["limit"] << 12 | 0xFFF):
            return "scale"
        if right["g"] and limit >> 12 == right["limit"] >> 12:
            return "scale-ones"
    if wrong == {"base"}:
        return "base-high"
    return "limit-high" if wrong == {"limit"} else "fields"


def through(nonces: Nonces) -> list[Case]:
    cases = []
    values = [nonces.range(f"v{n}", 0, 1 << 32) for n in range(4)]
    for g, label in ((0, "a limit that counts bytes"), (1, "a limit that counts pages")):
        base, nonce = nonces.range(f"b{g}", 0x10000, 0x60000), nonces.u64(f"nonce{g}")
        field = nonces.range("pages", 1, 8) if g else nonces.range("bytes", 0x100, 0x8000) * 4 + 3
        limit = field << 12 | 0xFFF if g else field
        parameters = {"nonce": nonce, "address": limit + 1 - 8}  # two numbers below the limit, the third beyond it
        inputs = {
            "raw": pack(base, field, 0x93, 0x4 | g << 3),
            "image": image("segment-base", **parameters),
            "plant": [[base + limit + 1 - 8, struct.pack("<4I", *values)]],
        }
        printed = models.expected_console("segment-base", parameters, values=values, limit=limit)
        cases.append(Case(inputs, printed, label))
    return cases


def read_through(case: Case, obs: Observation) -> Finding:
    actual, right = obs.dict(), unpack(case.inputs["raw"])
    wrong = {name for name in SCATTERED if actual.get(name) != right[name]}
    return ran(case.expected, obs, decoding_mistake(case, wrong, actual))
