"""Lab 04, shadow paging: a guest that runs on the student's shadow, and gets no more than its own."""

from __future__ import annotations

from typing import Any

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint, Limits
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import LOOP, guest, led_by, suited
from autograder.stages.lab04_common import (
    ACCESSES,
    DIED,
    LIST,
    TYPES,
    access_list,
    ended,
    far,
    frames,
    inside,
    low,
    number,
    on_console,
    written,
    wrote,
)
from autograder.stages.lab04_tables import LARGE, NX, PAGE, TABLES, USER, WRITABLE, Tables, canonical
from autograder.stages.models import expected_console

# A guest needs milliseconds; an emulated host, with a processor that others use too, may need seconds.
LIMITS, SHADOW_LIMITS = Limits(seconds=8.0), Limits(seconds=16.0)
SHADOWED = 0x1F_0000  # bytes of the guest's RAM: the guest's own large page at 0 reaches beyond it
SHADOW_FRAMES = range(0x140, 0x1F0)


# ---- cases ----


def shadow_case(nonces: Nonces, tables: Tables, label: str, run: dict[str, Any]) -> Case:
    base = nonces.range(f"base {label}", 2, 60) * LARGE
    shadow = {va + at: (base + gpa + at, rights) for va, gpa, size, rights in tables.pages()
              for at in range(0, min(size, max(0, SHADOWED - gpa)), PAGE)}  # fmt: skip
    inputs = {"base": base, "ram": SHADOWED, "tables": [TABLES.start, TABLES.stop], "cr3": tables.cr3, "look": [],
              "plant": tables.plant(), "protect": False, "secret": nonces.bytes(f"secret {label}", 16), "others": [],
              **run}  # fmt: skip
    return Case(inputs, {"shadow": shadow, "base": base}, label)


