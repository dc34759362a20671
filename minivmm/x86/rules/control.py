"""Rules of the control registers and EFER."""

from __future__ import annotations

from collections.abc import Iterator

from minivmm.x86 import bits
from minivmm.x86.bits import (
    CR0_CD,
    CR0_NW,
    CR0_PE,
    CR0_PG,
    CR0_RESERVED,
    CR0_WP,
    CR4_CET,
    CR4_PAE,
    CR4_PCIDE,
    CR4_RESERVED,
    EFER_LMA,
    EFER_LME,
    EFER_RESERVED,
)
from minivmm.x86.rules import model
from minivmm.x86.rules.model import Rule
from minivmm.x86.state import SregsLike

HIGH_HALF = 0xFFFF_FFFF_0000_0000
# Linear-address masking (LAM) keeps its switches for user addresses in CR3, above every physical address.
CR3_LAM = 3 << 61


def control_rules(sregs: SregsLike, physical_bits: int) -> Iterator[Rule]:
    """The rules that CR0, CR3, CR4 and EFER break."""
    yield from _cr0(sregs)
    yield from _long_mode(sregs)
    yield from _cr3(sregs, physical_bits)
    if wrong := sregs.cr4 & CR4_RESERVED:
        yield Rule("CR4 reserved", f"CR4 has {bits.names_of('cr4', wrong)} set: clear it.", model.CONTROL)
    if sregs.cr4 & CR4_PCIDE and not sregs.efer & EFER_LMA:
        yield Rule(
            "PCIDE outside long mode",
            "CR4.PCIDE is set, but process-context identifiers exist in long mode only: clear CR4.PCIDE.",
            model.ENTRY_CONTROL,
        )
    if sregs.cr4 & CR4_CET and not sregs.cr0 & CR0_WP:
        yield Rule("CET without WP", "CR4.CET needs CR0.WP: set WP, or clear CET.", model.ENTRY_CONTROL)
    if wrong := sregs.efer & EFER_RESERVED:
        yield Rule("EFER reserved", f"EFER has {bits.names_of('efer', wrong)} set: clear it.", model.ENTRY_CONTROL)


def _cr0(sregs: SregsLike) -> Iterator[Rule]:
    cr0 = sregs.cr0
    if cr0 & CR0_PG and not cr0 & CR0_PE:
        yield Rule(
            "PG without PE",
            "CR0.PG is set and CR0.PE is not: paging is a part of protected mode, so set PE too.",
            model.CONTROL,
        )
    if cr0 & CR0_NW and not cr0 & CR0_CD:
        yield Rule("NW without CD", "CR0.NW is set and CR0.CD is not: set both or clear both.", model.CONTROL)
    if cr0 & HIGH_HALF:
        yield Rule("CR0 high half", f"CR0 is {cr0:#x}, but its bits 63 to 32 must be zero.", model.CONTROL)
    if wrong := cr0 & CR0_RESERVED & ~HIGH_HALF:
        names = bits.names_of("cr0", wrong)
        yield Rule("CR0 reserved", f"CR0 has {names} set, which the processor ignores.", model.CONTROL, "advice")


def _long_mode(sregs: SregsLike) -> Iterator[Rule]:
    lme, lma, pg = bool(sregs.efer & EFER_LME), bool(sregs.efer & EFER_LMA), bool(sregs.cr0 & CR0_PG)
    if (lma or (lme and pg)) and not sregs.cr4 & CR4_PAE:
        yield Rule(
            "long mode without PAE",
            "EFER asks for long mode while CR4.PAE is clear: long mode's tables have 8-byte entries, so set CR4.PAE.",
            model.IA32E,
        )
    if lme and pg and not lma:
        yield Rule(
            "LMA is not LME and PG",
            "EFER.LME and CR0.PG are set, so long mode is active, but EFER.LMA says no: set EFER.LMA (0x400) as well; "
            "a guest gets it from the processor, a VMM must set it itself.",
            model.KVM_SREGS,
        )
    if lma and not (lme and pg):
        missing = " and ".join(name for name, have in (("EFER.LME", lme), ("CR0.PG", pg)) if not have)
        yield Rule(
            "LMA is not LME and PG",
            f"EFER.LMA says that long mode is active, but {missing} is clear: set it, or clear LMA.",
            model.KVM_SREGS,
        )
    # With LME and PG set, the missing LMA is the fault; that CS.L then lacks its mode only follows from it.
    if sregs.cs.l and not lma and not (lme and pg):
        yield Rule(
            "CS.L outside long mode",
            "CS is a 64-bit code segment (L=1), but long mode is not active: set EFER.LME, EFER.LMA, CR0.PG and "
            "CR4.PAE, or clear CS.L.",
            model.KVM_SREGS,
        )
    if sregs.cs.l and sregs.cs.db and (lma or (lme and pg)):
        yield Rule(
            "CS.L with CS.D",
            "CS has both L (64-bit) and D (32-bit) set, a combination that is reserved: clear cs.db for 64-bit code.",
            model.ENTRY_SEGMENTS,
        )


def _cr3(sregs: SregsLike, physical_bits: int) -> Iterator[Rule]:
    if sregs.efer & EFER_LMA:
        if (sregs.cr3 & ~CR3_LAM) >> physical_bits:
            yield Rule(
                "CR3 too wide",
                f"CR3 is {sregs.cr3:#x}, but a physical address has {physical_bits} bits here: CR3 holds the "
                "guest-physical address of the top page table.",
                model.ENTRY_CONTROL,
            )
    elif sregs.cr0 & CR0_PG and sregs.cr3 >> 32:
        yield Rule(
            "CR3 too wide",
            f"CR3 is {sregs.cr3:#x}, but outside long mode it has 32 bits: put the page tables below 4 GiB.",
            model.CONTROL,
            "advice",
        )
