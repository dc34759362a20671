"""The judges of lab 04, tasks 1 to 7: what an observation says about the student's code, and which mistake it is."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from autograder import judge
from autograder.judge import fail
from autograder.model import OK, Case, Finding
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.lab04_tables import ACCESSED, ADDRESS, DIRTY, NAMES, PRESENT, PS, SHIFTS, USER, WRITABLE

ORDER = tuple(NAMES[shift] for shift in SHIFTS)
UPPER_RIGHTS = WRITABLE | USER


def ended(obs: Observation, hint: str = "died") -> Finding:
    """Whether the guest halted, as all guests of this lab do."""
    if obs.str("stop") == "halted":
        return OK
    text = f"the guest did not halt: {obs.str('stop')}. {obs.str('why')}".rstrip()
    return fail("\n".join(part for part in (text, judge.show_exits(obs.exits[-6:])) if part), hint)


def on_console(obs: Observation, expected: bytes, hint: str = "") -> Finding:
    return judge.same_text(expected, obs.bytes("console"), "what the guest printed", hint)


def wrote(case: Case, obs: Observation, hint: str, what: str = "what the guest wrote") -> Finding:
    """The verdict on far-writer: the bytes that it left, and what it printed."""
    finding = judge.same_value(case.expected["values"], obs.list("bytes"), what, hint)
    return finding if not finding.ok else on_console(obs, case.expected["console"])


def number(value: Any) -> str:
    return f"{value:#x}" if type(value) is int else describe(value)


# ---- 04.1 ----


def parts(case: Case, obs: Observation) -> Finding:
    value, wanted = obs.list(), case.expected[0]
    given = value[0] if len(value) == 1 else None
    if not isinstance(given, list) or len(given) != 5:
        shown = f"{len(given)} numbers" if isinstance(given, list) else describe(given)
        return fail(f"{shown} where a tuple of five numbers is expected", "five")
    for name, want, got in zip((*ORDER, "offset"), wanted, given, strict=True):
        if got != want or type(got) is not int:
            hint = "offset" if name == "offset" else "nine"
            if given == wanted[3::-1] + wanted[4:]:
                hint = "order"
            elif type(got) is int and got != got & 511 and name != "offset":
                hint = "mask"
            return fail(f"{name}: {number(got)} where {number(want)} is expected", hint)
    return OK


# ---- 04.2 ----


def walked(found: Any, places: list[int], gpa: int | None) -> Finding:
    """One walk: every entry it read, then where it ended."""
    if not isinstance(found, list) or len(found) != 2 or not isinstance(found[0], list):
        return fail(f"{describe(found)} where (steps, gpa) is expected", "pair")
    steps = found[0]
    for n, step in enumerate(steps):
        if not isinstance(step, list) or len(step) != 2 or type(step[0]) is not int:
            return fail(f"steps[{n}] is {describe(step)} where (place, entry) is expected", "pair")
    if not places and steps:
        return fail(f"{len(steps)} entries were read where none is expected: the address is not canonical", "canonical")
    for depth, want in enumerate(places):
        if depth >= len(steps):
            hint = "short" if depth else "canonical"
            return fail(f"the walk ended after {depth} entries where {len(places)} are expected", hint)
        got = steps[depth][0]
        if got != want:
            return fail(f"the {ORDER[depth]} entry was read at {number(got)} where {want:#x} is expected",
                        why_place(got, want, depth))  # fmt: skip
    if len(steps) > len(places):
        return fail(f"after {len(places)} entries the walk must end, but {len(steps)} were read",
                    "present" if gpa is None else "too-far")  # fmt: skip
    if found[1] != gpa or type(found[1]) is not type(gpa):
        wanted = "None" if gpa is None else f"{gpa:#x}"
        hint = "present" if gpa is None else "offset"
        if gpa is None and not places:
            hint = "canonical"
        return fail(f"the walk leads to {number(found[1])} where {wanted} is expected", hint)
    return OK


def why_place(got: int, want: int, depth: int) -> str:
    if depth == 0:
        return "index" if got & ~0xFFF == want & ~0xFFF and got - want != 0x18 else "cr3"
    if (got ^ want) >> 52 or (got - want) % 8 or got & ~0xFFF != want & ~0xFFF:
        return "mask"
    return "index"


def walks(case: Case, obs: Observation) -> Finding:
    expected = case.expected
    if "console" in expected and not (finding := ended(obs)).ok:
        return finding
    found = obs.list("found")
    if len(found) != len(expected["gpas"]):
        return fail(f"{len(found)} walks where {len(expected['gpas'])} are expected")
    for n, (walk, places, gpa) in enumerate(zip(found, expected["places"], expected["gpas"], strict=True)):
        finding = walked(walk, places, gpa)
        if not finding.ok:
            return fail(f"{case.inputs['addresses'][n]:#x}: {finding.message}", finding.hint)
    if "values" not in expected:
        return OK
    return wrote(case, obs, "offset", "what the guest wrote, by your walk")


# ---- 04.3 ----


def accesses(case: Case, obs: Observation) -> Iterable[tuple[list[int], str, Any, Any]]:
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
    for entries, what, wanted, got in accesses(case, obs):
        if got is not None and type(got) is not int:
            return fail(f"{what}: {describe(got)} where an error code or None is expected", "type")
        if (got is None) != (wanted is None):
            said = "it is allowed, says your function; the processor refuses it"
            if wanted is None:
                said = f"refused with {got:#x}, says your function; the processor allows it"
            return fail(f"{what}: {said}", why_refused(what, wanted, any(entry >> 63 for entry in entries)))
    return OK


def why_refused(what: str, wanted: Any, no_execute: bool) -> str:
    if wanted is None and no_execute:
        return "fetch"
    if wanted is None:
        return "ring-0" if "ring 0" in what else "any"
    if not wanted & 1:
        return "absent"
    return "fetch" if "fetch" in what else "all-levels"


def codes(case: Case, obs: Observation) -> Finding:
    """The codes of what the student's function refuses. What it refuses at all is the other check's question."""
    judged = [(what, wanted, got) for _, what, wanted, got in accesses(case, obs) if wanted is not None]
    for what, wanted, got in judged:
        if got is not None and got != wanted:
            wrong = got ^ wanted if type(got) is int else 0
            hint = next((hint for bit, hint in ((1, "P"), (2, "W"), (4, "U"), (16, "I")) if wrong & bit), "type")
            return fail(f"{what}: {number(got)} where {wanted:#x} is expected", hint)
    refused = sum(got is not None for _, _, got in judged)
    if 4 * refused < len(judged):
        return fail(f"an error code came for {refused} accesses, of {len(judged)} that the processor refuses", "type")
    return OK


# ---- 04.4 ----


def built(case: Case, obs: Observation) -> Finding:
    """A walk through the tables as the student left them, for each page; the first wrong entry is named."""
    if outside := obs.ints("outside"):
        return fail(f"an entry was written to {outside[0]:#x}, where no table is", "place")
    first, image = case.inputs["tables"][0], obs.bytes("built")
    for va, pa, flags in case.expected["pages"]:
        table = case.inputs["cr3"]
        for depth, shift in enumerate(SHIFTS):
            at = table + 8 * (va >> shift & 511) - first
            if not 0 <= at <= len(image) - 8:
                return fail(f"for {va:#x}, the {ORDER[depth - 1]} entry leads to {table:#x}, where no table is", "mask")
            (entry,) = struct.unpack_from("<Q", image, at)
            shown = f"for {va:#x}, the {ORDER[depth]} entry is {entry:#x}"
            if shift == 12:
                if entry & ~0x60 != pa | flags:
                    hint = "flags" if entry & ADDRESS == pa else "leaf"
                    return fail(f"{shown} where {pa | flags:#x} is expected", hint if entry else "lost")
            elif not entry & PRESENT:
                return fail(f"{shown}: P=0, so nothing below it counts", "lost" if not entry else "upper")
            elif entry & PS:
                return fail(f"{shown}: bit 7 says large page, but a table follows", "upper")
            elif entry & UPPER_RIGHTS != UPPER_RIGHTS or entry >> 63:
                return fail(f"{shown}: it grants less than the page may want", "upper-rights")
            table = entry & ADDRESS
    return OK


def building(case: Case, obs: Observation) -> Finding:
    if not (finding := built(case, obs)).ok:
        return finding
    if not (finding := ended(obs)).ok:
        return finding
    return wrote(case, obs, "leaf")


def sharing(case: Case, obs: Observation) -> Finding:
    taken, wanted = len(obs.list("taken")), case.expected["taken"]
    if taken != wanted:
        text = f"new_table was called {taken} times where {wanted} are expected: {len(case.expected['pages'])} pages"
        return fail(text, "share" if taken > wanted else "lost")
    return building(case, obs)


def rights(case: Case, obs: Observation) -> Finding:
    if not (finding := built(case, obs)).ok:
        return finding
    if not (finding := ended(obs)).ok:
        return finding
    return on_console(obs, case.expected["console"], "flags")


# ---- 04.5 ----


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


# ---- 04.6, 04.10 ----


def faults(case: Case, obs: Observation) -> Finding:
    """Each fault got the right answer; then the guest printed the right thing."""
    start, size = (case.inputs["parameters"][name] for name in ("address", "size"))
    refused = case.expected["refused"]
    if outside := obs.ints("outside"):
        return fail(f"an entry was written to {outside[0]:#x}, where no table is", "page")
    seen: set[int] = set()
    for fault in obs.list("faults"):
        cr2, code, answer = fault if isinstance(fault, list) and len(fault) == 3 else (0, 0, None)
        if type(cr2) is not int or type(code) is not int:
            return fail(f"a fault at {number(cr2)}, error code {number(code)}", "died")
        if not start <= cr2 < start + size:
            return fail(f"the guest faulted at {cr2:#x}, which is its own code or stack (error code {code})", "died")
        page = cr2 - start >> 12
        wanted = page not in refused
        what = f"a fault at {cr2:#x}, error code {code}"
        if page in seen:
            return fail(f"{what}: a second fault in a page that you said you had mapped", "page")
        if type(answer) is not bool:
            return fail(f"{what}: the answer was {describe(answer)} where {wanted} is expected", "answer")
        if answer != wanted:
            hint = "refuse" if answer and not code & 1 else "protection" if answer else "answer"
            return fail(f"{what}: the answer was {answer} where {wanted} is expected", hint)
        if answer:
            seen.add(page)
    if not (finding := ended(obs)).ok:
        return finding
    if not (finding := on_console(obs, case.expected["console"], "contents")).ok:
        return finding
    if any(answer is not False for answer in obs.list("edges")):
        said = ", ".join(describe(answer) for answer in obs.list("edges"))
        return fail(
            f"for the bytes before and behind the heap the answers were {said} where False is expected", "refuse"
        )
    return OK


def copies(case: Case, obs: Observation) -> Finding:
    if not (finding := faults(case, obs)).ok:
        return finding
    if any(any(left) for left in obs.list("left") if isinstance(left, bytes)):
        return fail("a shared frame was written to: all who share it see the change", "shared")
    return OK


# ---- 04.7, 04.11, 04.12 ----


def mappings(obs: Observation) -> tuple[dict[int, Any], Finding]:
    """The student's list by address, or what is wrong with its form."""
    found: dict[int, Any] = {}
    for page in obs.list():
        if not isinstance(page, list) or len(page) != 4 or not all(type(part) is int for part in page):
            return {}, fail(f"{describe(page)} where (va, gpa, size, rights) is expected", "four")
        if page[0] in found:
            return {}, fail(f"{page[0]:#x} is listed twice", "address")
        found[page[0]] = page
    return found, OK


