"""Lab 04, a whole address space: its pages, their rights, its tables; and one of two levels."""

from __future__ import annotations

from typing import Any

from autograder import judge
from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import LOOP, led_by
from autograder.stages.lab04_common import LIMITS, TYPES, UPPER_RIGHTS, far, frames, low, number, numbers
from autograder.stages.lab04_tables import GIB, LARGE, NX, PRESENT, USER, WRITABLE, Tables, canonical

# ---- 04.7 pages, 04.11 table_pages ----


def an_address_space(nonces: Nonces, name: str) -> Tables:
    """A bit of everything: both halves, all page sizes, what is gone, rights that differ by level."""
    tables, free = low(Tables(nonces, name)), frames(nonces)
    uppers = nonces.shuffled(f"{name} upper", (PRESENT | WRITABLE, PRESENT | USER, 7 | NX))  # each once
    for n in range(3):
        va = far(nonces, f"{name} va{n}", n == 1)
        tables.map(va, free.pop(), nonces.choice(f"{name} rights{n}", (6, WRITABLE, USER, 0, 6 | NX)))
        tables.map(va ^ 1 << 12, free.pop(), 6)
        tables.map(va ^ 2 << 12, free.pop(), 6)
        tables.drop(va ^ 2 << 12)
        tables.map(canonical(va ^ 1 << 22) >> 21 << 21, LARGE * nonces.range(f"{name} large{n}", 1, 4), shift=21)
        place = tables.place(va, nonces.choice(f"{name} level{n}", (39, 30, 21)))
        tables.entries[place] = tables.entries[place] & ~7 | uppers[n]
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
    wrong = []
    for va, _, _, want in case.expected:
        if va not in found:
            return fail(f"{va:#x} is missing: see check 04.7", "missing")
        if (got := found[va][3]) != want:
            wrong.append((va, want, got))
    # A page may be wrong in two ways; the kinds of mistake are looked for one after the other in all of them.
    for hint, bits in (("only-rights", ~(UPPER_RIGHTS | NX)), ("all-levels", UPPER_RIGHTS), ("no-execute", NX)):
        for va, want, got in wrong:
            if (got ^ want) & bits:
                return fail(f"{va:#x}: rights {got:#x} where {want:#x} are expected", hint)
    return OK


def all_tables(case: Case, obs: Observation) -> Finding:
    found = obs.ints()
    if missing := sorted(set(case.expected) - set(found)):
        return fail(f"{len(found)} tables where {len(case.expected)} are expected; {missing[0]:#x} is missing", "root")
    if extra := sorted(set(found) - set(case.expected)):
        return fail(f"{extra[0]:#x} is no table in use", "extra")
    return judge.same_value(len(case.expected), len(found), "how many tables were named", "twice")


# ---- 04.12 walk32 ----


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


def walked_in_32_bits(case: Case, obs: Observation) -> Finding:
    value, (wanted, hint) = obs.list(), case.expected
    got = value[0] if len(value) == 1 else "nothing"
    if got == wanted and type(got) is type(wanted):
        return OK
    shown = "None" if wanted is None else f"{wanted:#x}"
    return fail(f"{number(got)} where {shown} is expected", hint)


PAGES_HINTS = (
    Hint("missing", "A page was passed over. Every entry with P=1 counts, all 512 of every table; `yield from` passes "
         "on what the call for a lower table yields."),
    Hint("extra", "An entry with P=0 maps nothing, whatever the rest of it looks like."),
    Hint("large", "PS=1 in a PDPT or PD entry: a page of 1 << shift bytes, and no table below. In a PT, bit 7 means "
         "something else."),
    Hint("high-half", "Addresses of the upper half begin with 0xFFFF: if bit 47 is set, set bits 63 to 48 too."),
    Hint("gpa", "Of a large page's entry the bits below its size are flags (bit 12 is PAT): `entry & ADDRESS & "
         "-size`."),
    Hint("size", "A page found where `shift` is 12, 21 or 30 has 1 << shift bytes."),
    Hint("address", "An address is made of the indices of all levels: `va | i << shift`."),
    Hint("four", "Yield tuples (va, gpa, size, rights)."),
    Hint("all-levels", "W and U must be granted at every level: AND them on the way down."),
    Hint("no-execute", "One no-execute bit on the way is enough: OR bit 63 on the way down."),
    Hint("only-rights", "Rights are bits 1, 2 and 63, nothing else: mask them out of the entries."),
    TYPES, LOOP,
)  # fmt: skip


CHECKS = (
    Check(
        "04.7", "a whole address space, page by page", 1,
        exercise="pages", driver="pages_listed", cases=address_spaces, judge=all_pages, limits=LIMITS,
        hints=led_by("missing", PAGES_HINTS),
    ),
    Check(
        "04.7b", "rights, gathered on the way down", 1,
        exercise="pages", driver="pages_listed", cases=address_spaces, judge=all_rights, limits=LIMITS,
        hints=led_by("all-levels", PAGES_HINTS),
    ),
)  # fmt: skip


STRETCH = (
    Check(
        "04.11", "stretch: which pages are tables", 0,
        exercise="table_pages", driver="tables_listed", cases=tables_in_use, judge=all_tables,
        limits=LIMITS,
        hints=(
            Hint("root", "A table is where CR3 or an entry with P=1 leads, at every level but the last; PS=1 leads "
                 "to a page."),
            Hint("extra", "Entries with P=0, and those that map a page, lead to no table; and take off the flags."),
            Hint("twice", "Name each table once."),
            TYPES, LOOP,
        ),
    ),
    Check(
        "04.12", "stretch: two levels, as in 1985", 0,
        exercise="walk32", driver="walk_in_32_bits", cases=two_levels, judge=walked_in_32_bits, limits=LIMITS,
        hints=(
            Hint("cut", "Two indices of 10 bits, from bit 22 and bit 12; entries of 4 bytes, so `table + 4 * i`."),
            Hint("large", "PS=1 in the directory: a page of 4 MiB. Its address is bits 31 to 22 of the entry."),
            Hint("present", "P=0 at either level: None."),
            TYPES,
        ),
    ),
)  # fmt: skip
