"""Lab 02, tasks 5, 7 and 8: protected mode, long mode, and the mode's name."""

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
from autograder.stages.lab02_descriptors import pack

FLAT = 0xFFFF_FFFF
PE, PG, PAE, LME, LMA = 1, 1 << 31, 1 << 5, 1 << 8, 1 << 10
DATA = ("ds", "es", "fs", "gs", "ss")
CODE32 = {
    "selector": 0x08,
    "base": 0,
    "limit": FLAT,
    "type": 11,
    "s": 1,
    "present": 1,
    "dpl": 0,
    "db": 1,
    "l": 0,
    "g": 1,
    "unusable": 0,
}
DATA32 = CODE32 | {"selector": 0x10, "type": 3}


# ---- 02.5: enter_protected ----


def to_protected(nonces: Nonces) -> list[Case]:
    values = [nonces.range(f"v{n}", 0, 1 << 32) for n in range(4)]
    gdt, base = nonces.range("gdt", 0x2000, 0x7000) * 8, nonces.range("base", 0x40000, 0x60000)
    inputs: dict[str, Any] = {
        "gdt": gdt, "extra": pack(base, 15, 0x93, 0x4), "plant": [[base, struct.pack("<4I", *values)]],
    }  # fmt: skip
    runs: tuple[tuple[str, dict[str, int], dict[str, Any], str], ...] = (
        ("protected-hello", {"nonce": nonces.u64("hello")}, {}, "a greeting in 32-bit code"),
        ("segment-load", {"nonce": nonces.u64("load"), "option": 0x18}, {"values": values}, "a guest that loads FS"),
    )
    return [
        Case(inputs | {"image": image(name, **parameters)}, models.expected_console(name, parameters, **host), label)
        for name, parameters, host, label in runs
    ]


def is_protected(case: Case, obs: Observation) -> Finding:
    cr0 = obs.int("cr0")
    if not cr0 & PE:
        return judge.fail(f"CR0 is {cr0:#x}: bit 0 is clear, so the CPU is still in real mode", "pe")
    table = {"base": case.inputs["gdt"], "limit": 31}
    return judge.all_of(
        flat(obs, "cs", CODE32, "hidden"),
        *(flat(obs, name, DATA32, "all-five") for name in DATA),
        judge.same_values(table, obs.dict("gdt"), "GDTR", "gdt-limit"),
        ran(case.expected, obs, "hidden"),
    )


def flat(obs: Observation, name: str, expected: dict[str, int], hint: str) -> Finding:
    """One segment register, and the hint for what is wrong with it."""
    actual = obs.dict(name)
    if actual.get("limit") == 0xFFFFF:
        hint = "limit-bytes"
    elif actual.get("selector") == expected["selector"] >> 3:
        hint = "selector"
    elif name == "cs" and actual.get("limit") == FLAT and not actual.get("db"):
        hint = "db"
    elif name != "cs" and actual.get("selector") == expected["selector"]:
        hint = "hidden"  # loaded, but not with all that it takes
    return judge.same_values(expected, actual, name.upper(), hint)


# ---- 02.7: enter_long ----


def to_long(nonces: Nonces) -> list[Case]:
    cases = []
    for n in range(2):
        nonce, where = nonces.u64(f"nonce{n}"), nonces.range(f"where{n}", 0x20, 0x70) << 12
        inputs = {"image": image("long-hello", nonce=nonce), "where": where}
        cases.append(Case(inputs, models.expected_console("long-hello", {"nonce": nonce}), f"tables at {where:#x}"))
    return cases


