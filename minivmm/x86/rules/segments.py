"""Rules of the segment registers and of GDTR and IDTR, most of them those of Intel's VM entry.

Where KVM mends a fault silently (the accessed bit), no rule speaks. Real mode is judged as a processor with
"unrestricted guest" does, which is every one since 2010: unreal mode and its kin are legal, so they get advice.
"""

from __future__ import annotations

from collections.abc import Iterator

from minivmm.x86.bits import CR0_PE, CR0_PG, CR4_LA57, EFER_LMA
from minivmm.x86.canonical import is_canonical
from minivmm.x86.descriptors import BUSY_TSS, BUSY_TSS_16, CODE, LDT, READABLE, WRITABLE
from minivmm.x86.rules import model
from minivmm.x86.rules.model import Rule, Severity
from minivmm.x86.state import SEGMENTS, SegmentLike, SregsLike

LEFT_FROM_REAL_MODE = 3  # the type of a real-mode CS on some processors: read/write data, accessed
ONE_MIB = 0xF_FFFF


def segment_rules(sregs: SregsLike) -> Iterator[Rule]:
    """The rules that the segment registers, GDTR and IDTR break."""
    protected = bool(sregs.cr0 & CR0_PE)
    yield from _code(sregs, "error" if protected else "advice")
    yield from _privilege(sregs)
    for name in SEGMENTS:
        segment: SegmentLike = getattr(sregs, name)
        if name != "cs" and usable(segment) and protected:
            yield from _data(name.upper(), segment)
        if not sregs.cr0 & (CR0_PE | CR0_PG):
            yield from _real(name.upper(), segment)
        if name == "cs" or usable(segment):
            yield from _granularity(name.upper(), segment)
    yield from _task(sregs)
    if usable(sregs.ldt):
        if sregs.ldt.type != LDT or sregs.ldt.s:
            yield Rule(
                "LDTR type",
                f"LDTR is present but of type {sregs.ldt.type}, s={sregs.ldt.s}: an LDT has type 2 and s=0; if the "
                "guest has none, set ldt.present=0 and ldt.unusable=1.",
                model.ENTRY_SEGMENTS,
            )
        yield from _granularity("LDTR", sregs.ldt)
    yield from _bases(sregs)


def usable(segment: SegmentLike) -> bool:
    """True where the register holds a segment; KVM takes present=0 and unusable=1 for the same thing."""
    return bool(segment.present and not segment.unusable)


def _code(sregs: SregsLike, severity: Severity) -> Iterator[Rule]:
    cs = sregs.cs
    if not usable(cs):
        yield Rule(
            "CS not present",
            "CS is not present, so there is nothing to fetch instructions from: set cs.present=1 and cs.unusable=0.",
            model.ENTRY_SEGMENTS,
            severity,
        )
    elif not cs.s or not (cs.type & CODE or cs.type == LEFT_FROM_REAL_MODE):
        yield Rule(
            "CS is not code",
            f"CS has type {cs.type} and s={cs.s}, which is no code segment: execute/read code is type 11 with s=1.",
            model.ENTRY_SEGMENTS,
            severity,
        )
    elif cs.type == LEFT_FROM_REAL_MODE and sregs.cr0 & CR0_PE:
        yield Rule(
            "CS is not code",
            "CS has type 3, a data segment. Only a CS left from real mode may look like that: code is type 11.",
            model.ENTRY_SEGMENTS,
            "advice",
        )


def _privilege(sregs: SregsLike) -> Iterator[Rule]:
    """SS.DPL is the CPU's privilege level (CPL); the rest has to agree with it."""
    cs, ss = sregs.cs, sregs.ss
    if not usable(cs) or not cs.s:
        return
    if not sregs.cr0 & CR0_PE:
        if ss.dpl:
            sentence = f"SS.DPL is {ss.dpl}, but real mode runs in ring 0: set ss.dpl=0."
            yield Rule("ring in real mode", sentence, model.ENTRY_SEGMENTS)
        return
    conforming = cs.type in (12, 13, 14, 15)
    agrees = cs.dpl <= ss.dpl if conforming else cs.dpl == ss.dpl
    if not agrees:
        yield Rule(
            "CS.DPL and SS.DPL differ",
            f"CS is a ring {cs.dpl} segment and SS a ring {ss.dpl} one: code and stack belong to the same ring.",
            model.ENTRY_SEGMENTS,
        )
    elif cs.selector & 3 != ss.dpl:
        yield Rule(
            "CS.RPL is not the ring",
            f"CS's selector {cs.selector:#x} has RPL {cs.selector & 3}, but the CPU is in ring {ss.dpl} (SS.DPL): the "
            f"selector should be {cs.selector & ~3 | ss.dpl:#x}.",
            model.ENTRY_SEGMENTS,
            "advice",
        )


def _data(name: str, segment: SegmentLike) -> Iterator[Rule]:
    if not segment.s:
        yield Rule(
            f"{name} is a system segment",
            f"{name} has s=0, which is for TSS and LDT: set {name.lower()}.s=1, or make it unusable.",
            model.ENTRY_SEGMENTS,
        )
    elif name == "SS" and (segment.type & CODE or not segment.type & WRITABLE):
        yield Rule(
            "SS is not writable data",
            f"SS has type {segment.type}, but a stack must be writable data: type 3.",
            model.ENTRY_SEGMENTS,
        )
    elif segment.type & CODE and not segment.type & READABLE:
        sentence = f"{name} holds execute-only code (type {segment.type}), from which no data can be read: use type 3."
        yield Rule(f"{name} is not readable", sentence, model.ENTRY_SEGMENTS)


