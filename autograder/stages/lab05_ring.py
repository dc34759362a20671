"""Lab 05, writes that wait: the ring is emptied, and in time."""

from __future__ import annotations

from typing import Any

from autograder import judge
from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.common import guest, on_console
from autograder.stages.lab05_common import LOOP, NAMES, NOBODY, OFFSET, a_device, cycle
from autograder.stages.lab05_models import Bus
from autograder.stages.models import expected_console

SLOTS = 170

# ---- 05.11 drain ----


def rings(nonces: Nonces) -> list[Case]:
    """Both buses have a device at the same numbers, so that a write on the wrong one is seen."""
    base = nonces.range("base", 0x400, 0x900)
    ports, mmio = ([a_device(nonces, name, base, 64, 8)] for name in nonces.choice("names", (NAMES[:2], NAMES[2:4])))
    cases = []
    for label, firsts, many in (
        ("a few writes", (0, 5), (1, 6)),
        ("a ring that wraps around", (165, SLOTS - 1), (12, 3)),
        ("an empty ring, and a full one", (7, 100), (0, SLOTS - 1)),
    ):
        made = []
        for first, count in zip(firsts, many, strict=True):
            entries = []
            for n in range(count):
                name = f"{label} {first} {n}"
                size = nonces.choice(f"size {name}", (1, 2, 4, 8))
                pio = nonces.range(f"pio {name}", 0, 2)
                entries.append([pio, base + nonces.range(f"at {name}", 0, 56), nonces.bytes(f"data {name}", size)])
            made.append([first, entries])
        cases.append(Case({"slots": SLOTS, "ports": ports, "mmio": mmio, "rings": made}, None, label))
    return cases


def drained(case: Case, obs: Observation) -> Finding:
    buses = Bus(case.inputs["mmio"]), Bus(case.inputs["ports"])
    seen, places, done = obs.list("log"), obs.list("places"), 0
    for number, (first, entries) in enumerate(case.inputs["rings"]):
        last = (first + len(entries)) % SLOTS
        words = f"slots {first} to {(last - 1) % SLOTS}" if entries else f"an empty ring at slot {first}"
        for place, (pio, address, data) in enumerate(entries):
            start = len(buses[pio].log)
            buses[pio].write(address, len(data), int.from_bytes(data, "little"))
            for right in buses[pio].log[start:]:
                actual = seen[done] if done < len(seen) else None
                done += 1
                if actual != right:
                    got = cycle(actual) if actual is not None else "nothing more"
                    message = f"{words}, entry {place}: {got}, where the right one is {cycle(right)}"
                    wraps = first + len(entries) > SLOTS
                    return fail(message, wrong_entry(actual, right, wraps, wraps and first + place >= SLOTS - 1))
        where = places[number] if number < len(places) else None
        if where != [last, last]:
            return fail(
                f"{words}: `first` and `last` are {where} in the end, where {[last, last]} is expected", "first"
            )
    return OK if len(seen) == done else fail(f"the devices got {len(seen)} writes where {done} wait", "again")


def wrong_entry(actual: object, right: list[Any], wraps: bool, behind: bool) -> str:
    """The key of the hint for an entry that was not done as it should be: one of a ring that wraps, at its end?"""
    if not (isinstance(actual, list) and len(actual) == 5):
        return "less" if wraps else "all"
    if behind:
        return "wrap"
    if actual[0] != right[0]:
        return "pio" if actual[1:] == right[1:] else "order"
    if actual[2] == right[2] and actual[3] != right[3]:
        return "data"
    if actual[2:4] == right[2:4]:
        return "endian"
    return "order"


# ---- 05.12 work ----


def mixes(nonces: Nonces) -> list[Case]:
    cases = []
    for run, (size, native) in enumerate(((3, False), (40, True), (250, False))):
        where = {"address": 0xD000_0000 + 0x1000 * nonces.range(f"page{run}", 0, 0xFFFF), "value": 0x600 + 16 * run}
        parameters = {"nonce": nonces.u64(f"nonce{run}"), "count": 3, "size": size} | where
        wanted = {"console": expected_console("mixer", parameters), "taken": 4 * size}
        label = f"{size} numbers before each reading"
        cards = [0x700 + 16 * nonces.range(f"card{run}", 0, 9), 0x40, 0x20, where["value"] - 8]
        cases.append(Case({"native": native, "cards": cards} | guest("mixer", **parameters), wanted, label))
    return cases


