"""Lab 04, building tables: a guest that lives on the student's, tables that are shared, rights that hold."""

from __future__ import annotations

import struct
from typing import Any

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.common import LOOP, guest, led_by
from autograder.stages.lab04_common import (
    ACCESSES,
    DIED,
    LIMITS,
    LIST,
    ORDER,
    TYPES,
    UPPER_RIGHTS,
    access_list,
    ended,
    far,
    frames,
    inside,
    on_console,
    written,
    wrote,
)
from autograder.stages.lab04_tables import ADDRESS, NX, PAGE, PRESENT, PS, SHIFTS, USER, WRITABLE, Tables
from autograder.stages.models import expected_console

BUILT = range(0x10_0000, 0x12_0000)  # where the student's tables lie
GUEST_PAGES = (0x1000, 0x5000, 0x6000, LIST, 0x7E000, 0x7F000)  # code, stacks, list, GDT


def build_case(nonces: Nonces, pages: list[tuple[int, int, int]], label: str, run: dict[str, Any]) -> Case:
    """The student maps these pages, (va, pa, flags), and those that the guest itself needs."""
    everything = [*((page, page, 7) for page in GUEST_PAGES), *pages]
    tables = Tables(nonces, f"model {label}")
    for va, _, _ in everything:
        tables.place(va)
    free = nonces.shuffled(f"{label} table", BUILT[::PAGE])
    # A page of the kernel's alone comes first: whoever copies its flags upwards shuts out all that follow.
    order = sorted(everything, key=lambda page: (page[2] != PRESENT, nonces.u64(f"{label} order {page[0]}")))
    inputs = {"pages": [list(page) for page in order], "cr3": free[0], "free": free[1:],
              "tables": [BUILT.start, BUILT.stop], "look": [], **run}  # fmt: skip
    return Case(inputs, {"pages": everything, "taken": tables.used - 1}, label)


def a_builder_case(nonces: Nonces, addresses: list[int], label: str) -> Case:
    free = frames(nonces)
    offsets = [inside(nonces, f"{label} in {n}") for n in range(len(addresses))]
    pages = [(va, free[n], 7) for n, va in enumerate(addresses)]
    places = [va | offset for va, offset in zip(addresses, offsets, strict=True)]
    run, listed, wanted = written(nonces, f"nonce {label}", places)
    case = build_case(nonces, pages, label, run)
    case.inputs["plant"] = listed
    case.inputs["look"] = [free[n] | offset for n, offset in enumerate(offsets)]
    case.expected.update(wanted)
    return case


def far_pages(nonces: Nonces) -> list[Case]:
    cases = []
    for run in (1, 2):
        addresses = [far(nonces, f"va {run} {n}", n == 1) for n in range(3)]
        cases.append(a_builder_case(nonces, addresses, f"pages far apart, nonce {run}"))
    return cases


def neighbours(nonces: Nonces) -> list[Case]:
    cases = []
    for name, shift in (("next page", 12), ("next page table", 21), ("next page directory", 30)):
        va = far(nonces, name)
        cases.append(a_builder_case(nonces, [va, va ^ 1 << shift], f"a page and its {name}"))
    return cases


def rights_built(nonces: Nonces) -> list[Case]:
    tables, free = Tables(nonces, "rights"), frames(nonces)
    start = far(nonces, "start") & ~0xF000
    leaves = (7, PRESENT | WRITABLE, PRESENT | USER, PRESENT, 7 | NX)
    pages = [(start + PAGE * n, free[n], flags) for n, flags in enumerate(leaves)]
    for va, pa, flags in pages:
        tables.map(va, pa, flags)
    tried = [(va, way) for va, _, _ in pages for way in ACCESSES]
    parameters = {"nonce": nonces.u64("nonce"), "address": LIST, "count": len(tried)}
    case = build_case(nonces, pages, "pages with different rights", guest("rights-prober", **parameters))
    case.inputs["plant"] = [[LIST, access_list(tried)], *([pa, b"\xc3"] for _, pa, _ in pages)]
    codes = [tables.code(va, *way) for va, way in tried]
    case.expected["console"] = expected_console("rights-prober", parameters, codes=codes)
    return [case]


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


BUILD_HINTS = (
    Hint("share", "Ask for a new table only where the entry has P=0. The classic mistake makes one every time, and "
         "with it loses all that the old one mapped."),
    Hint("lost", "An entry is empty that should have been made: each table needs an entry in the table above, with its "
         "address and P=1; and a new table must not take the place of one in use."),
    Hint("leaf", "The last entry is `pa | flags`, at the place that bits 20 to 12 of the address choose in the last "
         "table."),
    Hint("flags", "The last entry takes the flags exactly as given, the no-execute bit included."),
    Hint("upper", "An entry that leads to a table needs P=1, and must not have bit 7: that would make it a large "
         "page."),
    Hint("upper-rights", "A right must be granted at every level: give upper entries P, W and U, and let the last one "
         "decide. The classic mistake copies the first page's flags upwards."),
    Hint("mask", "`read` gives a whole entry. Before you go on through it, cut off its flags: `entry & "
         "0x000F_FFFF_FFFF_F000`."),
    Hint("place", "An entry has 8 bytes, so number i of a table is at `table + 8 * i`; and take the flags off an entry "
         "before you use it as an address."),
    Hint("again", "`new_table` was called without end.", when="was called more than"),
    DIED, TYPES, LOOP,
)  # fmt: skip


CHECKS = (
    Check(
        "04.4", "a guest lives on your tables", 2,
        exercise="map_page", driver="pages_built", cases=far_pages, judge=building, limits=LIMITS,
        guests=("far-writer",), hints=led_by("leaf", BUILD_HINTS),
    ),
    Check(
        "04.4b", "tables are shared, and nothing is lost", 1,
        exercise="map_page", driver="pages_built", cases=neighbours, judge=sharing, limits=LIMITS,
        guests=("far-writer",), hints=led_by("share", BUILD_HINTS),
    ),
    Check(
        "04.4c", "the flags decide who may do what", 1,
        exercise="map_page", driver="pages_built", cases=rights_built, judge=rights, limits=LIMITS,
        guests=("rights-prober",), hints=led_by("flags", BUILD_HINTS),
    ),
)  # fmt: skip
