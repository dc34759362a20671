"""Lab 02, tasks 1 and 2: addresses and segment registers of real mode. What each check asks, and how it is judged."""

from __future__ import annotations

from autograder import judge
from autograder.model import OK, Case, Finding
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages import models
from autograder.stages.lab02_common import image, ran

FLAT = 0xFFFF_FFFF


# ---- 02.1: linear ----


def pairs(nonces: Nonces) -> list[Case]:
    some = [(nonces.range(f"s{n}", 0x100, 0xF000), nonces.range(f"o{n}", 0x100, 0x10000)) for n in range(4)]
    above = [(0xFFFF, nonces.range("high", 0x10, 0x10000))]
    wraps = [(nonces.range("s", 0x100, 0xF000), 0xFFF0 + nonces.range("w", 0x11, 0xFFF0))]
    return [
        Case({"pairs": [list(pair) for pair in group]}, [linear(*pair) for pair in group], label)
        for group, label in (
            (some, "ordinary addresses"),
            (above, "an address above 1 MiB"),
            (wraps, "an offset of more than 16 bits"),
        )
    ]


def linear(selector: int, offset: int) -> int:
    return selector * 16 + (offset & 0xFFFF)


def right_addresses(case: Case, obs: Observation) -> Finding:
    found = obs.ints()
    if len(found) != len(case.expected):
        return judge.fail(f"{len(found)} answers came back for {len(case.expected)} addresses", "shift")
    for (selector, offset), right, actual in zip(case.inputs["pairs"], case.expected, found, strict=True):
        if actual == right:
            continue
        hint = "shift"
        if actual == right & 0xF_FFFF:
            hint = "a20"
        elif actual in (selector * 16 + offset, selector * 16 + offset & 0xFFFF):
            hint = "offset-wrap"
        return judge.fail(f"linear({selector:#x}, {offset:#x}) gave {actual:#x} where {right:#x} is expected", hint)
    return OK


def places(nonces: Nonces) -> list[Case]:
    cases = []
    for n in range(2):
        nonce, above = nonces.u64(f"nonce{n}"), nonces.bytes(f"above{n}", 1)
        _, lines = models.real_segments_writes(nonce)
        expected = {
            "console": models.expected_console("real-segments", {"nonce": nonce}, above=above[0]),
            "found": [int(line.split()[1], 16) for line in lines],
        }
        cases.append(Case({"image": image("real-segments", nonce=nonce), "above": above}, expected, f"nonce {nonce:x}"))
    return cases


def found_by_name(case: Case, obs: Observation) -> Finding:
    if "outside" in obs:
        return judge.fail(f"your address lies outside the guest's 2 MiB: {obs.str('outside')}", "a20")
    good = ran(case.expected["console"], obs, "a20")
    if not good.ok:
        return good
    what = "the bytes that your addresses found"
    return judge.same_value(case.expected["found"], obs.raw("found"), what, "shift")


# ---- 02.2: real_segment ----


def leftovers(nonces: Nonces) -> list[Case]:
    flat = {
        "base": 0x1000,
        "limit": FLAT,
        "selector": 0x10,
        "type": 3,
        "s": 1,
        "dpl": 0,
        "present": 1,
        "avl": 0,
        "l": 0,
        "db": 1,
        "g": 1,
    }
    null = dict.fromkeys(flat, 0) | {"unusable": 1}
    cases = []
    for n, (before, type, label) in enumerate(
        (
            (flat, 3, "a register that held a flat data segment"),
            (
                flat | {"type": 11, "l": 1, "db": 0, "dpl": 3},
                11,
                "a register that held a 64-bit code segment of ring 3",
            ),
            (null, 3, "a register that held the null selector"),
        )
    ):
        selector = nonces.range(f"s{n}", 0x100, 0xF000)
        expected = {
            "selector": selector,
            "base": selector * 16,
            "limit": 0xFFFF,
            "type": type,
            "s": 1,
            "present": 1,
            "dpl": 0,
        }
        expected |= {"db": 0, "l": 0, "g": 0, "unusable": 0}
        cases.append(Case({"before": before, "selector": selector, "type": type}, expected, label))
    return cases


def real_fields(case: Case, obs: Observation) -> Finding:
    actual = obs.dict()
    wrong = {name for name, value in case.expected.items() if actual.get(name) != value}
    hint = next((key for key in ("base", "limit", "type", "selector") if key in wrong), "leftovers")
    return judge.same_values(case.expected, actual, "the segment register", hint)


def elsewhere(nonces: Nonces) -> list[Case]:
    cases = []
    for n in range(2):
        nonce, selector = nonces.u64(f"nonce{n}"), nonces.range(f"s{n}", 0x800, 0xE000)
        inputs = {"image": image("real-hello", nonce=nonce), "selector": selector, "base": selector * 16}
        cases.append(Case(inputs, models.expected_console("real-hello", {"nonce": nonce}), f"segment {selector:#x}"))
    return cases


def said_hello(case: Case, obs: Observation) -> Finding:
    return ran(case.expected, obs, "leftovers" if obs.dict("cs").get("base") == case.inputs["base"] else "base")
