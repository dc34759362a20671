"""Lab 05, accesses: what a guest reads from the bus, and what a write of its brings to whom."""

from __future__ import annotations

from functools import reduce
from operator import lshift, or_
from types import SimpleNamespace
from typing import Any

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import guest, on_console
from autograder.stages.lab05_common import (
    CALL,
    LOOP,
    NOBODY,
    OFFSET,
    cycle,
    number,
    of,
    row_of_devices,
    same_counts,
    same_log,
)
from autograder.stages.lab05_models import Bus, done_by, prober_accesses

Access = list[int]


def drawn(nonces: Nonces, devices: list[Any], base: int, many: int, owned: bool) -> list[Access]:
    """Accesses in the 24 addresses from `base` on: those whose bytes all have owners, or those with bytes without."""
    bus, accesses = Bus(devices), []
    for n in range(400):
        at, size = base + nonces.range(f"at {n}", 0, 24), nonces.choice(f"size {n}", (1, 2, 4, 8))
        if all(bus.find(at + i) for i in range(size)) is owned:
            accesses.append([at, size])
    # One half is cut, some of it behind a cycle of several bytes: who counts cycles, not bytes, is wrong there only.
    whole = [each for each in accesses if len(bus.cycles(*each)) == 1]
    parts = [each for each in accesses if each not in whole]
    parts.sort(key=lambda access: all(length == 1 for _, length in bus.cycles(*access)[:-1]))
    far, near = parts[: many // 4], parts[::-1][: many // 4]
    return far + near + whole[-(many // 2) :]


# ---- 05.4 read ----


def owned_reads(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(2):
        base = nonces.range(f"base{run}", 0x100, 0x800)
        devices = row_of_devices(nonces, base)
        accesses = drawn(nonces, devices, base, 24, True)
        cases.append(Case({"devices": devices, "accesses": accesses}, None, f"row of devices {run + 1} of 2"))
    return cases


def wrong_sums(bus: Bus, address: int, size: int) -> dict[str, int]:
    """What classic mistakes make of the parts of a read, by the key of their hint."""
    cut = bus.cycles(address, size)
    parts = [bus.read(at, length) for at, length in cut]
    places = {
        "endian": [8 * (size - (at - address) - n) for at, n in cut],
        "place": [8 * n for n in range(len(cut))],
        "shift": [0] * len(cut),
        "bits": [at - address for at, _ in cut],
    }
    joined = {key: reduce(or_, map(lshift, parts, shifts)) for key, shifts in places.items()}
    last = parts[-1] << 8 * (cut[-1][0] - address)
    return joined | {"all": parts[-1], "first": parts[0], "last": last}


def read_rightly(case: Case, obs: Observation) -> Finding:
    bus, scratch, values = Bus(case.inputs["devices"]), Bus(case.inputs["devices"]), obs.list("values")
    first, mistakes = "", []
    for place, (address, size) in enumerate(case.inputs["accesses"]):
        start, wanted = len(bus.log), bus.read(address, size)
        actual = values[place] if place < len(values) else None
        if type(actual) is int and actual == wanted:
            continue
        message = f"{of(size, 'byte')} at {address:#x}: {number(actual)} where {wanted:#x} is expected"
        if not first and (finding := wrong_call(message, bus.log[start:], obs.list("log")[start:])):
            return finding
        first = first or message
        sums = wrong_sums(scratch, address, size) if len(bus.log) > start + 1 else {"value": actual}
        mistakes.append({key: None for key, value in sums.items() if value == actual})
    if not first:
        return OK
    # One sum may be wrong in two ways by chance. The mistake is the one that explains them all.
    key = next((key for key in mistakes[0] if all(key in each for each in mistakes)), "parts")
    return fail(first, {"first": "all", "last": "all"}.get(key, key))


def wrong_call(message: str, wanted: list[Any], seen: list[Any]) -> Finding | None:
    """The first read that a device should not have been asked for, if the value is wrong because of one."""
    for right, actual in zip(wanted, seen, strict=False):
        if not (isinstance(actual, list) and len(actual) == 5) or actual[0] != right[0]:
            return None  # it was never asked: what comes here belongs to another access
        for place, key in ((2, "offset"), (3, "length")):
            if actual[place] != right[place]:
                return fail(f"{message} ({cycle(actual)}, where the right one is {cycle(right)})", key)
    return None


def lonely_reads(nonces: Nonces) -> list[Case]:
    base = nonces.range("base", 0x100, 0x800)
    devices = row_of_devices(nonces, base)
    accesses = [[base + 30, size] for size in (1, 2, 4, 8)] + drawn(nonces, devices, base, 16, False)
    cases = [Case({"devices": devices, "accesses": accesses}, None, "addresses that are nobody's")]
    return cases + probes(nonces, "read")


def probes(nonces: Nonces, label: str) -> list[Case]:
    """bus-prober on four devices and the gaps between them."""
    base = 0x500 + nonces.range(f"{label} base", 0, 0x100)
    devices = row_of_devices(nonces, base)
    parameters = {"nonce": nonces.u64(f"{label} nonce"), "address": base, "size": 24, "count": 40}
    inputs = {"devices": devices} | guest("bus-prober", **parameters)
    return [Case(inputs, None, "a guest that probes 24 ports")]


def read_by_nobody(case: Case, obs: Observation) -> Finding:
    bus = Bus(case.inputs["devices"])
    if "guest" in case.inputs:
        return all_of_the_guest(case, obs, bus)
    values = obs.list("values")
    for place, (address, size) in enumerate(case.inputs["accesses"]):
        start, wanted = len(bus.log), bus.read(address, size)
        actual = values[place] if place < len(values) else None
        if type(actual) is not int or actual != wanted:
            message = f"{of(size, 'byte')} at {address:#x}: {number(actual)} where {wanted:#x} is expected"
            return wrong_call(message, bus.log[start:], obs.list("log")[start:]) or fail(message, "ones")
    return same_counts(bus.unclaimed, obs, "count")


def all_of_the_guest(case: Case, obs: Observation, bus: Bus) -> Finding:
    """The guest's console, what it left in the devices, and what was counted."""
    parameters = case.inputs["parameters"]
    accesses = list(prober_accesses(SimpleNamespace(**parameters)))
    wanted = done_by(bus, accesses, lambda port, size, found: f"{port:04x} {found:0{2 * size}x}\n")
    if not (finding := same_log(bus.log, obs, "guest")).ok:
        return finding
    if not (finding := on_console(obs, wanted, "guest")).ok:
        return finding
    return same_counts(bus.unclaimed, obs, "count")


# ---- 05.5 write ----


def written(nonces: Nonces) -> list[Case]:
    cases = []
    for run, owned in enumerate((True, False)):
        base = nonces.range(f"base{run}", 0x100, 0x800)
        devices = row_of_devices(nonces, base)
        accesses = [[at, size, nonces.u64(f"value{run}{n}") & (1 << 8 * size) - 1]
                    for n, (at, size) in enumerate(drawn(nonces, devices, base, 20, owned))]  # fmt: skip
        words = "bytes that all have owners" if owned else "bytes that are nobody's, too"
        cases.append(Case({"devices": devices, "accesses": accesses}, None, words))
    return cases + probes(nonces, "write")


def written_rightly(case: Case, obs: Observation) -> Finding:
    bus = Bus(case.inputs["devices"])
    if "guest" in case.inputs:
        return all_of_the_guest(case, obs, bus)
    seen, done = obs.list("log"), 0
    for access in case.inputs["accesses"]:
        address, size, value = access
        bus.write(*access)
        for right in bus.log[done:]:
            actual = seen[done] if done < len(seen) else None
            done += 1
            if actual == right:
                continue
            message = f"{of(size, 'byte')}, {value:#x}, to {address:#x}: {told(actual)} where {told(right)} is expected"
            first = next(each[1] for each in case.inputs["devices"] if each[0] == right[0])
            return fail(message, wrong_part(actual, right, access, first + right[2]))
    if len(seen) > done:
        return fail(
            f"the devices got {len(seen)} writes where {done} are expected: the last is {told(seen[-1])}", "many"
        )
    return same_counts(bus.unclaimed, obs, "count")


def told(entry: object) -> str:
    """A write that a device got, in words."""
    if not (isinstance(entry, list) and len(entry) == 5):
        return "no write"
    name, _, offset, size, value = entry
    many = of(size, "byte") if type(size) is int else f"{describe(size)} for bytes"
    return f"{name} gets {number(value)} ({many} at offset {number(offset)})"


def wrong_part(actual: object, right: list[Any], access: list[int], at: int) -> str:
    """The key of the hint for a write that a device should not have got: of the cycle at `at`."""
    if not (isinstance(actual, list) and len(actual) == 5):
        return "many"
    if actual[3:] == [right[4], right[3]]:
        return "call"
    if actual[:4] != right[:4] or type(actual[4]) is not int:
        return "many"
    (address, size, whole), length, value = access, right[3], actual[4]
    ones = (1 << 8 * length) - 1
    wrong = {
        "mask": right[4] if value != value & ones else None,
        "shift": whole & ones if at > address else None,
        "narrow": right[4] & 0xFF if length > 1 else None,
        "endian": int.from_bytes(right[4].to_bytes(length, "little"), "big") if length > 1 else None,
        "top": whole >> 8 * (size - (at - address) - length) & ones,
    }
    key = next((key for key, mistake in wrong.items() if value & ones == mistake), "shift")
    return {"top": "endian"}.get(key, key)


COUNT = Hint("count", "Each cycle that nobody takes counts once, in `bus.unclaimed[at]`, by the address of the cycle; "
             "what somebody has answered doesn't count.", when="KeyError")  # fmt: skip
LENGTH = Hint("length", "Each cycle is a `device.read(offset, length)`: ask for the cycle's own bytes, not for the "
              "`size` of the whole access.")  # fmt: skip
GUEST = Hint("guest", "By hand all was well; a guest both reads and writes. Do its earlier accesses leave something "
             "behind that they shouldn't?")  # fmt: skip

CHECKS = (
    Check(
        "05.4", "a read is put together from its cycles", 1,
        exercise="read", driver="reads", cases=owned_reads, judge=read_rightly,
        hints=(
            Hint("value", "A single cycle is already the value: `device.read(offset, size)` gives a number."),
            Hint("parts", "Each part has its place, `8 * (at - address)` bits up, and all of them together are the "
                 "value."),
            Hint("endian", "The byte at the lowest address is the lowest of the value, not the highest."),
            Hint("place", "A cycle has its place by its address, `at - address` bytes up. The classic mistake counts "
                 "cycles: after one of 2 bytes, the next is 2 bytes up."),
            Hint("shift", "The parts lie on top of each other: shift each one to its place."),
            Hint("bits", "A byte has eight bits: a part is shifted by `8 * (at - address)`."),
            Hint("all", "Only one of the cycles is in the value: `value |= …` collects them."),
            LENGTH, OFFSET, NOBODY, CALL, LOOP,
        ),
    ),
    Check(
        "05.4b", "where nobody is: all ones, and counted", 1,
        exercise="read", driver="reads", cases=lonely_reads, judge=read_by_nobody, guests=("bus-prober",),
        hints=(
            Hint("ones", "Nobody drives the lines, so every bit of such a cycle is 1: `(1 << 8 * length) - 1`, as many "
                 "bytes as the cycle has, in the cycle's place."),
            LENGTH, COUNT, GUEST, OFFSET, NOBODY, CALL, LOOP,
        ),
    ),
    Check(
        "05.5", "a write brings each device its part", 1,
        exercise="write", driver="writes", cases=written, judge=written_rightly, guests=("bus-prober",),
        hints=(
            Hint("shift", "A device gets the bytes of its own cycle: shift the value down by `8 * (at - address)`."),
            Hint("mask", "The number is too large for its cycle. The classic mistake shifts, and forgets to cut off "
                 "what lies above: `& (1 << 8 * length) - 1`."),
            Hint("narrow", "`& 0xFF` leaves one byte. A cycle of `length` bytes has so many of them: `& (1 << 8 * "
                 "length) - 1`."),
            Hint("endian", "The lowest byte is for the lowest address, from cycle to cycle and within each: "
                 "\"little\"."),
            Hint("many", "Each cycle that has an owner is one `device.write(offset, length, part)`, in order."),
            COUNT, GUEST, OFFSET, NOBODY, CALL, LOOP,
        ),
    ),
)  # fmt: skip