def all_pages(case: Case, obs: Observation) -> Finding:
    found, form = mappings(obs)
    if not form.ok:
        return form
    wanted = {page[0]: page for page in case.expected}
    text = f"{len(found)} pages where {len(wanted)} are expected"
    for va, page in wanted.items():
        if va not in found:
            unsigned = va >> 63 and va & (1 << 48) - 1 in found
            no_large = found and all(size <= 4096 for _, _, size, _ in found.values())
            hint = "high-half" if unsigned else "large" if page[2] > 4096 and no_large else "missing"
            return fail(f"{text}; {va:#x} is missing, a page of {page[2]:#x} bytes", hint)
    for va, page in found.items():
        if va not in wanted:
            return fail(f"{text}; {va:#x} is none", "extra")
        for name, want, got in zip(("gpa", "size"), wanted[va][1:3], page[1:3], strict=True):
            if got != want:
                return fail(f"{va:#x}: {name} {number(got)} where {want:#x} is expected", name)
    return OK


def all_rights(case: Case, obs: Observation) -> Finding:
    found, form = mappings(obs)
    if not form.ok:
        return form
    for va, _, _, want in case.expected:
        if va not in found:
            return fail(f"{va:#x} is missing: see check 04.7", "missing")
        if (got := found[va][3]) != want:
            wrong = got ^ want
            hint = "no-execute" if wrong >> 63 else "all-levels" if not wrong & ~UPPER_RIGHTS else "only-rights"
            return fail(f"{va:#x}: rights {got:#x} where {want:#x} are expected", hint)
    return OK


def all_tables(case: Case, obs: Observation) -> Finding:
    found = obs.ints()
    if missing := sorted(set(case.expected) - set(found)):
        return fail(f"{len(found)} tables where {len(case.expected)} are expected; {missing[0]:#x} is missing", "root")
    if extra := sorted(set(found) - set(case.expected)):
        return fail(f"{extra[0]:#x} is no table in use", "extra")
    return judge.same_value(len(case.expected), len(found), "how many tables were named", "twice")


def two_levels(case: Case, obs: Observation) -> Finding:
    value, (wanted, hint) = obs.list(), case.expected
    got = value[0] if len(value) == 1 else "nothing"
    if got == wanted and type(got) is type(wanted):
        return OK
    shown = "None" if wanted is None else f"{wanted:#x}"
    return fail(f"{number(got)} where {shown} is expected", hint)
