"""Lab 05, stretch problems: checked like the others, and worth no points."""

from __future__ import annotations

from collections import Counter
from typing import Any

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.lab05_common import LOOP, NAMES, number, of
from autograder.stages.lab05_ring import SLOTS

# ---- 05.14 histogram ----


def waits(nonces: Nonces) -> list[Case]:
    edges = [each for bit in (0, 3, 10, 29) for each in (1 << bit, (2 << bit) - 1)] + [(1 << 52) - 1, (1 << 60) - 1]
    drawn = [nonces.range(f"quick {n}", 900, 9000) for n in range(60)]
    drawn += [nonces.range(f"slow {n}", 10**6, 10**8) for n in range(5)]
    return [Case({"calls": [[values]]}, [list(each) for each in sorted(buckets(values).items())], label)
            for values, label in ((edges, "values at the edges of the buckets"), (drawn, "65 waits"))]  # fmt: skip


def buckets(values: list[int]) -> Counter[int]:
    return Counter(1 << value.bit_length() - 1 for value in values)


def counted(case: Case, obs: Observation) -> Finding:
    given = obs.list("values")
    seen = given[0] if given else None
    if not isinstance(seen, list) or any(not (isinstance(each, list) and len(each) == 2) for each in seen):
        return fail("`histogram` must give a list of pairs (power of two, how many)", "pairs")
    if seen == case.expected:
        return OK
    right, actual = dict(map(tuple, case.expected)), {str(at): count for at, count in seen}
    wrong = next((at for at in right if actual.get(str(at)) != right[at]), None)
    if wrong is None:
        extra = len(seen) > len(right)
        return fail("the buckets are right, but for empty ones, or their order", "empty" if extra else "order")
    values = case.inputs["calls"][0][0]
    return fail(f"bucket {wrong}: {number_of(actual.get(str(wrong)))} values where there should be {right[wrong]}",
                "rounds" if buckets(values) and wrong > 1 << 40 else "bucket")  # fmt: skip


def number_of(count: object) -> str:
    return str(count) if type(count) is int else "no" if count is None else describe(count)


# ---- 05.15 Routes ----