STRANGERS = {4: "DEBUG", 8: "SHUTDOWN", 9: "FAIL_ENTRY", 17: "INTERNAL_ERROR"}
KINDS = {"in": "an IN", "out": "an OUT", "read": "a read", "write": "a write", "hlt": "HLT"}


def loops(nonces: Nonces) -> list[Case]:
    reason = nonces.choice("reason", tuple(STRANGERS))
    stranger = Case({"reason": reason}, {"reason": reason}, f"exit reason {reason}, which nobody handles")
    return [*mixes(nonces), script(nonces), stranger]


def script(nonces: Nonces) -> Case:
    """Exits of every kind, made up, each with writes that wait before it; and one with none."""
    at = nonces.range("at", 0x400, 0x900)
    ports, mmio = a_device(nonces, NAMES[0], at, 64, 8), a_device(nonces, NAMES[1], 0xD000_0000 + at, 64, 8)
    kinds = ["in", "out", "read", "write"]
    steps: list[list[Any]] = []
    for n, kind in enumerate([*sorted(kinds, key=lambda kind: nonces.u64(f"kind {kind}")), "in", "hlt"]):
        entries = [[pio, (mmio, ports)[pio][1] + nonces.range(f"to {n}{pio}", 0, 60), nonces.bytes(f"data {n}{pio}", 4)]
                   for pio in (n % 2, 1 - n % 2)]  # fmt: skip
        first = (ports if kind in ("in", "out") else mmio)[1]
        where = [] if kind == "hlt" else [first + nonces.range(f"where {n}", 0, 60), nonces.bytes(f"exit {n}", 4)]
        steps.append([[] if n == len(kinds) else entries, kind, *where])
    return Case({"ports": [ports], "mmio": [mmio], "steps": steps}, None, "writes that wait before each kind of exit")


def in_step(case: Case, obs: Observation) -> Finding:
    """The devices saw the writes that waited, and then the exit, at each step."""
    bus, seen, done = Bus([*case.inputs["ports"], *case.inputs["mmio"]]), obs.list("log"), 0
    for place, (entries, kind, *where) in enumerate(case.inputs["steps"]):
        for _, address, data in entries:
            bus.write(address, len(data), int.from_bytes(data, "little"))
        waiting = len(bus.log)
        if kind in ("in", "read"):
            bus.read(where[0], 4)
        elif kind != "hlt":
            bus.write(where[0], 4, int.from_bytes(where[1], "little"))
        for right in bus.log[done:]:
            actual = seen[done] if done < len(seen) else None
            done += 1
            if actual != right:
                got = cycle(actual) if actual is not None else "nothing more"
                due = "a write that waited comes first" if done <= waiting else "the right one is"
                message = f"exit {place + 1}, {KINDS[kind]}: {got}, where {due}: {cycle(right)}"
                return fail(message, "last" if kind == "hlt" else "late")
    return OK if len(seen) == done else fail(f"the devices saw {len(seen)} cycles where {done} are expected", "late")


def stopped(case: Case, obs: Observation) -> Finding:
    """An exit that nobody knows: an error that has its number, or its name."""
    reason, said = case.expected["reason"], str(obs.raw("said") if "said" in obs else "")
    names = str(reason), hex(reason), STRANGERS[reason]
    if obs.raised == "RuntimeError" and any(name.lower() in said.lower() for name in names):
        return OK
    how = f"raised {obs.raised}: {said}" if obs.raised else "returned"
    how = "went on to the next exit" if obs.raised == "WentOnError" else how
    return fail(f"`work` {how}; a RuntimeError with the reason, {reason}, in its text is expected", "stranger")