def _real(name: str, segment: SegmentLike) -> Iterator[Rule]:
    after_reset = name == "CS" and (segment.selector, segment.base) == (0xF000, 0xFFFF_0000)
    if segment.base != segment.selector << 4 and not after_reset:
        yield Rule(
            f"{name} base in real mode",
            f"{name} has selector {segment.selector:#x} and base {segment.base:#x}; in real mode the base is 16 times "
            f"the selector, {segment.selector << 4:#x}, from the moment the guest loads {name}.",
            model.REAL,
            "advice",
        )
    if segment.limit != 0xFFFF:
        why = "beyond it every access faults" if segment.limit < 0xFFFF else "with more the guest is in unreal mode"
        yield Rule(
            f"{name} limit in real mode",
            f"{name}'s limit is {segment.limit:#x}; in real mode it is 0xffff, and {why}.",
            model.REAL,
            "advice",
        )


def _granularity(name: str, segment: SegmentLike) -> Iterator[Rule]:
    low_ones = segment.limit & 0xFFF == 0xFFF
    if segment.g and not low_ones:
        yield Rule(
            f"{name} limit and G",
            f"{name} has g=1, which counts whole 4 KiB pages, but its limit {segment.limit:#x} does not end in 0xfff.",
            model.ENTRY_SEGMENTS,
        )
    elif not segment.g and segment.limit >> 20:
        yield Rule(
            f"{name} limit and G",
            f"{name}'s limit {segment.limit:#x} needs more than 20 bits, which takes g=1.",
            model.ENTRY_SEGMENTS,
        )
    elif segment.g and segment.limit == ONE_MIB:
        yield Rule(
            f"{name} limit not scaled",
            f"{name} has limit 0xfffff with g=1, and that is 1 MiB: struct kvm_segment holds the limit in bytes, so a "
            "flat 4 GiB segment has 0xffffffff (0xfffff is what stands in the GDT).",
            model.DESCRIPTORS,
            "advice",
        )


def _task(sregs: SregsLike) -> Iterator[Rule]:
    tr = sregs.tr
    if not usable(tr):
        yield Rule(
            "TR not present",
            "TR holds no task-state segment. AMD's VMRUN does not mind, Intel's VM entry refuses (exit reason "
            "KVM_EXIT_FAIL_ENTRY, 0x80000021): set tr.type=11, tr.present=1 as KVM_GET_SREGS gives it.",
            model.ENTRY_SEGMENTS,
            "advice",
        )
        return
    if tr.type == BUSY_TSS_16 and not tr.s and sregs.efer & EFER_LMA:
        yield Rule(
            "TR is a 16-bit TSS",
            "TR has type 3, a 16-bit TSS, as AMD-V has it after reset. AMD's VMRUN does not mind, Intel's VM entry to "
            "long mode refuses (exit reason KVM_EXIT_FAIL_ENTRY, 0x80000021): set tr.type=11.",
            model.ENTRY_SEGMENTS,
            "advice",
        )
    elif tr.s or tr.type not in (BUSY_TSS, BUSY_TSS_16):
        yield Rule(
            "TR is not a busy TSS",
            f"TR has type {tr.type} and s={tr.s}; the CPU's current TSS is busy, type 11 with s=0.",
            model.ENTRY_SEGMENTS,
        )
    if tr.selector & 4:
        sentence = f"TR's selector {tr.selector:#x} has TI=1, but a TSS lies in the GDT, never in an LDT: clear bit 2."
        yield Rule("TR in the LDT", sentence, model.ENTRY_SEGMENTS)
    yield from _granularity("TR", tr)


def _bases(sregs: SregsLike) -> Iterator[Rule]:
    width = 57 if sregs.cr4 & CR4_LA57 else 48
    wide = [("FS", sregs.fs.base), ("GS", sregs.gs.base), ("GDTR", sregs.gdt.base), ("IDTR", sregs.idt.base)]
    wide += [("TR", sregs.tr.base)] if usable(sregs.tr) else []
    wide += [("LDTR", sregs.ldt.base)] if usable(sregs.ldt) else []
    for name, base in wide:
        if not is_canonical(base, width):
            yield Rule(
                f"{name} base not canonical",
                f"{name}'s base {base:#x} is not canonical: bits 63 to {width} must copy bit {width - 1}.",
                model.ENTRY_TABLES if name in ("GDTR", "IDTR") else model.ENTRY_SEGMENTS,
            )
    for name in ("cs", "ss", "ds", "es"):
        segment: SegmentLike = getattr(sregs, name)
        if segment.base >> 32 and (name == "cs" or usable(segment)):
            yield Rule(
                f"{name.upper()} base too wide",
                f"{name.upper()}'s base {segment.base:#x} has more than 32 bits; only FS and GS may, in long mode.",
                model.ENTRY_SEGMENTS,
            )