def shadow_windows(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(2):
        tables, free = low(Tables(nonces, f"t{run}")), frames(nonces, SHADOW_FRAMES)
        addresses = [far(nonces, f"va {run} {n}", n == 1) | inside(nonces, f"in {run} {n}") for n in range(4)]
        for va, frame in zip(addresses, free, strict=False):
            tables.map(va, frame)
        inputs, listed, wanted = written(nonces, f"nonce{run}", addresses)
        case = shadow_case(nonces, tables, f"a guest with four pages, nonce {run + 1}", inputs)
        case.inputs["plant"] += listed
        case.inputs["look"] = [tables.gpa(va) for va in addresses]
        case.expected.update(wanted)
        cases.append(case)
    return cases


def a_greedy_guest(nonces: Nonces) -> list[Case]:
    """Rights by level, and pages that the guest does not have: the neighbour's, one far away, a large one."""
    tables, free = low(Tables(nonces)), frames(nonces, SHADOW_FRAMES)
    # The lowest 8 TiB of the upper half belong to a hypervisor by custom (Linux, x86_64/mm.rst), and a KVM that runs
    # ring 3 without VT-x does take of them. So the guest, whose ring 3 looks at all pages, keeps above.
    start = suited(lambda label: far(nonces, label, True) & ~0xF000, "start", lambda va: va >> 39 & 511 > 256 + 15)
    kinds = [(free[n], rights) for n, rights in enumerate((6, WRITABLE, USER, 0, 6 | NX))]
    kinds += [(SHADOWED + PAGE * nonces.range("beyond", 0, 15), 6), (nonces.range("remote", 1 << 20, 1 << 24) << 12, 6)]
    for n, (pa, rights) in enumerate(kinds):
        tables.map(start + PAGE * n, pa, rights)
    above = canonical(start ^ 1 << 40)  # in a PML4 entry of its own, which grants no writing
    tables.map(above, free[7], 6)
    tables.entries[tables.place(above, 39)] &= ~WRITABLE
    tables.map(canonical(start ^ 1 << 41) >> 21 << 21, LARGE * nonces.range("huge", 1, 3), shift=21)
    pages = [start + PAGE * n for n in range(len(kinds))]
    tried = [(va, way) for va in [*pages, above] for way in ACCESSES]
    codes = [0 | way[0] << 1 | way[1] << 2 | way[2] << 4 if va in pages[5:] else tables.code(va, *way)
             for va, way in tried]  # fmt: skip
    parameters = {"nonce": nonces.u64("nonce"), "address": LIST, "count": len(tried)}
    case = shadow_case(nonces, tables, "a guest that tries pages it does not have",
                       guest("rights-prober", **parameters))  # fmt: skip
    case.inputs["plant"] += [[LIST, access_list(tried)], *([pa, b"\xc3"] for pa, _ in [*kinds[:5], (free[7], 0)])]
    case.expected["console"] = expected_console("rights-prober", parameters, codes=codes)
    return [case]


# ---- judges ----


def mapped(obs: Observation) -> tuple[dict[int, Any], Finding]:
    """What the student mapped, by address, or what is wrong with its form."""
    found: dict[int, Any] = {}
    for page in obs.list("maps"):
        if not isinstance(page, list) or len(page) != 3 or not all(type(part) is int for part in page):
            return {}, fail(f"map was called with {describe(page)} where three numbers are expected", "map")
        found[page[0]] = (page[1], page[2])
    return found, OK


def beyond(case: Case, found: dict[int, Any]) -> Finding:
    """Whether the shadow shows the guest memory that is not its own."""
    base, end = case.expected["base"], case.expected["base"] + case.inputs["ram"]
    for va, (pa, _) in found.items():
        if not base <= pa < end and va not in case.expected["shadow"]:
            return fail(
                f"{va:#x} shows the machine's {number(pa)}; the guest's memory is {base:#x}–{end - 1:#x}", "beyond"
            )
    return OK


def shadow(case: Case, obs: Observation) -> Finding:
    found, form = mapped(obs)
    if not form.ok:
        return form
    base = case.expected["base"]
    for va, (pa, _) in case.expected["shadow"].items():
        if va not in found:
            part = va & ~0x1FFFFF in found or (pa - base < 0x200000 and not va >> 21)
            hint = "split" if found and part else "missing"
            return fail(f"{va:#x} is not in the shadow; the guest has it at its {pa - base:#x}", hint)
        if found[va][0] != pa:
            text = f"the shadow of {va:#x} leads to {number(found[va][0])} where {pa:#x} is expected"
            return fail(text, "base" if found[va][0] == pa - base else "split" if va & 0x1FF000 else "base")
    return OK


def shadow_works(case: Case, obs: Observation) -> Finding:
    if not (finding := shadow(case, obs)).ok:
        return finding
    if not (finding := ended(obs)).ok:
        return finding
    return wrote(case, obs, "base")


def shadow_limits(case: Case, obs: Observation) -> Finding:
    found, form = mapped(obs)
    if not form.ok:
        return form
    if not (finding := beyond(case, found)).ok:
        return finding
    for va, (_, rights) in case.expected["shadow"].items():
        if va not in found:
            return fail(f"{va:#x} is not in the shadow: see check 04.8", "missing")
        if found[va][1] != rights:
            text = f"the shadow of {va:#x} has the rights {number(found[va][1])} where {rights:#x} are expected"
            return fail(text, "rights")
    if not (finding := ended(obs)).ok:
        return finding
    return on_console(obs, case.expected["console"], "rights")


SHADOW_HINTS = (
    Hint("base", "The shadow leads to the machine's memory: the guest's physical address plus `base`."),
    Hint("beyond", "The guest reaches memory that is not its own. What lies at or beyond `ram` it does not have: don't "
         "map it, and test each 4 KiB piece of a large page. This line is the wall between two customers."),
    Hint("split", "`map` maps 4 KiB. A larger page has to be mapped in pieces, at offsets from 0 to its size in steps "
         "of 4096; each piece that the guest has memory for."),
    Hint("rights", "Pass on the rights that `pages` found: they are the guest's protection."),
    Hint("missing", "Everything that `pages` yields belongs into the shadow, as far as the guest has memory there."),
    Hint("map", "map(va, pa, rights) takes three numbers."),
    Hint("full", "Too much is mapped, or at the wrong addresses.", when="shadow tables are full"),
    DIED, TYPES, LOOP,
)  # fmt: skip


CHECKS = (
    Check(
        "04.8", "the guest runs on your shadow", 1,
        exercise="build_shadow", driver="shadow_built", cases=shadow_windows, judge=shadow_works,
        guests=("far-writer",), hints=led_by("base", SHADOW_HINTS), needs=("pages",), limits=SHADOW_LIMITS,
    ),
    Check(
        "04.8b", "and gets no more than its own", 1,
        exercise="build_shadow", driver="shadow_built", cases=a_greedy_guest, judge=shadow_limits,
        guests=("rights-prober",), hints=led_by("beyond", SHADOW_HINTS), needs=("pages",), limits=SHADOW_LIMITS,
    ),
)  # fmt: skip
