"""The engine's CPU state, and how the KVM API shows it: flags, segments, control registers.

`env` is native/cpu.h's `struct soft_env`, filled by Engine.look and taken back by Engine.put. The engine keeps some
state twice, for speed: the arithmetic flags and DF, and `hflags`, which repeats what translations depend
on. Who changes a segment, a control register or a flag here calls `refresh` before Engine.put.
"""

from __future__ import annotations

from typing import Any

from minivmm.x86.bits import (
    CR0_ET,
    CR0_PE,
    CR4_OSFXSR,
    EFER_LMA,
    RFLAGS_AC,
    RFLAGS_AF,
    RFLAGS_CF,
    RFLAGS_DF,
    RFLAGS_FIXED,
    RFLAGS_IOPL,
    RFLAGS_OF,
    RFLAGS_PF,
    RFLAGS_RF,
    RFLAGS_SF,
    RFLAGS_TF,
    RFLAGS_VM,
    RFLAGS_ZF,
)
from minivmm.x86.state import SEGMENTS

# RFLAGS (SDM vol. 1, "EFLAGS Register")
ARITHMETIC = RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF
DEFINED_FLAGS = 0x3F7FD7

# A descriptor's upper half (SDM vol. 3, "Segment Descriptors")
DESC_S, DESC_P, DESC_L, DESC_DB, DESC_G = 1 << 12, 1 << 15, 1 << 21, 1 << 22, 1 << 23
DESC_CODE = 1 << 11
_TSS_16, _TSS_32, _BUSY = 1, 9, 2  # types of system segments
_NO_TASK = DESC_L  # our mark: a TSS has no such bit

# hflags: as Unicorn 2.1.4 uses them
HF_CPL, HF_SHADOW = 3, 1 << 3
HF_CS32, _HF_SS32, _HF_ADDSEG, _HF_PE = 1 << 4, 1 << 5, 1 << 6, 1 << 7
_HF_LMA, HF_CS64, _HF_OSFXSR = 1 << 14, 1 << 15, 1 << 22
_HF_FROM_FLAGS = RFLAGS_TF | RFLAGS_IOPL | RFLAGS_RF | RFLAGS_VM | RFLAGS_AC
_HF_OURS = 3 | HF_CS32 | _HF_SS32 | _HF_ADDSEG | _HF_PE | 7 << 9 | _HF_LMA | HF_CS64 | _HF_OSFXSR | _HF_FROM_FLAGS

_CC_OP_EFLAGS = 1  # "the flags are in cc_src"
GPRS = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{i}" for i in range(8, 16)))  # by their numbers
_WRITABLE, _EXPAND_DOWN, _WHOLE = 1 << 9, 1 << 10, 0xFFFFFFFF  # of data segments


def set_flags(env: Any, flags: int) -> None:
    """RFLAGS, and the parts of it that the engine keeps besides."""
    env.rflags = flags & DEFINED_FLAGS | RFLAGS_FIXED
    env.cc_src = flags & ARITHMETIC
    env.cc_op = _CC_OP_EFLAGS
    env.df = -1 if flags & RFLAGS_DF else 1


def refresh(env: Any) -> None:
    """Makes hflags repeat what the other registers say. The shadow of STI and MOV SS stays as it is."""
    flags = env.hflags & ~_HF_OURS
    cs, ss = env.cs.flags, env.ss.flags
    flags |= ss >> 13 & 3  # CPL is the DPL of SS
    flags |= (env.cr0 & 0b1110) << 8 | env.rflags & _HF_FROM_FLAGS
    if env.cr0 & CR0_PE:
        flags |= _HF_PE
    if env.cr4 & CR4_OSFXSR:
        flags |= _HF_OSFXSR
    if env.efer & EFER_LMA:
        flags |= _HF_LMA
    if env.efer & EFER_LMA and cs & DESC_L:
        flags |= HF_CS32 | _HF_SS32 | HF_CS64
    else:
        flags |= HF_CS32 if cs & DESC_DB else 0
        flags |= _HF_SS32 if ss & DESC_DB else 0
        flat = env.cr0 & CR0_PE and not env.rflags & RFLAGS_VM and cs & DESC_DB
        if not flat or env.ds.base or env.es.base or env.ss.base:
            flags |= _HF_ADDSEG
    env.hflags = flags


def set_segment(segment: Any, selector: int, base: int, limit: int, flags: int) -> None:
    segment.selector, segment.base, segment.limit, segment.flags = selector, base, limit, flags


