"""Rules of RIP and RFLAGS."""

from __future__ import annotations

from collections.abc import Iterator

from minivmm.x86 import bits
from minivmm.x86.bits import CR0_PE, CR4_LA57, EFER_LMA, RFLAGS_FIXED, RFLAGS_RESERVED, RFLAGS_VM
from minivmm.x86.canonical import is_canonical
from minivmm.x86.rules import model
from minivmm.x86.rules.model import Rule
from minivmm.x86.state import RegsLike, SegmentLike, SregsLike

VM_ACCESS = {"type": 3, "s": 1, "dpl": 3, "present": 1}


def execution_rules(sregs: SregsLike, regs: RegsLike) -> Iterator[Rule]:
    """The rules that RIP and RFLAGS break in this mode."""
    yield from _rflags(sregs, regs.rflags)
    yield from _rip(sregs, regs.rip)


def _rflags(sregs: SregsLike, rflags: int) -> Iterator[Rule]:
    if not rflags & RFLAGS_FIXED:
        yield Rule(
            "RFLAGS bit 1",
            "RFLAGS has bit 1 clear, and no processor ever does. KVM sets it for you; write rflags=2.",
            model.ENTRY_RIP,
            "advice",
        )
    if wrong := rflags & RFLAGS_RESERVED:
        yield Rule("RFLAGS reserved", f"RFLAGS has {bits.names_of('rflags', wrong)} set: clear it.", model.ENTRY_RIP)
    if not rflags & RFLAGS_VM:
        return
    if sregs.efer & EFER_LMA or not sregs.cr0 & CR0_PE:
        where = "long" if sregs.efer & EFER_LMA else "real"
        sentence = f"RFLAGS.VM asks for virtual-8086 mode, which {where} mode does not have: clear it."
        yield Rule("VM flag outside protected mode", sentence, model.ENTRY_RIP)
        return
    for name in ("cs", "ds", "es", "fs", "gs", "ss"):
        segment: SegmentLike = getattr(sregs, name)
        right = segment.base == segment.selector << 4 and segment.limit == 0xFFFF
        right = right and all(getattr(segment, field) == value for field, value in VM_ACCESS.items())
        if not right:
            yield Rule(
                f"{name.upper()} in virtual-8086 mode",
                f"In virtual-8086 mode {name.upper()} has base 16 × selector, limit 0xffff, type 3, s=1, dpl=3, "
                "present=1.",
                model.ENTRY_SEGMENTS,
            )


def _rip(sregs: SregsLike, rip: int) -> Iterator[Rule]:
    if sregs.efer & EFER_LMA and sregs.cs.l:
        width = 57 if sregs.cr4 & CR4_LA57 else 48
        if not is_canonical(rip, width):
            sentence = f"RIP {rip:#x} is not canonical: bits 63 to {width} must copy bit {width - 1}."
            yield Rule("RIP not canonical", sentence, model.ENTRY_RIP)
    elif rip >> 32:
        yield Rule("RIP too wide", f"RIP is {rip:#x}, but outside 64-bit mode it has 32 bits.", model.ENTRY_RIP)
    elif rip > sregs.cs.limit:
        yield Rule(
            "RIP beyond CS",
            f"RIP {rip:#x} lies beyond CS's limit {sregs.cs.limit:#x}: the first fetch raises #GP.",
            model.DESCRIPTORS,
            "advice",
        )
