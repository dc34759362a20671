"""Lab 04, what the processor refuses: rights that differ from level to level, and the error code."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.lab04_common import ACCESSES, LIMITS, ORDER, TYPES, Access, frames, number
from autograder.stages.lab04_tables import NX, PRESENT, USER, WRITABLE, Tables, canonical


def guarded(nonces: Nonces, tables: Tables, free: list[int]) -> list[int]:
    """Pages whose rights differ at one level or another; returns their addresses. The last one isn't there."""
    kinds = list(product((7, PRESENT | WRITABLE, PRESENT | USER, 7 | NX), (6, WRITABLE, USER, 6 | NX, 0)))
    addresses = []
    for n, (upper, leaf) in enumerate(kinds):
        # Each in a gibibyte of its own: where bit 38 to 30 differ, no table below the PDPT is shared.
        va = canonical((n + 1) << 39 | nonces.range(f"guarded {n}", 0, 1 << 27) << 12)
        shift = nonces.choice(f"level {n}", (39, 30, 21))
        tables.map(va, free.pop(), leaf)
        place = tables.place(va, shift)
        tables.entries[place] = tables.entries[place] & ~7 | upper
        addresses.append(va)
    tables.drop(addresses[-1])
    return addresses


def all_accesses(nonces: Nonces, addresses: list[int]) -> list[tuple[int, Access]]:
    """All six accesses to each page, in an order of their own."""
    return [(va, way) for n, va in enumerate(addresses) for way in nonces.shuffled(f"way {n}", ACCESSES)]


def accesses(nonces: Nonces) -> list[Case]:
    tables = Tables(nonces, region=range(0x10_0000, 0x20_0000))
    tried = all_accesses(nonces, guarded(nonces, tables, frames(nonces)))
    listed = [[[entry for _, entry in tables.steps(va)], list(way)] for va, way in tried]
    codes = [tables.code(va, *way) for va, way in tried]
    return [Case({"accesses": listed}, codes, "entries whose rights differ from level to level")]


def each_access(case: Case, obs: Observation) -> Iterable[tuple[list[int], str, Any, Any]]:
    """Each access: its entries, its kind in words, the code that is right and the one that was given."""
    given = obs.list()
    listed = zip(case.inputs["accesses"], case.expected, strict=True)
    for n, ((entries, (write, user, fetch)), wanted) in enumerate(listed):
        what = "an instruction fetch" if fetch else "a write" if write else "a read"
        levels = ", ".join(f"{ORDER[depth]} {entry:#x}" for depth, entry in enumerate(entries))
        text = f"{what} by ring {3 if user else 0} through {levels}"
        yield entries, text, wanted, given[n] if n < len(given) else "nothing"


def refusals(case: Case, obs: Observation) -> Finding:
    """Only whether the access is refused."""
    wrong = []
    for entries, what, wanted, got in each_access(case, obs):
        if got is not None and type(got) is not int:
            return fail(f"{what}: {describe(got)} where an error code or None is expected", "type")
        if (got is None) != (wanted is None):
            said = "it is allowed, says your function; the processor refuses it"
            if wanted is None:
                said = f"refused with {got:#x}, says your function; the processor allows it"
            wrong.append((entries, what, wanted, said))
    if not wrong:
        return OK
    _, what, wanted, said = wrong[0]
    alike = [(entries, what, code) for entries, what, code, _ in wrong if (code is None) == (wanted is None)]
    return fail(f"{what}: {said}", why_allowed(alike) if wanted is not None else why_refused(alike))


# One access may be wrong for more than one reason, so a mistake is told by what all have in common that are wrong.
Wrong = list[tuple[list[int], str, Any]]


def why_allowed(wrong: Wrong) -> str:
    if all(not code & 1 for _, _, code in wrong):
        return "absent"
    return "fetch" if all("fetch" in what for _, what, _ in wrong) else "all-levels"


def why_refused(wrong: Wrong) -> str:
    if all("fetch" not in what and any(entry >> 63 for entry in entries) for entries, what, _ in wrong):
        return "fetch"
    return "ring-0" if all("ring 0" in what for _, what, _ in wrong) else "any"


def codes(case: Case, obs: Observation) -> Finding:
    """The codes of what the student's function refuses. What it refuses at all is the other check's question."""
    judged = [(what, wanted, got) for _, what, wanted, got in each_access(case, obs) if wanted is not None]
    for what, wanted, got in judged:
        if got is not None and got != wanted:
            wrong = got ^ wanted if type(got) is int else 0
            hint = next((hint for bit, hint in ((1, "P"), (2, "W"), (4, "U"), (16, "I")) if wrong & bit), "type")
            return fail(f"{what}: {number(got)} where {wanted:#x} is expected", hint)
    refused = sum(got is not None for _, _, got in judged)
    if 4 * refused < len(judged):
        return fail(f"an error code came for {refused} accesses, of {len(judged)} that the processor refuses", "type")
    return OK


CHECKS = (
    Check(
        "04.3", "what the processor refuses", 1,
        exercise="error_code", driver="judge_accesses", cases=accesses, judge=refusals, limits=LIMITS,
        hints=(
            Hint("all-levels", "A right counts only if every entry on the way grants it: one 0 among the four "
                 "decides. The classic mistake looks at the last entry alone."),
            Hint("any", "Your function refuses too much: reading needs no W, and only ring 3 needs U."),
            Hint("ring-0", "The kernel may touch a user's pages, and U=0 is no obstacle to it. It does obey W "
                 "(with CR0.WP=1) and no-execute."),
            Hint("fetch", "Bit 63 in any entry on the way forbids an instruction fetch, and nothing else."),
            Hint("absent", "If the last entry has P=0, every access is refused."),
            Hint("type", "Return a number, or None where the access is allowed."),
            TYPES,
        ),
    ),
    Check(
        "04.3b", "the error code, bit by bit", 1,
        exercise="error_code", driver="judge_accesses", cases=accesses, judge=codes, limits=LIMITS,
        hints=(
            Hint("P", "Bit 0 says whether the page is there: 0 for P=0, 1 for a right that is missing. The classic "
                 "mistake has it the other way round."),
            Hint("W", "Bit 1 says that the access was a write, whatever it was refused for."),
            Hint("U", "Bit 2 says that ring 3 tried it, whatever it was refused for."),
            Hint("I", "Bit 4 says that it was an instruction fetch."),
            Hint("type", "Where an access is refused, return its error code, a number: see check 04.3."),
            TYPES,
        ),
    ),
)  # fmt: skip
