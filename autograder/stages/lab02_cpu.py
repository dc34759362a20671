"""Lab 02, tasks 9 to 13: CPUID, model-specific registers, and one guest in three modes."""

from __future__ import annotations

import struct
from typing import Any

from autograder import judge
from autograder.model import OK, Case, Finding
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages import models
from autograder.stages.lab02_common import image, ran

BASE = 0x4000_0000
REGISTERS = ("eax", "ebx", "ecx", "edx")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Registers that hold a 64-bit address and nothing else, on every processor (SDM vol. 4; APM vol. 2, "MSR Cross-
# Reference"). Not those of SYSENTER: AMD's have 32 bits.
ADDRESSES = {
    0xC000_0100: "FS_BASE",
    0xC000_0101: "GS_BASE",
    0xC000_0102: "KERNEL_GS_BASE",
    0xC000_0082: "LSTAR",
}
CANONICAL = 0x7FFF_FFFF_FFFF


def entry(nonces: Nonces, function: int, index: int = 0, flags: int = 0) -> dict[str, int]:
    """One struct kvm_cpuid_entry2 with random registers."""
    numbers = {name: nonces.range(f"{function}.{index}.{name}", 0, 1 << 32) for name in REGISTERS}
    return {"function": function, "index": index, "flags": flags, **numbers}


# ---- 02.9: announce ----


def signatures(nonces: Nonces) -> list[Case]:
    others = [entry(nonces, 0), entry(nonces, 1), entry(nonces, 4, 0, 1), entry(nonces, 4, 1, 1)]
    others.append(entry(nonces, 0x8000_0001))
    word = "".join(nonces.choice(f"letter{n}", LETTERS) for n in range(12))
    cases = [
        ([*others, entry(nonces, BASE)], word, "a host that shows a signature already"),
        (others, word[::-1], "a host that shows none"),
        ([*others, entry(nonces, BASE), entry(nonces, BASE + 1)], word[:5], "a name of five letters"),
    ]
    return [Case({"entries": entries, "name": name}, label=label) for entries, name, label in cases]


def announces(case: Case, obs: Observation) -> Finding:
    before, name = case.inputs["entries"], case.inputs["name"]
    after = [each for each in obs.list() if isinstance(each, dict)]
    ours = [each for each in after if each.get("function") == BASE]
    if len(ours) != 1:
        return judge.fail(f"there are {len(ours)} entries for leaf 0x40000000; there must be one", "duplicate")
    ebx, ecx, edx = struct.unpack("<3I", name.encode().ljust(12, b"\0"))
    right = {"function": BASE, "index": 0, "flags": 0, "eax": BASE + 1, "ebx": ebx, "ecx": ecx, "edx": edx}
    got = ours[0]
    hint = "order" if (got.get("ebx"), got.get("ecx"), got.get("edx")) == (ebx, edx, ecx) else "registers"
    if hint != "order" and got.get("eax") != right["eax"]:
        hint = "highest"
    found = judge.same_values(right, got, "the entry for leaf 0x40000000", hint)
    if not found.ok:
        return found
    rest = [each for each in before if each["function"] != BASE]
    if [each for each in after if each.get("function") != BASE] != rest:
        return judge.fail("the other entries are not the ones that came in, in their order", "others")
    if obs.raw("given") != before:
        return judge.fail("the caller's own list was changed; return a new one", "others")
    return OK


# ---- 02.10: set_cpuid ----


def cpuids(nonces: Nonces) -> list[Case]:
    nonce = nonces.u64("nonce")
    top = entry(nonces, BASE) | {"eax": BASE + 1}
    parameters: dict[str, int] = {"nonce": nonce, "option": BASE, "count": 2, "port": 0x500}
    leaves = [top, entry(nonces, BASE + 1)]
    cases = [("cpuid-reader", parameters, leaves, leaves, "the leaves of a hypervisor")]
    index = nonces.range("index", 1, 4)
    several = [entry(nonces, BASE + 2, n, 1) for n in range(4)]
    asked = {"nonce": nonce ^ 1, "option": BASE + 2, "value": index, "count": 1, "port": 0x500}
    cases.append(("cpuid-reader", asked, several, [several[index]], "a leaf with subleaves"))
    made = [
        Case(
            {"image": image(name, **given), "leaves": new},
            models.expected_console(name, given, leaves=[tuple(leaf[r] for r in REGISTERS) for leaf in read]),
            label,
        )
        for name, given, new, read, label in cases
    ]
    walk = {"nonce": nonces.u64("walk")}
    made.append(
        Case(
            {"image": image("mode-walk", **walk), "leaves": []}, models.expected_console("mode-walk", walk), "mode-walk"
        )
    )
    return made


def read_back(case: Case, obs: Observation) -> Finding:
    calls = obs.strs("calls")
    if not any(call.startswith("KVM_SET_CPUID2: 0") for call in calls):
        said = "; ".join(calls) or "it was never called"
        return judge.fail(f"KVM_SET_CPUID2 did not succeed: {said}", "call")
    hint = "flags" if "subleaves" in case.label and any(obs.bytes("console")[:16]) else "nent"
    return ran(case.expected, obs, hint)


# ---- 02.11 and 02.12: model-specific registers ----


def reads(nonces: Nonces) -> list[Case]:
    cases = []
    for n in range(2):
        index, nonce = nonces.choice(f"index{n}", list(ADDRESSES)), nonces.u64(f"nonce{n}") | 1 << 40
        parameters = {"nonce": nonce, "value": index, "option": CANONICAL}
        expected = (models.expected_console("msr-reader", parameters), nonce & CANONICAL)
        inputs = {"what": "after", "image": image("msr-reader", **parameters), "index": index}
        cases.append(Case(inputs, expected, f"{ADDRESSES[index]}, which the guest has just written"))
    refused = {"what": "refused", "index": nonces.range("none", 0x1000, 0x2000), "more": []}
    return [*cases, Case(refused, "KeyError", "a register that this KVM does not have")]


def was_read(case: Case, obs: Observation) -> Finding:
    if case.inputs["what"] == "refused":
        return refusal(case, obs)
    console, value = case.expected
    hint = "data64" if obs.raw() == value & 0xFFFF_FFFF else "entries"
    if obs.int() != value:
        return judge.fail(f"`read_msr` gave {obs.int():#x} where the guest had written {value:#x}", hint)
    return ran(console, obs, "entries")


def writes(nonces: Nonces) -> list[Case]:
    cases = []
    for n in range(2):
        index, value = nonces.choice(f"index{n}", list(ADDRESSES)), nonces.u64(f"value{n}") & CANONICAL | 1 << 40
        parameters = {"nonce": nonces.u64(f"nonce{n}"), "value": index, "option": 0}
        inputs = {"what": "before", "image": image("msr-reader", **parameters), "index": index, "value": value}
        printed = models.expected_console("msr-reader", parameters, before=value)
        cases.append(Case(inputs, printed, f"{value:#x} for {ADDRESSES[index]}"))
    refused = {"what": "refused", "index": nonces.range("none", 0x1000, 0x2000), "more": [nonces.u64("any")]}
    return [*cases, Case(refused, "ValueError", "a register that this KVM does not have")]


def was_written(case: Case, obs: Observation) -> Finding:
    if case.inputs["what"] == "refused":
        return refusal(case, obs)
    value: int = case.inputs["value"]
    cut = f"{value & 0xFFFF_FFFF:016x}".encode()
    return ran(case.expected, obs, "data64" if obs.bytes("console")[:16] == cut else "entries")


def refusal(case: Case, obs: Observation) -> Finding:
    if not obs.raised:
        return judge.fail("the ioctl answered 0 registers done, and nothing was raised", "count")
    return judge.same_value(case.expected, obs.raised, "the exception", "count")


# ---- 02.13: run_in ----


def three(nonces: Nonces) -> list[Case]:
    cases = []
    for mode in ("real", "protected", "long"):
        nonce: dict[str, Any] = {"nonce": nonces.u64(mode)}
        name = f"{mode}-hello"
        inputs = {"mode": mode, "image": image(name, **nonce)}
        cases.append(Case(inputs, models.expected_console(name, nonce), f"{mode} mode"))
    return cases


def spoke(case: Case, obs: Observation) -> Finding:
    found = judge.same_bytes(case.expected, obs.raw(), "what `run_in` returned", case.inputs["mode"])
    exits = judge.show_exits(obs.exits)
    return found if found.ok else judge.fail(f"{found.message}\n{exits}".rstrip(), case.inputs["mode"])