def journeys(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(2):
        at = nonces.range(f"at{run}", 0x100, 0x300)
        claims = [[name, at + 16 * n, 8] for n, name in enumerate(NAMES[:5])]
        gap, name = at + 10, NAMES[nonces.range(f"name{run}", 0, 5)]
        there = at + 16 * NAMES.index(name) + 3
        script: list[list[Any]] = [["find", there], ["find", gap], ["find", there], ["find", gap]]
        script += [["attach", ["late comer", at + 8, 4]], ["find", gap], ["find", there], ["find", gap]]
        script += [["detach", name], ["find", there], ["find", gap], ["find", there]]
        script += [["attach", ["heir", there - 1, 3]], ["find", there], ["find", there - 3], ["find", there]]
        cases.append(Case({"claims": claims, "script": script}, None, f"journey {run + 1} of 2"))
    return cases


def travelled(case: Case, obs: Observation) -> Finding:
    claims = [list(each) for each in case.inputs["claims"]]
    names, looks, known, place = obs.list("names"), obs.ints("looks"), set(), 0
    for what, argument in case.inputs["script"]:
        if what == "find":
            wanted = next((each[0] for each in claims if each[1] <= argument < each[1] + each[2]), None)
            actual = names[place] if place < len(names) else "nothing"
            if actual != (wanted and [wanted]):
                said = actual[0] if isinstance(actual, list) and len(actual) == 1 else describe(actual)
                key = "stale" if known_before(case, place, argument) else "find"
                return fail(f"find number {place + 1}, {argument:#x}: {said} where {wanted} is expected", key)
            if argument in known and looks[place]:
                message = f"find number {place + 1}, {argument:#x} again: it looked at claims {looks[place]} times"
                return fail(message, "nobody" if wanted is None else "again")
            known.add(argument)
            place += 1
        else:
            known.clear()
            claims = [each for each in claims if each[0] != argument] if what == "detach" else [*claims, argument]
    left = [each[0] for each in sorted(claims, key=lambda each: int(each[1]))]
    return OK if obs.list("left") == left else fail(f"in the end the bus has {obs.list('left')}, not {left}", "bus")


def known_before(case: Case, place: int, address: int) -> bool:
    finds = [argument for what, argument in case.inputs["script"] if what == "find"]
    return address in finds[:place]


# ---- 05.16 aliases ----


def cards(nonces: Nonces) -> list[Case]:
    claims = []
    for lines in (10, 12, 8, 15):
        low = nonces.range(f"low {lines}", 0x10, (1 << lines) - 8)
        claims.append([low, nonces.range(f"count {lines}", 1, 9), lines])
    claims.append([0x6E8 + 8 * nonces.range("high", 0, 4), 4, 10])
    claims.append([0x3FF, 1, 10])  # its last alias is the last port of all
    return [Case({"claims": [each]}, None, f"{each[2]} lines, and a claim from {each[0]:#x} on") for each in claims]


def answered(case: Case, obs: Observation) -> Finding:
    first, count, lines = case.inputs["claims"][0]
    values = obs.list("values")
    seen = values[0] if values else None
    wanted = [[at, at + count] for at in range(0x10000) if at % (1 << lines) == first % (1 << lines)]
    if seen == wanted:
        return OK
    if not isinstance(seen, list) or any(not (isinstance(each, list) and len(each) == 2) for each in seen):
        return fail("`aliases` must give a list of ranges", "ranges")
    shown = ", ".join(number(each[0]) for each in seen[:5])
    message = f"{len(seen)} ranges, from {shown or 'nowhere'}; {len(wanted)} are expected, from {wanted[0][0]:#x} on"
    if seen == [each for each in wanted if each[0] >= first]:
        return fail(message, "below")
    if seen == wanted[:-1]:
        return fail(message, "end")
    if [each[0] for each in seen] == [each[0] for each in wanted]:
        return fail(message, "length")
    return fail(message, "apart")


# ---- 05.17 rings ----

DATAMATCH, PIO = 1, 2


def bells(nonces: Nonces) -> list[Case]:
    at, value, other = nonces.range("at", 0x500, 0xFFF0), nonces.range("value", 1, 200), 201
    sized = {"addr": at, "len": 4, "flags": 0, "datamatch": other}
    plain = sized | {"len": 0, "datamatch": value}
    exact, port = sized | {"flags": DATAMATCH, "datamatch": value}, sized | {"flags": PIO}
    both = exact | {"flags": DATAMATCH | PIO, "len": 2}
    calls = [
        [sized, False, at, 4, value], [plain, False, at, 1, value], [plain, False, at, 8, value],
        [plain, True, at, 4, value],
        [plain, False, at + 1, 4, value], [sized, False, at, 2, value],
        [sized, False, at - 4, 4, value], [sized, False, at + 2, 4, value],
        [exact, False, at, 4, value], [exact, False, at, 4, other],
        [exact, True, at, 4, value], [port, True, at, 4, value], [port, False, at, 4, value],
        [both, True, at, 2, value], [both, True, at, 2, other], [both, True, at, 4, value],
    ]  # fmt: skip
    return [Case({"calls": [each]}, None, in_words(each)) for each in calls]


def in_words(call: list[Any]) -> str:
    bell, pio, address, size, value = call
    data = f", datamatch={bell['datamatch']:#x}" if "datamatch" in bell else ""
    where = f"port {address:#x}" if pio else f"address {address:#x}"
    return (f"a bell of addr={bell['addr']:#x}, len={bell['len']}, flags={bell['flags']}{data}, and {value:#x} "
            f"written to {where}, {of(size, 'byte')}")  # fmt: skip


def heard(case: Case, obs: Observation) -> Finding:
    bell, pio, address, size, value = case.inputs["calls"][0]
    conditions = {
        "bus": bool(bell["flags"] & PIO) == pio,
        "address": bell["addr"] == address,
        "length": bell["len"] in (0, size),
        "data": not bell["flags"] & DATAMATCH or bell.get("datamatch") == value,
    }
    wanted, values = all(conditions.values()), obs.list("values")
    actual = values[0] if values else None
    if type(actual) not in (bool, int):
        return fail(f"{describe(actual)} where {wanted} is expected", "bool")
    if bool(actual) is not wanted:
        failed = [key for key, right in conditions.items() if not right]
        unasked = "data" if bell.get("datamatch", value) != value else "length" if bell["len"] == 0 else "rings"
        return fail(f"{describe(actual)} where {wanted} is expected", failed[0] if failed else unasked)
    return OK


# ---- 05.18 push ----


def pushes(nonces: Nonces) -> list[Case]:
    cases = []
    shapes = (("an empty ring", 3, 5), ("the end of the page", 167, 6), ("a full ring", 90, 175),
              ("a full ring up to the last slot", 0, SLOTS))  # fmt: skip
    for label, first, many in shapes:
        entries = []
        for n in range(many):
            data = nonces.bytes(f"data {label} {n}", nonces.choice(f"size {label} {n}", (1, 2, 4, 8)))
            taken = 1 if many > SLOTS and n == many - 2 else 0
            entries.append([nonces.range(f"at {label} {n}", 0x400, 0xFFFF), data, n & 1, taken])
        cases.append(Case({"slots": SLOTS, "first": first, "entries": entries}, None, label))
    return cases


def pushed(case: Case, obs: Observation) -> Finding:
    first, entries = case.inputs["first"], case.inputs["entries"]
    answers, taken = obs.list("answers"), 0
    waiting: list[list[Any]] = []
    for place, (address, data, pio, free) in enumerate(entries):
        taken += free
        del waiting[:free]
        fits = len(waiting) < SLOTS - 1
        answer = answers[place] if place < len(answers) else None
        if type(answer) not in (bool, int) or bool(answer) is not fits:
            shown = answer if isinstance(answer, bool) else describe(answer)
            key = "full" if not fits or len(waiting) > SLOTS - 3 else "answer"
            message = f"{of(len(waiting), 'write')} waiting, and one more comes: {shown} where {fits} is expected"
            return fail(message, key)
        if not fits and obs.list("still")[place : place + 1] != [True]:
            return fail(f"{of(len(waiting), 'write')} waiting, and one more comes: the full ring was changed", "still")
        if fits:
            waiting.append([address, data, pio])
    last = (first + taken + len(waiting)) % SLOTS
    places = [(first + taken) % SLOTS, last]
    if obs.list("places") != places:
        return fail(f"`first` and `last` are {obs.list('places')} in the end, not {places}", "last")
    return OK if obs.list("held") == waiting else fail("the ring has other entries than were put in", "entry")


CHECKS = (
    Check(
        "05.14", "stretch: a histogram", 0,
        exercise="histogram", driver="called_with", cases=waits, judge=counted,
        hints=(
            Hint("bucket", "A value belongs to the largest power of two that isn't larger than it."),
            Hint("rounds", "`log2` works with fractions, and rounds: just below a large power of two it says too much. "
                 "`bit_length` counts exactly."),
            Hint("empty", "Leave out the buckets in which there is nothing."),
            Hint("order", "In order, the smallest first."),
            Hint("pairs", "A list of pairs: `sorted(counter.items())`."),
            LOOP,
        ),
    ),
    Check(
        "05.15", "stretch: routes that are remembered", 0,
        exercise="Routes", driver="routes", cases=journeys, judge=travelled,
        hints=(
            Hint("stale", "What was remembered is no longer true: each `attach` and each `detach` may change who is "
                 "there. Forget it all."),
            Hint("again", "The second time no claim needs to be looked at: remember who was found."),
            Hint("nobody", "That nobody is there is worth remembering too. None as an entry is not the same as no "
                 "entry: ask `address in self.known`."),
            Hint("find", "Who is there the first time, `find` knows."),
            Hint("bus", "`attach` and `detach` must change `bus.devices` as well."),
            Hint("missing", "Not every address has been asked for: the bus may have had devices before you came, and "
                 "what isn't remembered can't be forgotten.", when="KeyError"),
            LOOP,
        ),
    ),
    Check(
        "05.16", "stretch: a card with too few wires", 0,
        exercise="aliases", driver="aliases_of", cases=cards, judge=answered,
        hints=(
            Hint("apart", "The card compares `lines` bits: it answers again each `1 << lines` addresses, up to "
                 "0xFFFF."),
            Hint("below", "There are aliases below the claim as well: begin with its low bits only."),
            Hint("length", "Each alias is as long as the claim."),
            Hint("end", "The last port is 0xFFFF, and a range's stop is one more: `range(base, 0x10000, …)`."),
            Hint("ranges", "A list of `range`s."),
            LOOP,
        ),
    ),
    Check(
        "05.17", "stretch: does it ring?", 0,
        exercise="rings", driver="rung", cases=bells, judge=heard,
        hints=(
            Hint("bus", "Ports and addresses are two spaces with the same numbers: KVM_IOEVENTFD_FLAG_PIO says which."),
            Hint("address", "A bell hangs at one address: a write beside it, or into the middle, is another's."),
            Hint("length", "A `len` of 0 takes every size; any other takes only its own."),
            Hint("data", "Only with KVM_IOEVENTFD_FLAG_DATAMATCH must the value be `datamatch`."),
            Hint("bool", "Return True or False."),
            Hint("rings", "All conditions are met here: it rings."),
            LOOP,
        ),
    ),
    Check(
        "05.18", "stretch: the kernel's end of the ring", 0,
        exercise="push", driver="ring_filled", cases=pushes, judge=pushed,
        hints=(
            Hint("full", "One slot stays free: the ring is full when the slot behind `last` is `first`. (Were the last "
                 "one used, it would look empty.)"),
            Hint("still", "Where the ring is full, nothing changes: look first, then write."),
            Hint("last", "`last` moves on by one for each write that was added, and wraps around; `first` is the other "
                 "side's."),
            Hint("entry", "Four fields: `phys_addr`, `len`, `pio`, and `data`, filled up to eight bytes. First the "
                 "entry, then `last`."),
            Hint("answer", "True where the write was added."),
            Hint("data", "`entry.data` has eight bytes: `data.ljust(8, b\"\\0\")`.", when="initializer|initialize"),
            LOOP,
        ),
    ),
)  # fmt: skip
