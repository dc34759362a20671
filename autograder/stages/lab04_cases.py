"""The cases of lab 04: what each check gives to the student's code, and what must come of it. All of it from nonces."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any

from autograder.model import Case
from autograder.nonces import Nonces
from autograder.stages.common import guest
from autograder.stages.lab04_models import (
    demand_pager_places,
    far_writer_values,
    page_user_accesses,
    table_editor_edits,
)
from autograder.stages.lab04_tables import (
    ACCESSED,
    DIRTY,
    GIB,
    LARGE,
    NAMES,
    NX,
    PAGE,
    PAT,
    PRESENT,
    SHIFTS,
    TABLES,
    USER,
    WRITABLE,
    Tables,
    canonical,
)
from autograder.stages.models import expected_console

LIST = 0x8000  # where a guest finds its list
RAM_PAGES = range(0x200, 0x800)  # frames for what is mapped, above the tables
Access = tuple[bool, bool, bool]  # write, user, fetch
Refused = dict[int, tuple[int, int | None]]  # page number → error code of its writes, and of its reads
ACCESSES: list[Access] = [(write, user, fetch) for user in (False, True)
                          for write, fetch in ((False, False), (True, False), (False, True))]  # fmt: skip


def far(nonces: Nonces, label: str, upper: bool = False) -> int:
    """A page's virtual address in one half, out of the guest's own 512 GiB."""
    return canonical(nonces.range(label, 1 << 27, 1 << 35) << 12 | upper << 47)


def frames(nonces: Nonces, pages: range = RAM_PAGES) -> list[int]:
    """The physical pages in an order of their own."""
    return [number << 12 for number in _shuffled(nonces, pages)]


@lru_cache(maxsize=8)  # the cases of a check ask again and again, and 1500 digests take some milliseconds
def _shuffled(nonces: Nonces, pages: range) -> list[int]:
    return nonces.shuffled("frame", pages)


def written(nonces: Nonces, label: str, addresses: list[int]) -> tuple[dict[str, Any], list[list[Any]], dict[str, Any]]:
    """far-writer on these addresses: its inputs, its list for `plant`, and what comes of it."""
    parameters = {"nonce": nonces.u64(label), "address": LIST, "count": len(addresses)}
    values = [value.to_bytes(4, "little") for value in far_writer_values(parameters["nonce"], len(addresses))]
    expected = {"values": values, "console": expected_console("far-writer", parameters)}
    return guest("far-writer", **parameters), [[LIST, numbers(addresses)]], expected


def inside(nonces: Nonces, label: str) -> int:
    """An offset for 4 bytes in a page."""
    return nonces.range(label, 0, 1024) << 2


def numbers(values: list[int], size: int = 8) -> bytes:
    return b"".join(value.to_bytes(size, "little") for value in values)


def low(tables: Tables) -> Tables:
    """The first 2 MiB where they are, in one large page, for the guest's code and stack."""
    place = tables.map(0, 0, shift=21)
    tables.entries[place] &= ~PAT
    return tables


# ---- 04.1 cut ----