def mixed(case: Case, obs: Observation) -> Finding:
    if "steps" in case.inputs:
        return in_step(case, obs)
    if "reason" in case.inputs:
        return stopped(case, obs)
    if not obs.int("halted"):
        return fail("the loop ended before the guest had halted", "early")
    if not obs.bytes("console"):
        return fail(f"the guest printed nothing\n{judge.show_exits(obs.exits)}".rstrip(), "buses")
    finding = on_console(obs, case.expected["console"], "late")
    if not finding.ok:
        return finding
    taken, wanted = obs.int("taken"), case.expected["taken"]
    if taken != wanted:
        left = " (they are still in the ring)" if obs.raw("left") is True else ""
        return fail(f"the device got {taken} numbers where {wanted} were written{left}", "last")
    return OK


WORK = (
    Hint("late", "A total came too early, or a write too late. Everything in the ring is older than the exit: `drain` "
         "comes right behind `go()`, before you serve anything. The classic mistake drains afterwards."),
    Hint("last", "The guest's last writes were still in the ring when it halted. Drain before you look at HLT, too."),
    Hint("early", "Go round and round, one exit after the other, until the guest halts."),
    Hint("buses", "The console is on the bus of ports: `serve_port(ports, run)`, and `serve_mmio(mmio, run)`."),
    Hint("halt", "HLT ends the guest: return, and don't enter it again.", when="more than 6000|WentOn"),
    Hint("died", "An exit of memory served as one of a port, or the other way round, reads nonsense: look at "
         "`run.exit_reason`.", when="the guest made no exit"),
    NOBODY, OFFSET, LOOP,
    Hint("known", "That exit is one of the three that you know, KVM_EXIT_IO, KVM_EXIT_MMIO and KVM_EXIT_HLT: which it "
         "is says `run.exit_reason`, once `go()` is back (it returns nothing).", when="RuntimeError"),
)  # fmt: skip

CHECKS = (
    Check(
        "05.11", "every write that waits, oldest first", 1,
        exercise="drain", driver="ring_drained", cases=rings, judge=drained,
        hints=(
            Hint("wrap", "Behind the last slot, number SLOTS - 1, comes slot 0: `(ring.first + 1) % SLOTS`.",
                 when="wraps around.*list index|SIGSEGV|still running"),
            Hint("all", "Every entry from `first` up to, not with, `last`, until the ring is empty: and no others.",
                 when="list index"),
            Hint("less", "The ring has wrapped around: `first` is larger than `last`. It is empty only when they are "
                 "equal; the classic mistake asks for `<`."),
            Hint("slot", "Slot n of the ring is `ring.coalesced_mmio[n]`: the fields are there.", when="no field"),
            Hint("pio", "`entry.pio` is 1 for a write to a port: that belongs to the bus of ports."),
            Hint("data", "Only `entry.len` of the eight bytes in `data` count; the others are left over."),
            Hint("endian", "The lowest byte comes first: \"little\"."),
            Hint("order", "One after the other as they lie in the ring, whichever bus they are for. The oldest is at "
                 "`first`."),
            Hint("first", "Give each slot back when its write is done: `first` moves on until it is `last`. `last` is "
                 "KVM's."),
            Hint("again", "An entry that was done must not come again: `first` moves on by one each time."),
            OFFSET, NOBODY, LOOP,
        ),
    ),
    Check(
        "05.12", "the ring first, then the exit", 1,
        exercise="work", driver="mixed", cases=loops, judge=mixed, guests=("mixer",),
        hints=(
            *WORK,
            Hint("stranger", "An exit that you don't know must raise RuntimeError, with its reason in the text. The "
                 "classic mistake is an `else` that takes everything for MMIO."),
        ),
    ),
    Check(
        "05.12b", "a guest on a bus that is all yours", 1,
        exercise="work", driver="chain_of_parts", cases=mixes, judge=mixed, guests=("mixer",),
        needs=("Bus", "attach", "find", "cycles", "read", "write", "serve_port", "serve_mmio", "drain"),
        hints=WORK,
    ),
)  # fmt: skip