def segment_to_kvm(segment: Any, kvm: Any) -> None:
    """A segment register as `struct kvm_segment`."""
    flags = segment.flags
    kvm.base, kvm.limit, kvm.selector = segment.base, segment.limit, segment.selector & 0xFFFF
    kvm.type, kvm.s, kvm.dpl, kvm.present = flags >> 8 & 0xF, flags >> 12 & 1, flags >> 13 & 3, flags >> 15 & 1
    kvm.avl, kvm.l, kvm.db, kvm.g = flags >> 20 & 1, flags >> 21 & 1, flags >> 22 & 1, flags >> 23 & 1
    kvm.unusable = not kvm.present
    kvm.padding = 0


def segment_from_kvm(kvm: Any, segment: Any) -> None:
    """… and back. An unusable segment keeps its DPL: for SS, that is the CPL."""
    flags = (kvm.type & 0xF) << 8 | (kvm.s & 1) << 12 | (kvm.dpl & 3) << 13 | (kvm.present & 1) << 15
    flags |= (kvm.avl & 1) << 20 | (kvm.l & 1) << 21 | (kvm.db & 1) << 22 | (kvm.g & 1) << 23
    if kvm.unusable:
        flags &= 3 << 13
    set_segment(segment, kvm.selector, kvm.base, kvm.limit, flags)


def task_to_kvm(task: Any, kvm: Any) -> None:
    """TR as `struct kvm_segment`. The engine keeps the type of an available TSS; KVM shows the busy one."""
    segment_to_kvm(task, kvm)
    if task.flags & _NO_TASK:
        kvm.type, kvm.present, kvm.l, kvm.unusable = 0, 0, 0, 1
    else:
        kvm.type |= _BUSY


def task_from_kvm(kvm: Any, task: Any) -> None:
    """… and back. Where there is no TSS the engine would abort: it gets an empty one, whose use is a fault."""
    segment_from_kvm(kvm, task)
    if kvm.unusable or not kvm.present or kvm.s or kvm.type & ~_BUSY not in (_TSS_16, _TSS_32):
        set_segment(task, kvm.selector, kvm.base, 0, _NO_TASK | DESC_P | _TSS_32 << 8)
    else:
        task.flags &= ~(_BUSY << 8 | _NO_TASK)


def sregs_to_kvm(env: Any, sregs: Any) -> None:
    """Segments, tables and control registers as `struct kvm_sregs`; CR8, APIC base and interrupts are others' to
    fill."""
    for name in SEGMENTS:
        segment_to_kvm(getattr(env, name), getattr(sregs, name))
    task_to_kvm(env.tr, sregs.tr)
    segment_to_kvm(env.ldt, sregs.ldt)
    sregs.gdt.base, sregs.gdt.limit = env.gdt.base, env.gdt.limit & 0xFFFF
    sregs.idt.base, sregs.idt.limit = env.idt.base, env.idt.limit & 0xFFFF
    sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.efer = env.cr0, env.cr2, env.cr3, env.cr4, env.efer


def sregs_from_kvm(sregs: Any, env: Any) -> None:
    """… and back."""
    for name in SEGMENTS:
        segment_from_kvm(getattr(sregs, name), getattr(env, name))
    task_from_kvm(sregs.tr, env.tr)
    segment_from_kvm(sregs.ldt, env.ldt)
    set_segment(env.gdt, 0, sregs.gdt.base, sregs.gdt.limit, 0)
    set_segment(env.idt, 0, sregs.idt.base, sregs.idt.limit, 0)
    env.cr0, env.cr2, env.cr3, env.cr4, env.efer = sregs.cr0 | CR0_ET, sregs.cr2, sregs.cr3, sregs.cr4, sregs.efer


def is_flat(env: Any) -> bool:
    """Whether no access can break a segment's rule: all of it is there, and may be written.

    Null FS and GS don't count: systems leave them so, and seldom touch them.
    """
    if not _covers_all(env.cs):
        return False
    for name in ("ds", "es", "ss", "fs", "gs"):
        segment = getattr(env, name)
        present = segment.flags & DESC_P
        if not present and name in ("fs", "gs"):
            continue
        if not present or not _covers_all(segment) or segment.flags & DESC_CODE or not segment.flags & _WRITABLE:
            return False
    return True


def _covers_all(segment: Any) -> bool:
    return segment.limit == _WHOLE and (bool(segment.flags & DESC_CODE) or not segment.flags & _EXPAND_DOWN)
