"""Lab 04, the walk: an address in five parts, four levels down, large pages, and where it must end."""

from __future__ import annotations

from typing import Any

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import LOOP, led_by
from autograder.stages.lab04_common import LIMITS, ORDER, TYPES, ended, far, frames, inside, low, number, written, wrote
from autograder.stages.lab04_tables import GIB, LARGE, NAMES, PAT, SHIFTS, Tables, canonical

# ---- 04.1 cut ----


def addresses_to_cut(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(6):
        va = [0x7FFF_FFFF_F000, 0xFFFF_8000_0000_0FFF][run] if run < 2 else far(nonces, f"va{run}", run % 2 == 0)
        va |= inside(nonces, f"in{run}") * (run > 1)
        parts = [*(va >> shift & 511 for shift in SHIFTS), va & 0xFFF]
        cases.append(Case({"addresses": [va], "run": nonces.u64("run")}, [parts], f"the address {va:#x}"))
    return cases


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
        addresses.append(va | nonces.range(f"in{n}", 0, LARGE >> 2) << 2 & ~PAT)  # else PAT in the address is no harm
    cases = [written_case(nonces, tables, addresses, "pages of 2 MiB")]
    tables = Tables(nonces, "1 GiB")
    vas = [canonical(far(nonces, f"giga{n}", n == 1) >> 30 << 30) for n in range(2)]
    for n, va in enumerate(vas):
        tables.map(va, nonces.range(f"frame{n}", 1, 512) * GIB, shift=30)
    inputs = [va | nonces.range(f"in giga{n}", LARGE, GIB) & ~PAT for n, va in enumerate(vas)]
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


WALK_HINTS = (
    Hint("mask", "The address of the next table is bits 51 to 12 of the entry, no more: `entry & "
         "0x000F_FFFF_FFFF_F000`. The classic mistake keeps the flags below, or the no-execute bit and the software's "
         "bits above."),
    Hint("cr3", "The walk begins at bits 51 to 12 of CR3: its low bits are flags, as in an entry."),
    Hint("index", "An entry has 8 bytes: number i is at `table + 8 * i`, and each level uses its own 9 bits of the "
         "address: from bit 39, 30, 21, 12."),
    Hint("offset", "The page's address comes from the entry, the offset from the virtual address: its low 12 bits in a "
         "page of 4 KiB, 21 in one of 2 MiB, 30 in one of 1 GiB."),
    Hint("short", "The walk goes on until an entry has P=0 or maps a page."),
    Hint("too-far", "An entry with PS=1 in a PDPT or PD maps a page: nothing comes after it. The classic mistake looks "
         "for PS in no entry, or forgets the gibibyte."),
    Hint("present", "P=0 ends the walk, and the rest of such an entry means nothing: return None for the address. The "
         "classic mistake follows what looks like an address."),
    Hint("canonical", "Bits 63 to 48 must all be copies of bit 47; if they are not, the processor reads no entry at "
         "all: return ([], None)."),
    Hint("pair", "Return (steps, gpa); steps is a list of (place, entry), a place being the entry's own address."),
    Hint("died", "The guest did not come to its end, before your walk began: tell your teacher."),
    TYPES, LOOP,
)  # fmt: skip


CHECKS = (
    Check(
        "04.1", "an address in five parts", 1,
        exercise="cut", driver="cut_addresses", cases=addresses_to_cut, judge=parts, limits=LIMITS,
        hints=(
            Hint("nine", "Each index has 9 bits: shift the address right by 39, 30, 21 or 12, and keep `& 511`."),
            Hint("mask", "An index has 9 bits, so it is at most 511: after the shift, `& 511`. The classic mistake "
                 "forgets it at the top, where bits 63 to 48 still stand."),
            Hint("order", "The parts come from the left: PML4 first."),
            Hint("offset", "The offset is the low 12 bits: `va & 0xFFF`."),
            Hint("five", "Return a tuple of five numbers: four indices and the offset."),
            TYPES,
        ),
    ),
    Check(
        "04.2", "four levels down, to the byte that the guest wrote", 2,
        exercise="walk", driver="walk_beside_a_guest", cases=four_levels, judge=walks, limits=LIMITS,
        guests=("far-writer",), hints=led_by("mask", WALK_HINTS),
    ),
    Check(
        "04.2b", "large pages end the walk early", 1,
        exercise="walk", driver="walk_any_tables", cases=large_pages, judge=walks, limits=LIMITS,
        guests=("far-writer",), hints=led_by("too-far", WALK_HINTS),
    ),
    Check(
        "04.2c", "where nothing is mapped, and where no address can be", 1,
        exercise="walk", driver="walk_tables", cases=nothing_there, judge=walks, limits=LIMITS,
        hints=led_by("present", WALK_HINTS),
    ),
)  # fmt: skip
