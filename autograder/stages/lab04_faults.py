"""Lab 04, page faults that the student serves: a heap on demand, and copies on write."""

from __future__ import annotations

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import guest
from autograder.stages.lab04_common import DIED, LIMITS, ended, far, frames, low, number, on_console
from autograder.stages.lab04_models import demand_pager_places
from autograder.stages.lab04_tables import PAGE, TABLES, USER, Tables
from autograder.stages.models import expected_console

# ---- cases ----


Refused = dict[int, tuple[int, int | None]]  # page number → error code of its writes, and of its reads


def pager_case(nonces: Nonces, tables: Tables, parameters: dict[str, int], refused: Refused, label: str) -> Case:
    """`refused` is what the model wants to know."""
    places = demand_pager_places(**parameters)
    pages = {va & ~0xFFF for va, _ in places}
    # Ten pages more than needed: enough for a student who is a little wasteful, too few for one who is lost.
    free = frames(nonces, range(0x400, 0x800))[: len(pages) + 10]
    inputs = {"plant": tables.plant(), "cr3": tables.cr3, "tables": [TABLES.start, 0x80_0000], "free": free}
    inputs |= {"heap": [0, 0], "look": [], "copies": False, "edges": False, **guest("demand-pager", **parameters)}
    console = expected_console("demand-pager", parameters, refused=refused)
    return Case(inputs, {"console": console, "refused": refused, "pages": sorted(pages)}, label)


def touched(parameters: dict[str, int], among: range) -> list[int]:
    """Which of these pages, by number, the guest comes to: what is special about any other page nobody would notice."""
    pages = {va - parameters["address"] >> 12 for va, _ in demand_pager_places(**parameters)}
    return sorted(pages & set(among))


def a_heap(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(2):
        start, pages = far(nonces, f"start{run}") & ~0x3F000, nonces.range(f"pages{run}", 20, 40)
        parameters = {"nonce": nonces.u64(f"nonce{run}"), "address": start, "size": pages * PAGE, "count": 16}
        case = pager_case(nonces, low(Tables(nonces, f"t{run}")), parameters, {}, f"a heap of {pages} pages")
        case.inputs["heap"] = [start, start + pages * PAGE]
        cases.append(case)
    return cases


def beyond_the_heap(nonces: Nonces) -> list[Case]:
    """The guest goes beyond both ends of its heap; and one page of the heap is there, but read-only."""
    start, pages, below, heap = far(nonces, "start") & ~0x3F000, 16, 4, 8
    tables = low(Tables(nonces))
    parameters = {"nonce": nonces.u64("nonce"), "address": start, "size": pages * PAGE, "count": 48}
    refused: Refused = {n: (2, 0) for n in range(pages) if not below <= n < below + heap}
    constant = nonces.choice("constant", touched(parameters, range(below + 1, below + heap - 1)))
    tables.map(start + constant * PAGE, frames(nonces)[0] & 0x3F_F000 | 0x20_0000, 0)
    refused[constant] = (3, None)
    case = pager_case(nonces, tables, parameters, refused, "a heap in the midst of what the guest touches")
    case.inputs.update(heap=[start + below * PAGE, start + (below + heap) * PAGE], edges=True)
    return [case]


COPY_ON_WRITE = 1 << 9


def shared_pages(nonces: Nonces) -> list[Case]:
    """All pages show one of two frames, read-only; one of them is meant to be."""
    start, pages = far(nonces, "start") & ~0x1F000, 12
    tables, shared = low(Tables(nonces)), [0x20_0000, 0x20_1000]
    parameters = {"nonce": nonces.u64("nonce"), "address": start, "size": pages * PAGE, "count": 24}
    constant = nonces.choice("constant", touched(parameters, range(pages)))
    for n in range(pages):
        place = tables.map(start + n * PAGE, shared[n % 2], USER)
        tables.entries[place] = tables.entries[place] & ~0xE00 | (COPY_ON_WRITE if n != constant else 0)
    case = pager_case(nonces, tables, parameters, {constant: (3, None)}, "twelve pages that share two frames")
    case.inputs.update(copies=True, look=shared)
    return [case]


# ---- judges ----


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
    if any(any(left) for left in obs.list("left") if isinstance(left, bytes)):
        return fail("a shared frame was written to: all who share it see the change", "shared")
    return faults(case, obs)


FAULT_HINTS = (
    Hint("page", "The page is still missing, or may not be written: map the page that holds CR2, `cr2 & ~0xFFF`, to a "
         "fresh one, with P and W. The classic mistake grants P alone."),
    Hint("endless", "`new_page` ran dry. Either the guest faults again and again, for its page is still not there; or "
         "you map more than the one page that was touched.",
         when="was called more than|still running"),
    Hint("answer", "Answer True if the access may be tried again, False if not: a bool on every path."),
    Hint("refuse", "An address outside the heap is none of yours: return False and map nothing. A pager that maps "
         "whatever is asked for hides every stray pointer."),
    Hint("protection", "Bit 0 of the error code is 1: the page is there, and refuses. A new page would not help; "
         "return False."),
    Hint("contents", "The guest did not find again what it wrote: two pages of its heap must not share one frame."),
    DIED,
)  # fmt: skip


CHECKS = (
    Check(
        "04.6", "a page comes when it is touched", 1,
        exercise="page_fault", driver="faults_served", cases=a_heap, judge=faults, limits=LIMITS,
        guests=("demand-pager",), hints=FAULT_HINTS, needs=("map_page",),
    ),
    Check(
        "04.6b", "not every fault is a wish", 1,
        exercise="page_fault", driver="faults_served", cases=beyond_the_heap, judge=faults,
        limits=LIMITS,
        guests=("demand-pager",), hints=FAULT_HINTS, needs=("map_page",),
    ),
)  # fmt: skip


STRETCH = (
    Check(
        "04.10", "stretch: copy on write", 0,
        exercise="copy_on_write", driver="faults_served", cases=shared_pages, judge=copies,
        limits=LIMITS,
        guests=("demand-pager",), needs=("walk",),
        hints=(
            Hint("contents", "The guest did not find again what it wrote: the entry must lead to the copy."),
            Hint("protection", "Only an entry with bit 9 is meant to be copied. Another read-only page is "
                 "read-only: return False."),
            Hint("refuse", "A page that isn't there can't be copied: return False."),
            Hint("answer", "True once the page has a copy of its own that may be written, else False."),
            Hint("shared", "Copy first, then let the guest write: the frame belongs to others too."),
            Hint("page", "After the copy the entry needs W=1 and the copy's address; bit 9 has done its duty.",
                 when="was called more than|still running"),
            Hint("skip", "The walk may end nowhere.", when="IndexError|TypeError"),
            Hint("gpa", "`new_copy` wants the physical address, which your `walk` gives: CR2 is a virtual one.",
                 when="GuestMemoryError"),
            DIED,
        ),
    ),
)  # fmt: skip