def addresses_to_cut(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(6):
        va = [0x7FFF_FFFF_F000, 0xFFFF_8000_0000_0FFF][run] if run < 2 else far(nonces, f"va{run}", run % 2 == 0)
        va |= inside(nonces, f"in{run}") * (run > 1)
        parts = [*(va >> shift & 511 for shift in SHIFTS), va & 0xFFF]
        cases.append(Case({"addresses": [va], "run": nonces.u64("run")}, [parts], f"the address {va:#x}"))
    return cases


# ---- 04.2 walk ----


def walk_case(tables: Tables, addresses: list[int], label: str, inputs: dict[str, Any] | None = None) -> Case:
    places = [[place for place, _ in tables.steps(va)] for va in addresses]
    expected = {"places": places, "gpas": [tables.gpa(va) for va in addresses]}
    cr3 = tables.cr3 | 0x18  # PWT and PCD, CR3's own low bits
    return Case({"plant": tables.plant(), "cr3": cr3, "addresses": addresses, **(inputs or {})}, expected, label)


def written_case(nonces: Nonces, tables: Tables, addresses: list[int], label: str) -> Case:
    """A walk after far-writer has written to the addresses."""
    run, listed, wanted = written(nonces, f"nonce {label}", addresses)
    case = walk_case(tables, addresses, label, run)
    case.inputs["plant"] += listed
    case.expected.update(wanted)
    return case


def four_levels(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(3):
        tables, free = low(Tables(nonces, f"tables{run}")), frames(nonces)
        addresses = [far(nonces, f"va {run} {n}", n == 1) | inside(nonces, f"in {run} {n}") for n in range(3)]
        addresses.append(addresses[0] ^ 1 << 12)  # the next page or the one before: all tables in common
        for va, frame in zip(addresses, free, strict=False):
            tables.map(va, frame)
        cases.append(written_case(nonces, tables, addresses, f"four addresses, nonce {run + 1}"))
    return cases


def large_pages(nonces: Nonces) -> list[Case]:
    tables = low(Tables(nonces, "2 MiB"))
    addresses = []
    for n, frame in enumerate((1, 2, 3)):
        va = canonical(far(nonces, f"va{n}", n == 1) >> 21 << 21)
        tables.map(va, frame * LARGE, shift=21)
        addresses.append(va | nonces.range(f"in{n}", 0, LARGE >> 2) << 2)
    cases = [written_case(nonces, tables, addresses, "pages of 2 MiB")]
    tables = Tables(nonces, "1 GiB")
    vas = [canonical(far(nonces, f"giga{n}", n == 1) >> 30 << 30) for n in range(2)]
    for n, va in enumerate(vas):
        tables.map(va, nonces.range(f"frame{n}", 1, 512) * GIB, shift=30)
    inputs = [va | nonces.range(f"in giga{n}", LARGE, GIB) for n, va in enumerate(vas)]
    return [*cases, walk_case(tables, inputs, "pages of 1 GiB")]


def nothing_there(nonces: Nonces) -> list[Case]:
    cases = []
    for shift in SHIFTS:
        tables, va = Tables(nonces, f"hole {shift}"), far(nonces, f"va{shift}", shift == 30)
        tables.map(va, frames(nonces)[0])
        tables.drop(va, shift)
        cases.append(walk_case(tables, [va | 0x123], f"an address whose {NAMES[shift]} entry has P=0"))
    tables, va = Tables(nonces, "canonical"), far(nonces, "va")
    tables.map(va, frames(nonces)[0])
    cases.append(walk_case(tables, [va ^ 1 << nonces.range("bit", 48, 64)], "an address that is not canonical"))
    tables, va = Tables(nonces, "sign"), far(nonces, "upper", True)
    tables.map(va, frames(nonces)[0])
    cases.append(walk_case(tables, [va & (1 << 48) - 1], "an upper address whose sign was cut off"))
    return cases


# ---- 04.3 error_code ----


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


def some_accesses(nonces: Nonces, tables: Tables, addresses: list[int]) -> list[tuple[int, Access]]:
    """Three of the six accesses to each page, and all six to the last one, which isn't there."""
    chosen = []
    for n, va in enumerate(addresses):
        ways = nonces.shuffled(f"way {n}", ACCESSES)
        chosen += [(va, way) for way in (ways if va == addresses[-1] else ways[:3])]
    return chosen


def accesses(nonces: Nonces) -> list[Case]:
    tables = Tables(nonces, region=range(0x10_0000, 0x20_0000))
    tried = some_accesses(nonces, tables, guarded(nonces, tables, frames(nonces)))
    listed = [[[entry for _, entry in tables.steps(va)], list(way)] for va, way in tried]
    codes = [tables.code(va, *way) for va, way in tried]
    return [Case({"accesses": listed}, codes, "entries whose rights differ from level to level")]


# ---- 04.4 map_page ----

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


def access_list(tried: list[tuple[int, Access]]) -> bytes:
    """What rights-prober reads: an address and a sum of 1, 2 and 4 for each access."""
    return b"".join(numbers([va, write | user << 1 | fetch << 2]) for va, (write, user, fetch) in tried)


# ---- 04.5 harvest ----


def rounds_of_use(nonces: Nonces) -> list[Case]:
    tables, free = low(Tables(nonces)), frames(nonces)
    start, pages = far(nonces, "start") & ~0x1F000, 24
    addresses = [start + PAGE * n for n in range(pages)]
    for va in addresses:
        tables.map(va, free.pop())
    rounds = [{"nonce": nonces.u64(f"nonce{n}"), "address": start, "size": pages * PAGE, "count": 10} for n in range(3)]
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


# ---- 04.6 page_fault, 04.10 copy_on_write ----


def pager_case(nonces: Nonces, tables: Tables, parameters: dict[str, int], refused: Refused, label: str) -> Case:
    """`refused` is what the model wants to know."""
    places = demand_pager_places(**parameters)
    pages = {va & ~0xFFF for va, _ in places}
    # Two pages more than needed: enough for a student who is a little wasteful, too few for one who is lost.
    free = frames(nonces, range(0x400, 0x800))[: len(pages) + 10]
    inputs = {"plant": tables.plant(), "cr3": tables.cr3, "tables": [TABLES.start, 0x80_0000], "free": free}
    inputs |= {"heap": [0, 0], "look": [], "copies": False, "edges": False, **guest("demand-pager", **parameters)}
    console = expected_console("demand-pager", parameters, refused=refused)
    return Case(inputs, {"console": console, "refused": refused, "pages": sorted(pages)}, label)


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
    constant = below + nonces.range("constant", 1, heap - 1)
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
    constant = nonces.range("constant", 0, pages)
    for n in range(pages):
        place = tables.map(start + n * PAGE, shared[n % 2], USER)
        tables.entries[place] = tables.entries[place] & ~0xE00 | (COPY_ON_WRITE if n != constant else 0)
    parameters = {"nonce": nonces.u64("nonce"), "address": start, "size": pages * PAGE, "count": 24}
    case = pager_case(nonces, tables, parameters, {constant: (3, None)}, "twelve pages that share two frames")
    case.inputs.update(copies=True, look=shared)
    return [case]


# ---- 04.7 pages, 04.11 table_pages, 04.12 walk32 ----


def an_address_space(nonces: Nonces, name: str) -> Tables:
    """A bit of everything: both halves, all page sizes, what is gone, rights that differ by level."""
    tables, free = low(Tables(nonces, name)), frames(nonces)
    for n in range(3):
        va = far(nonces, f"{name} va{n}", n == 1)
        tables.map(va, free.pop(), nonces.choice(f"{name} rights{n}", (6, WRITABLE, USER, 0, 6 | NX)))
        tables.map(va ^ 1 << 12, free.pop(), 6)
        tables.map(va ^ 2 << 12, free.pop(), 6)
        tables.drop(va ^ 2 << 12)
        tables.map(canonical(va ^ 1 << 22) >> 21 << 21, LARGE * nonces.range(f"{name} large{n}", 1, 4), shift=21)
        place = tables.place(va, nonces.choice(f"{name} level{n}", (39, 30, 21)))
        tables.entries[place] = tables.entries[place] & ~7 | nonces.choice(f"{name} upper{n}", (3, 5, 7 | NX))
    return tables


def address_spaces(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(2):
        tables = an_address_space(nonces, f"space {run}")
        if run:
            tables.map(canonical(far(nonces, "giga") >> 30 << 30) ^ 1 << 46, 3 * GIB, shift=30)
        inputs = {"plant": tables.plant(), "cr3": tables.cr3}
        cases.append(Case(inputs, tables.pages(), f"an address space of {tables.used} tables"))
    return cases


def tables_in_use(nonces: Nonces) -> list[Case]:
    tables = an_address_space(nonces, "space")
    gone = far(nonces, "gone")
    tables.map(gone, 0x20_0000)
    tables.drop(gone, 30)
    used = {tables.cr3, *(entry & 0xF_FFFF_FFFF_F000 for entry in reachable(tables, tables.cr3, 0))}
    return [Case({"plant": tables.plant(), "cr3": tables.cr3}, sorted(used), f"{len(used)} tables in use")]


def reachable(tables: Tables, table: int, depth: int) -> list[int]:
    """The entries that lead to a further table."""
    found = []
    for i in range(512):
        entry = tables.entries.get(table + 8 * i, 0)
        if depth < 3 and entry & PRESENT and not (depth and entry & 0x80):
            found += [entry, *reachable(tables, entry & 0xF_FFFF_FFFF_F000, depth + 1)]
    return found


def two_levels(nonces: Nonces) -> list[Case]:
    """32-bit paging: entries of 4 bytes, 10 bits of index, a large page has 4 MiB."""
    cr3, table = 0x10_0000, 0x10_1000
    directory, entries = [0] * 1024, [0] * 1024
    index, page = nonces.range("index", 513, 1000), nonces.range("page", 513, 1000)
    frame, large = nonces.range("frame", 0x200, 0xFFFFF), nonces.range("large", 1, 1023)
    directory[index], directory[index + 1], directory[index + 2] = table | 0x27, large << 22 | 0x1000 | 0xE7, table | 6
    entries[page], entries[page + 1] = frame << 12 | 0x67, frame << 12 | 6
    at = [nonces.range(f"at{n}", 1, 0xFFF) for n in range(5)]
    wanted = [
        (index << 22 | page << 12 | at[0], frame << 12 | at[0], "cut"),
        (index + 1 << 22 | 0x30_0000 | at[1], large << 22 | 0x30_0000 | at[1], "large"),
        (index << 22 | page + 1 << 12 | at[2], None, "present"),
        (index + 2 << 22 | page << 12 | at[3], None, "present"),
    ]
    tables = {"plant": [[cr3, numbers(directory, 4)], [table, numbers(entries, 4)]], "cr3": cr3 | 0x18}
    return [Case({**tables, "addresses": [va]}, [gpa, hint], f"the address {va:#x}") for va, gpa, hint in wanted]


# ---- 04.8 build_shadow, 04.9 table_write ----

SHADOWED = 0x1F_0000  # bytes of the guest's RAM: the guest's own large page at 0 reaches beyond it
SHADOW_FRAMES = range(0x140, 0x1F0)


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


def shadow_limits(nonces: Nonces) -> list[Case]:
    """Rights by level, and pages that the guest does not have: the neighbour's, one far away, a large one."""
    tables, free = low(Tables(nonces)), frames(nonces, SHADOW_FRAMES)
    start = far(nonces, "start", True) & ~0xF000
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


def windows(nonces: Nonces) -> list[Case]:
    """table-editor moves eight windows; then entry-tester tries entries of all kinds."""
    return [moved_windows(nonces), tested_entries(nonces)]


def one_table(nonces: Nonces, name: str, count: int) -> tuple[Tables, int, int]:
    """Tables with a window of `count` pages that shows nothing yet, its address, and the place of its first entry.

    One more page in the same table is mapped and stays: the shadow keeps its shape, however the guest moves the window.
    """
    tables = low(Tables(nonces, name))
    window = far(nonces, f"{name} window", True) & ~0x1F000
    tables.map(canonical(window | 0x1F000), frames(nonces, SHADOW_FRAMES)[-1])
    first = tables.place(window)
    for n in range(count):
        # A write of half an entry leaves the other half as it is: so there has to be something in it.
        tables.entries[first + 8 * n] = (1 + nonces.range(f"{name} mark {n}", 0, 126)) << 52
    return tables, window, first


def table_case(
    nonces: Nonces, tables: Tables, label: str, run: dict[str, Any], writes: list[tuple[int, int, int]]
) -> Case:
    """`writes` are the guest's edits as (place, size, value)."""
    case = shadow_case(nonces, tables, label, run)
    base = case.expected["base"]
    case.inputs.update(protect=True, others=[[base - 0x1000, 1], [base + SHADOWED, 1], [base + TABLES.start, 0]])
    memory = {gpa: bytearray(data) for gpa, data in tables.plant()}
    entries = []
    for place, size, value in writes:
        page, at = memory[place & ~0xFFF], place & 0xFFF
        page[at : at + size] = value.to_bytes(8, "little")[:size]
        entries.append(int.from_bytes(page[at : at + 8], "little"))
    after = b"".join(bytes(memory.get(page, bytes(PAGE))) for page in TABLES[::PAGE])
    case.expected.update(
        writes=[[base + place, size] for place, size, _ in writes], guest_tables=after, entries=entries
    )
    return case


def moved_windows(nonces: Nonces) -> Case:
    tables, window, first = one_table(nonces, "editor", 8)
    parameters = {"nonce": nonces.u64("editor"), "address": window, "size": 8 * PAGE, "count": 12, "value": first,
                  "option": nonces.range("shown", SHADOW_FRAMES.start, SHADOW_FRAMES.stop - 8) << 12}  # fmt: skip
    label = "eight windows that move twelve times"
    edits = table_editor_edits(parameters["nonce"], 8, 12, first, parameters["option"])
    case = table_case(nonces, tables, label, guest("table-editor", **parameters), edits)
    case.expected["console"] = expected_console("table-editor", parameters)
    return case


def tested_entries(nonces: Nonces) -> Case:
    tables, window, place = one_table(nonces, "tester", 1)
    free = frames(nonces, SHADOW_FRAMES)
    held = nonces.range("held", 1, 1 << 32)
    outside = SHADOWED + PAGE * nonces.range("outside", 0, 15)
    # Entry, write?, what comes of it. The last one shows a frame again that a write has changed.
    records = [
        (free[0] | 3, 0, ("+", held)),
        (free[0], 0, ("-", 0)),
        (free[1] | 3, 1, ("+", free[1] | 3)),
        (free[0] | 1, 1, ("-", 3)),
        (outside | 3, 0, ("-", 0)),
        (free[1] | 1, 0, ("+", free[1] | 3)),
    ]
    parameters = {"nonce": nonces.u64("tester"), "address": LIST, "value": place, "option": window}
    parameters["count"] = len(records)
    edits = [(place, 8, entry) for entry, _, _ in records]
    case = table_case(nonces, tables, "six entries, one after the other", guest("entry-tester", **parameters), edits)
    case.inputs["plant"] += [[LIST, b"".join(numbers([entry, write]) for entry, write, _ in records)],
                             [free[0], numbers([held], 4)]]  # fmt: skip
    results = [result for _, _, result in records]
    case.expected["console"] = expected_console("entry-tester", parameters, results=results)
    return case
