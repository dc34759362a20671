"""The page walk, as the processor does it, with every step kept for people to see.

The processor reads one entry per level. A missing entry or a reserved bit ends the walk there; rights are judged at
the end (`access.py`), because every level has a say in them.

Source: SDM vol. 3, "Hierarchical Paging Structures: an Overview" and "Page-Fault Exceptions".
"""

from __future__ import annotations

from dataclasses import dataclass

from minivmm.x86.canonical import is_canonical
from minivmm.x86.modes import paging_of
from minivmm.x86.paging import faults
from minivmm.x86.paging.access import Access, Controls, refusal
from minivmm.x86.paging.faults import Fault
from minivmm.x86.paging.formats import (
    FOUR_LEVEL,
    LARGE,
    NO_EXECUTE,
    PRESENT,
    Level,
    PagingMode,
    entry_in_words,
    mode_named,
)
from minivmm.x86.state import MemoryLike, SregsLike


@dataclass(frozen=True)
class Step:
    """One entry that the walk read: which table, which entry, what it says, and where it leads."""

    level: str
    table: int
    index: int
    address: int
    entry: int
    words: str
    leads_to: int | None


@dataclass(frozen=True)
class Walk:
    """A finished walk. Either `physical` is the answer and `fault` is None, or the other way round.

    `page_size` is in bytes, None where the walk found no page or there is no paging.
    """

    virtual: int
    mode: str
    access: str
    steps: tuple[Step, ...]
    physical: int | None = None
    page_size: int | None = None
    fault: Fault | None = None

    def text(self) -> str:
        """The walk in lines: the question, one line an entry, the outcome."""
        lines = [f"virtual {self.virtual:#x}, {self.access}, paging: {self.mode}"]
        for step in self.steps:
            leads = "" if step.leads_to is None else f" -> {step.leads_to:#x}"
            lines.append(f"  {step.level:<4} {step.table:#x}[{step.index}] = {step.entry:#018x}  {step.words}{leads}")
        if self.fault is not None:
            lines.append(f"  fault: {self.fault}")
        else:
            size = f" in a page of {_size(self.page_size)}" if self.page_size else ""
            lines.append(f"  physical {self.physical:#x}{size}")
        return "\n".join(lines)

    __str__ = text


def _size(size: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size >> 10} KiB"


def walk(
    memory: MemoryLike,
    cr3: int,
    va: int,
    mode: PagingMode | str = FOUR_LEVEL,
    *,
    write: bool = False,
    user: bool = False,
    fetch: bool = False,
    controls: Controls | None = None,
) -> Walk:
    """Translates the virtual address `va` through the tables that start at `cr3`.

    Reads `memory` (guest-physical) and changes nothing: accessed and dirty bits stay as they are. A translation that
    fails is an answer, not an exception: see `Walk.fault`. Raises ValueError for an unknown mode, or an address that
    is negative or wider than the mode's registers.
    """
    mode = mode_named(mode)
    access = Access(write, user, fetch, controls or Controls())
    width = 64 if mode.has_canonical_hole else 32
    if not 0 <= va < 1 << width:
        raise ValueError(f"{va:#x} is not a {width}-bit address, and {mode.name} paging has no other")
    steps, outcome = _descend(memory, cr3, va, mode, access)
    if isinstance(outcome, Fault):
        return Walk(va, mode.name, access.in_words(), tuple(steps), fault=outcome)
    physical, page_size = outcome
    return Walk(va, mode.name, access.in_words(), tuple(steps), physical, page_size)


def translate(
    memory: MemoryLike,
    sregs: SregsLike,
    linear: int,
    *,
    write: bool = False,
    user: bool = False,
    fetch: bool = False,
    rflags: int = 0,
    gib_pages: bool = True,
    physical_bits: int = 52,
) -> Walk:
    """Translates a linear address as the CPU in state `sregs` would: its mode, its CR3, its controls.

    `rflags` matters for SMAP alone; `gib_pages` and `physical_bits` are what the vCPU's CPUID says.
    """
    mode = paging_of(sregs)
    controls = Controls.of(sregs, rflags=rflags, gib_pages=gib_pages, physical_bits=physical_bits)
    if mode == "none":
        access = Access(write, user, fetch, controls).in_words()
        return Walk(linear, mode, access, (), physical=linear & 0xFFFF_FFFF)
    if mode in ("32-bit", "PAE"):
        linear &= 0xFFFF_FFFF
    return walk(memory, sregs.cr3, linear, mode, write=write, user=user, fetch=fetch, controls=controls)


def _descend(
    memory: MemoryLike, cr3: int, va: int, mode: PagingMode, access: Access
) -> tuple[list[Step], Fault | tuple[int, int]]:
    """Level by level down to the page: the steps taken, and (physical, page size) or the fault."""
    steps: list[Step] = []
    path: list[tuple[Level, int]] = []
    if mode.has_canonical_hole and not is_canonical(va, mode.virtual_bits):
        top = mode.virtual_bits - 1
        reason = f"{va:#x} is not canonical: bits 63 to {top + 1} must all copy bit {top}"
        return steps, Fault("#GP", 0, None, reason)
    table = cr3 & mode.cr3_mask
    for level in mode.levels:
        index = level.index(va)
        address = table + index * mode.entry_size
        try:
            entry = int.from_bytes(memory.read(address, mode.entry_size), "little")
        except ValueError:
            where = f"the {level.name} entry {index} lies at {address:#x}, where the VM has no memory"
            return steps, Fault("no memory", 0, level.name, where)
        is_page = level.shift == 12 or bool(entry & LARGE and level.may_be_large and _allows_large(mode, access))
        target = mode.page_address(entry, level) if is_page else mode.table_address(entry)
        leads_to = target if entry & PRESENT else None
        steps.append(Step(level.name, table, index, address, entry, entry_in_words(entry, level, mode), leads_to))
        if fault := _broken_entry(entry, level, index, mode, access):
            return steps, fault
        if not mode.is_flagless(level):
            path.append((level, entry))
        if is_page:
            return steps, refusal(path, mode, access) or (target | va & (level.span - 1), level.span)
        table = target
    raise AssertionError("the last level of every mode maps pages")


def _allows_large(mode: PagingMode, access: Access) -> bool:
    return mode.entry_size == 8 or access.controls.pse


def _broken_entry(entry: int, level: Level, index: int, mode: PagingMode, access: Access) -> Fault | None:
    """Not present, or a reserved bit set: the walk cannot go on."""
    if not entry & PRESENT:
        reason = f"{level.name} entry {index} has P=0: nothing is mapped here"
        return Fault("#PF", access.error_code(mode, 0), level.name, reason)
    controls = access.controls
    wrong = mode.reserved(entry, level, physical_bits=controls.physical_bits, nxe=controls.nxe, gib=controls.gib_pages)
    if mode.entry_size == 4 and not controls.pse:
        wrong = 0
    if not wrong:
        return None
    which = " and ".join(str(n) for n in range(wrong.bit_length()) if wrong >> n & 1)
    reason = f"{level.name} entry {index} has reserved bit {which} set"
    if wrong & NO_EXECUTE and not controls.nxe and not mode.is_flagless(level):
        reason += "; bit 63 means no-execute only once EFER.NXE is 1"
    if mode.is_flagless(level):
        # The four PDPT entries are read when CR3 is loaded, so the complaint comes then, not at the access.
        return Fault("#GP", 0, level.name, f"{reason}; PAE checks this when CR3 is loaded")
    code = access.error_code(mode, faults.PROTECTION | faults.RESERVED)
    return Fault("#PF", code, level.name, reason)