def is_long(case: Case, obs: Observation) -> Finding:
    cr0, cr3, cr4, efer, cs = obs.int("cr0"), obs.int("cr3"), obs.int("cr4"), obs.int("efer"), obs.dict("cs")
    wanted = (
        (cr4 & PAE, "CR4.PAE (bit 5) is clear", "pae"),
        (efer & LME, "EFER.LME (bit 8) is clear: nobody has asked for long mode", "lme"),
        (efer & LMA, "EFER.LMA (bit 10) is clear: long mode is asked for but not active", "lma"),
        (cr0 & PG, "CR0.PG (bit 31) is clear: long mode begins with paging", "pg"),
        (cr0 & PE, "CR0.PE (bit 0) is clear: it was set before, and must stay", "pg"),
        (cs.get("l") == 1, "CS.L is 0: the CPU would decode 32-bit code, in compatibility mode", "cs-l"),
        (cs.get("db") == 0, "CS.L and CS.DB are both 1: the manual forbids it", "l-and-d"),
        (cr3 == case.inputs["where"], f"CR3 is {cr3:#x}, not {case.inputs['where']:#x}", "cr3"),
        (cs.get("selector") == 0x18, "CS's selector is not 0x18, that of the 64-bit code segment", "selector"),
    )
    for good, message, hint in wanted:
        if not good:
            refused = f"\nKVM_SET_SREGS: {obs.str('refused')}" if "refused" in obs else ""
            return judge.fail(message + refused, hint)
    return ran(case.expected, obs, "cs-l")


# ---- 02.8: mode_name ----

STATES = (
    ("real", {"cr0": 0x10}, "reset leaves this"),
    ("real", {"cr0": 0x10, "efer": LME}, "long mode asked for in real mode"),
    ("protected", {"cr0": 0x11, "db": 1}, "32-bit code"),
    ("protected", {"cr0": 0x11}, "a 16-bit code segment"),
    ("protected", {"cr0": 0x11 | PG, "cr4": PAE, "db": 1}, "paging with PAE, but no long mode"),
    ("protected", {"cr0": 0x11, "cr4": PAE, "efer": LME, "db": 1}, "LME set, paging still off"),
    ("compatibility", {"cr0": 0x11 | PG, "cr4": PAE, "efer": LME | LMA, "db": 1}, "long mode with a 32-bit CS"),
    ("compatibility", {"cr0": 0x11 | PG, "cr4": PAE, "efer": LME | LMA | 1}, "long mode with a 16-bit CS"),
    ("long", {"cr0": 0x11 | PG, "cr4": PAE, "efer": LME | LMA, "l": 1}, "long mode with a 64-bit CS"),
    ("long", {"cr0": 0x8005_0033, "cr4": PAE | 0x80, "efer": 0xD01, "l": 1}, "Linux, running"),
)


def states(nonces: Nonces) -> list[Case]:
    order = sorted(range(len(STATES)), key=lambda n: nonces.u64(f"order{n}"))
    blank = {"cr0": 0, "cr4": 0, "efer": 0, "l": 0, "db": 0}
    chosen = [STATES[n] for n in order]
    return [Case({"states": [blank | state for _, state, _ in chosen]}, [(name, words) for name, _, words in chosen])]


def right_names(case: Case, obs: Observation) -> Finding:
    for (name, words), state, actual in zip_longest(case.expected, case.inputs["states"], obs.list()[: len(STATES)]):
        if actual == name:
            continue
        hint = "order"
        if state["efer"] & LME and not state["efer"] & LMA:
            hint = "lma"
        elif name == "compatibility":
            hint = "compatibility"
        elif name == "protected" and state["cr0"] & PG:
            hint = "paging"
        registers = (
            f"CR0={state['cr0']:#x} CR4={state['cr4']:#x} EFER={state['efer']:#x} CS.L={state['l']} CS.DB={state['db']}"
        )
        return judge.same_value(name, actual, f"the mode of {registers} ({words})", hint)
    return OK


def walk(nonces: Nonces) -> list[Case]:
    nonce = nonces.u64("nonce")
    console = models.expected_console("mode-walk", {"nonce": nonce})
    line = len(console) // 4  # all four are equally long
    return [Case({"image": image("mode-walk", nonce=nonce), "line": line}, console)]


def named_on_the_way(case: Case, obs: Observation) -> Finding:
    right = ["real", "protected", "compatibility", "long"]
    seen = obs.list()
    hint = "compatibility" if len(seen) == 4 and seen[:2] == right[:2] and seen[3] == right[3] else "order"
    return judge.all_of(
        ran(case.expected, obs, "order"), judge.same_value(right, seen, "the modes at the guest's four lines", hint)
    )
