"""The CPU's modes: how to put a vCPU into each, and which one a state is in.

A guest climbs from real to protected to long mode step by step. A VMM may set the registers, hidden parts included,
and start the guest anywhere; these functions write such a state in full, so that it does not matter what was there.

Source: SDM vol. 3, "Mode Switching" and "Initializing IA-32e Mode"; APM vol. 2, "Initialization".
"""

from __future__ import annotations

from minivmm.x86.bits import (
    CR0_CD,
    CR0_ET,
    CR0_NW,
    CR0_PE,
    CR0_PG,
    CR4_LA57,
    CR4_PAE,
    CR4_PCIDE,
    EFER_LMA,
    EFER_LME,
    RFLAGS_VM,
)
from minivmm.x86.descriptors import BUSY_TSS, CODE_EXECUTE_READ, DATA_READ_WRITE, Descriptor
from minivmm.x86.gdt import Gdt, flat_gdt
from minivmm.x86.state import RegsLike, SegmentLike, SregsLike, TableLike

REAL = "real"
PROTECTED_16 = "protected 16-bit"
PROTECTED_32 = "protected 32-bit"
PAGING_32 = "protected, 32-bit paging"
PAGING_PAE = "protected, PAE paging"
LONG = "long 64-bit"
COMPATIBILITY = "compatibility"
VIRTUAL_8086 = "virtual-8086"

DATA_REGISTERS = ("ds", "es", "fs", "gs", "ss")
PHYSICAL_CONTROL = CR0_PE | CR0_PG | CR0_CD | CR0_NW


def real_mode(sregs: SregsLike, *, segment: int = 0) -> None:
    """Real mode, every segment register holding `segment` (a selector: the base is 16 times it)."""
    sregs.cr0 = sregs.cr0 & ~PHYSICAL_CONTROL | CR0_ET
    _leave_long_mode(sregs)
    base = segment << 4
    Descriptor(base=base, limit=0xFFFF, type=CODE_EXECUTE_READ).fill(sregs.cs, segment)
    for name in DATA_REGISTERS:
        Descriptor(base=base, limit=0xFFFF, type=DATA_READ_WRITE).fill(getattr(sregs, name), segment)
    _system_segments(sregs)
    _table(sregs.gdt, 0, 0xFFFF)
    # The interrupt vector table: 256 far pointers of 4 bytes each, at address 0.
    _table(sregs.idt, 0, 0x3FF)


def protected_mode(
    sregs: SregsLike, *, gdt: Gdt | None = None, gdt_base: int = 0, code: str = "code32", data: str = "data"
) -> None:
    """Protected mode without paging, the segments loaded from `gdt` (the flat one where none is given).

    The hidden parts are filled in, so the guest runs even before `bytes(gdt)` is written to `gdt_base`; it must be
    there when the guest loads a segment register or takes an interrupt. The IDT is empty: any exception is fatal.
    """
    sregs.cr0 = sregs.cr0 & ~PHYSICAL_CONTROL | CR0_PE | CR0_ET
    _leave_long_mode(sregs)
    _load(sregs, gdt or flat_gdt(), gdt_base, code, data)


def long_mode(
    sregs: SregsLike,
    *,
    cr3: int,
    gdt: Gdt | None = None,
    gdt_base: int = 0,
    code: str = "code64",
    data: str = "data",
) -> None:
    """64-bit mode with 4-level paging, whose top table is at guest-physical `cr3`.

    The page tables must be in memory before the first instruction. See `protected_mode` for GDT and IDT.
    """
    sregs.cr0 = sregs.cr0 & ~PHYSICAL_CONTROL | CR0_PE | CR0_ET | CR0_PG
    sregs.cr3 = cr3
    sregs.cr4 = sregs.cr4 & ~(CR4_LA57 | CR4_PCIDE) | CR4_PAE
    # LME asks for long mode, PG starts it, LMA says that it is on. A guest sets two of them; a VMM must set all three.
    sregs.efer |= EFER_LME | EFER_LMA
    _load(sregs, gdt or flat_gdt(), gdt_base, code, data)


def _leave_long_mode(sregs: SregsLike) -> None:
    sregs.cr3 = 0
    sregs.cr4 &= ~(CR4_PAE | CR4_LA57 | CR4_PCIDE)
    sregs.efer &= ~(EFER_LME | EFER_LMA)


def _load(sregs: SregsLike, gdt: Gdt, gdt_base: int, code: str, data: str) -> None:
    gdt[code].fill(sregs.cs, gdt.selector(code))
    for name in DATA_REGISTERS:
        gdt[data].fill(getattr(sregs, name), gdt.selector(data))
    _system_segments(sregs)
    _table(sregs.gdt, gdt_base, gdt.limit)
    _table(sregs.idt, 0, 0)


def _system_segments(sregs: SregsLike) -> None:
    # The guest has no TSS yet, but Intel's VM entry insists on a busy one; reset leaves one like this too.
    Descriptor(limit=0xFFFF, type=BUSY_TSS, s=0).fill(sregs.tr, 0)
    Descriptor(s=0, present=0).fill(sregs.ldt, 0)


def _table(table: TableLike, base: int, limit: int) -> None:
    table.base, table.limit = base, limit


def paging_of(sregs: SregsLike) -> str:
    """How addresses are translated: "none", "32-bit", "PAE", "4-level" or "5-level"."""
    if not sregs.cr0 & CR0_PG:
        return "none"
    if sregs.efer & EFER_LMA:
        return "5-level" if sregs.cr4 & CR4_LA57 else "4-level"
    return "PAE" if sregs.cr4 & CR4_PAE else "32-bit"


def mode_of(sregs: SregsLike, regs: RegsLike | None = None) -> str:
    """The mode's name, one of the constants above. Without `regs`, virtual-8086 mode looks like protected mode."""
    if not sregs.cr0 & CR0_PE:
        return REAL
    if sregs.efer & EFER_LMA:
        return LONG if sregs.cs.l else COMPATIBILITY
    if regs is not None and regs.rflags & RFLAGS_VM:
        return VIRTUAL_8086
    if sregs.cr0 & CR0_PG:
        return PAGING_PAE if sregs.cr4 & CR4_PAE else PAGING_32
    return PROTECTED_32 if sregs.cs.db else PROTECTED_16


def code_bits(sregs: SregsLike, regs: RegsLike | None = None) -> int:
    """How the next instruction is decoded: 16, 32 or 64."""
    mode = mode_of(sregs, regs)
    if mode == LONG:
        return 64
    return 32 if _is_big(sregs.cs) and mode not in (REAL, VIRTUAL_8086) else 16


def _is_big(segment: SegmentLike) -> bool:
    return bool(segment.db)


def linear_address(sregs: SregsLike, name: str, offset: int) -> int:
    """Segment `name` ("cs", "ds", …) and an offset make a linear address: 64-bit mode ignores all bases but FS, GS."""
    if sregs.efer & EFER_LMA and sregs.cs.l:
        base = int(getattr(sregs, name).base) if name in ("fs", "gs") else 0
        return (base + offset) & (1 << 64) - 1
    return (int(getattr(sregs, name).base) + offset) & 0xFFFF_FFFF
