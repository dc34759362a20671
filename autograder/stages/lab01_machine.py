"""Lab 01, tasks 3 to 5: memory, a vCPU and its page, and where it begins."""

from __future__ import annotations

from autograder import judge
from autograder.model import Case, Finding
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.lab01_common import CONSOLE, PAGE, hello, ran
from autograder.stages.models import expected_console
from minivmm import guests

# ---- 01.3: add_memory ----


def one_slot(nonces: Nonces) -> list[Case]:
    letters = {"nonce": nonces.u64("letters"), "port": CONSOLE, "count": nonces.range("count", 5, 60)}
    first = memory_case("rep-outsb", letters, [(0, 0, PAGE * nonces.range("pages", 6, 11))], {}, "one slot, written")
    size = PAGE * nonces.range("more pages", 4, 15)
    data = nonces.bytes("data", 64)
    keyed = {"nonce": nonces.u64("key"), "address": size - len(data), "size": len(data)}
    return [first, memory_case("checksum-real", keyed, [(0, 0, size)], {0: (size - 64, data)}, "one slot, to its end")]


def two_slots(nonces: Nonces) -> list[Case]:
    low, hole, high = (PAGE * nonces.range(name, 3, 5) for name in ("low", "hole", "high"))
    slots = [(0, 0, low), (nonces.range("slot", 1, 9), low + hole, high)]
    data = nonces.bytes("data", 96)
    keyed = {"nonce": nonces.u64("key"), "address": low + hole, "size": len(data)}
    return [memory_case("checksum-real", keyed, slots, {1: (0, data)}, "two slots with a hole between them")]


def memory_case(
    name: str,
    parameters: dict[str, int],
    slots: list[tuple[int, int, int]],
    contents: dict[int, tuple[int, bytes]],
    label: str,
) -> Case:
    """A guest at 0x1000 of the first slot, and what else the host writes into the slots."""
    image = guests.load(name).patched(**parameters)
    data = [[index, offset, written] for index, (offset, written) in contents.items()]
    inputs = {"slots": slots, "contents": [[0, 0x1000, image], *data]}
    host = {"data": data[0][2]} if data else {}
    return Case(inputs, expected_console(name, parameters, **host), label)


def memory_is_there(case: Case, obs: Observation) -> Finding:
    if "value" in obs:
        return judge.fail(f"`add_memory` gave {describe(obs.raw())} where a buffer is expected", "buffer")
    names = ("slot", "guest_phys_addr", "memory_size")
    wanted = [dict(zip(names, slot, strict=True)) | {"flags": 0} for slot in case.inputs["slots"]]
    made = obs.list("slots")
    if len(made) != len(wanted):
        return judge.fail(f"{len(made)} memory slots were made where {len(wanted)} are expected", "call")
    for want, have in zip(wanted, made, strict=True):
        finding = judge.same_values(want, have, f"the structure for slot {want['slot']}", wrong_field(want, have))
        if not finding.ok:
            return finding
    if "short" in obs:
        return judge.fail("the buffer is shorter than the memory that the guest was promised", "size")
    return ran(case.expected, obs)


def wrong_field(want: dict[str, int], have: object) -> str:
    keys = {"slot": "slot", "guest_phys_addr": "gpa", "memory_size": "size", "flags": "flags"}
    if not isinstance(have, dict):
        return ""
    return next((key for name, key in keys.items() if have.get(name) != want[name]), "")


# ---- 01.4: create_vcpu ----


def larger_pages(nonces: Nonces) -> list[Case]:
    cases = []
    for n in range(2):
        size = PAGE * nonces.range(f"pages {n}", 4 + 8 * n, 10 + 8 * n)
        cases.append(hello(nonces, f"nonce {n}", {"size": size}, f"a kernel that shares {size} bytes"))
    return cases


def vcpu_and_page(case: Case, obs: Observation) -> Finding:
    kinds = obs.strs("kinds")
    if kinds == ["page", "handle"]:
        return judge.fail("`create_vcpu` gave (run, vcpu) where (vcpu, run) is expected", "pair")
    if kinds != ["handle", "page"]:
        given = ", ".join(kinds)
        return judge.fail(f"`create_vcpu` must return two things, (vcpu, run); it gave {given}", "pair")
    asked = obs.ints("asked")
    finding = judge.same_value(case.inputs["size"], asked[-1] if asked else 0, "the size that was mapped", "fixed-size")
    return finding if not finding.ok else ran(case.expected, obs)


# ---- 01.5: start_at ----


def entries(nonces: Nonces) -> list[Case]:
    cases = []
    for n in range(2):
        entry = nonces.range(f"entry {n}", 0x200, 0xC00) << 4
        jump = b"\xe9" + ((0x1000 - entry - 3) & 0xFFFF).to_bytes(2, "little")  # jmp 0x1000 (SDM vol. 2, JMP rel16)
        inputs = {"entry": entry, "code": jump, "es": nonces.range(f"es {n}", 0x100, 0xF00)}
        cases.append(hello(nonces, f"nonce {n}", inputs, f"the entry {entry:#x}"))
    return cases


def started(case: Case, obs: Observation) -> Finding:
    before, after = obs.dict("before"), obs.dict("after")
    entry = case.inputs["entry"]
    base = judge.same_values({"cs.base": 0}, after, "the code segment", "cs-base")
    selector = judge.same_values({"cs.selector": 0}, after, "the code segment", "cs-selector")
    rip = judge.same_values({"rip": entry}, after, "the instruction pointer", "rip")
    flags = judge.same_values({"rflags": 2}, after, "the flags", "flags")
    changed = ("cs.base", "cs.selector", "rip", "rflags")
    rest = {name: value for name, value in before.items() if name not in changed}
    kept = judge.same_values(rest, after, "the registers that `start_at` should leave alone", "zeroed")
    first = judge.all_of(base, selector, kept, rip, flags)
    return first if not first.ok else ran(case.expected, obs)
