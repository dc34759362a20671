"""Lab 04, accessed and dirty: which pages a guest has used, round after round."""

from __future__ import annotations

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import LOOP, suited
from autograder.stages.lab04_common import DIED, LIMITS, ended, far, frames, low, number
from autograder.stages.lab04_models import page_user_accesses
from autograder.stages.lab04_tables import ACCESSED, DIRTY, PAGE, PRESENT, TABLES, Tables, canonical


def rounds_of_use(nonces: Nonces) -> list[Case]:
    tables, free = low(Tables(nonces)), frames(nonces)
    start, pages = far(nonces, "start") & ~0x1F000, 24
    addresses = [start + PAGE * n for n in range(pages)]
    for va in addresses:
        tables.map(va, free.pop())

    def some_only_read(nonce: int) -> bool:
        touched, written = page_user_accesses(nonce, pages * PAGE, 10)
        return bool(written and touched - written)

    every = [suited(nonces.u64, f"nonce{n}", some_only_read) for n in range(3)]
    rounds = [{"nonce": nonce, "address": start, "size": pages * PAGE, "count": 10} for nonce in every]
    used = []
    for each in rounds:
        touched, written = page_user_accesses(each["nonce"], each["size"], each["count"])
        used.append([[start + PAGE * n for n in sorted(which)] for which in (touched, written)])
    nowhere = canonical(start ^ 1 << 46)  # was a page once; its marks are still there
    place = tables.map(nowhere, free.pop())
    tables.entries[place] = (tables.entries[place] | ACCESSED | DIRTY) & ~PRESENT
    inputs = {"guest": "page-user", "rounds": rounds, "plant": tables.plant(), "cr3": tables.cr3,
              "tables": [TABLES.start, TABLES.stop], "places": [tables.place(va) for va in addresses],
              "addresses": [*addresses, nowhere]}  # fmt: skip
    return [Case(inputs, {"used": used, "addresses": addresses}, f"{pages} pages and three rounds")]


def harvests(case: Case, obs: Observation, rounds: int) -> Finding:
    """The first so many rounds."""
    seen = obs.list("rounds")
    for n, used in enumerate(case.expected["used"][:rounds]):
        one = Observation(seen[n] if n < len(seen) else {}, obs.exercise)
        if not (finding := ended(one)).ok:
            return finding
        before, value = one.ints("before"), one.list()
        # The processor may look ahead, and mark a page as accessed that the guest never came to: its word counts.
        pages = list(zip(case.expected["addresses"], before, strict=False))
        marked = [[va for va, entry in pages if entry & bit] for bit in (ACCESSED, DIRTY)]
        if n == 0 and not (set(used[0]) <= set(marked[0]) and used[1] == marked[1]):
            return fail("the guest did not leave its marks in the tables")
        if len(value) != 2 or not all(isinstance(part, list) for part in value):
            return fail(f"{describe(one.raw('value'))} where two lists are expected", "two-lists")
        for name, want, got in zip(("accessed", "dirty"), used if n else marked, value, strict=True):
            wanted = set(want) if not n or name == "dirty" else set(want) | set(marked[0]) & set(got)
            if extra := [va for va in got if va not in wanted]:
                where = f"in round {n + 1}, {number(extra[0])} is not {name}, but your list has it"
                hint = "cleared" if n else "bits"
                if extra[0] not in case.expected["addresses"]:
                    hint = "skip" if extra[0] in case.inputs["addresses"] else "address"
                return fail(where, hint)
            if missing := sorted(wanted - set(got)):
                return fail(f"in round {n + 1}, {missing[0]:#x} is {name}, but not in your list", "bits")
            if got != sorted(got):
                return fail(f"the {name} pages come in another order than `pages` has them", "order")
        after = one.ints("after")
        for va, old, new in zip(case.expected["addresses"], before, after, strict=False):
            if new != old & ~(ACCESSED | DIRTY):
                what = f"{va:#x}: the entry was {old:#x}, and is {new:#x} afterwards"
                return fail(what, "cleared" if new & (ACCESSED | DIRTY) else "only-two")
    return OK


def first_harvest(case: Case, obs: Observation) -> Finding:
    """The lists of the first round alone; what it leaves behind is the other check's."""
    first = obs.list("rounds")[0] if obs.list("rounds") else {}
    one = Observation(first, obs.exercise)
    cleared = [entry & ~(ACCESSED | DIRTY) for entry in one.ints("before")]
    return harvests(case, Observation({"rounds": [{**first, "after": cleared}]}, obs.exercise), 1)


def next_harvests(case: Case, obs: Observation) -> Finding:
    if outside := obs.ints("outside"):
        return fail(f"an entry was written to {outside[0]:#x}, where no table is", "only-two")
    return harvests(case, obs, 3)


HARVEST_HINTS = (
    Hint("bits", "Accessed is bit 5 (0x20), dirty bit 6 (0x40), both of the entry that maps the page: the last step."),
    Hint("cleared", "Both bits must be cleared and the entry written back to its place, accessed or not dirty: else "
         "the next round reports this one again."),
    Hint("only-two", "Clear these two bits and no others: `entry & ~0x60`."),
    Hint("two-lists", "Return two lists of addresses: (accessed, dirty)."),
    Hint("order", "Keep the order of `pages`."),
    Hint("skip", "An address that is mapped nowhere is skipped, whatever its entry holds: `gpa` is None.",
         when="IndexError|TypeError"),
    Hint("address", "The lists hold virtual addresses, as `pages` has them."),
    DIED, LOOP,
)  # fmt: skip


CHECKS = (
    Check(
        "04.5", "which pages were read, and which written", 1,
        exercise="harvest", driver="bits_harvested", cases=rounds_of_use, judge=first_harvest,
        limits=LIMITS,
        guests=("page-user",), hints=HARVEST_HINTS, needs=("walk",),
    ),
    Check(
        "04.5b", "a clean sheet for the next round", 1,
        exercise="harvest", driver="bits_harvested", cases=rounds_of_use, judge=next_harvests,
        limits=LIMITS,
        guests=("page-user",), hints=HARVEST_HINTS, needs=("walk",),
    ),
)  # fmt: skip
