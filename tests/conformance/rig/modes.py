"""The memory and the special registers of a guest that starts in a given mode and ring: everything in place.

Paging is the identity for the first 4 MiB, in pages of 4 KiB where a test can change one entry, open to ring 3.
"""

from __future__ import annotations

import struct
from typing import Any

from minivmm.x86 import bits as b
from minivmm.x86.descriptors import BUSY_TSS, CODE_EXECUTE_READ, DATA_READ_WRITE, TSS, Descriptor
from rig import layout as at
from rig import stubs

REAL, PROTECTED, PAGING32, PAE, LONG = "real", "protected", "paging32", "pae", "long"
WIDTH = {REAL: 16, PROTECTED: 32, PAGING32: 32, PAE: 32, LONG: 64}
OPEN = 7  # a page-table entry: present, writable, for ring 3 too
FLAT = 0xFFFF_FFFF


def gdt(bits: int) -> dict[int, Descriptor]:
    """The entries of the GDT by selector (RPL left out)."""
    long = int(bits == 64)

    def code(dpl: int = 0, l: int = long) -> Descriptor:  # noqa: E741
        return Descriptor(limit=FLAT, type=CODE_EXECUTE_READ, dpl=dpl, l=l, db=1 - l, g=1)

    def data(dpl: int = 0, **fields: int) -> Descriptor:
        return Descriptor(**{"limit": FLAT, "type": DATA_READ_WRITE, "dpl": dpl, "db": 1, "g": 1, **fields})

    return {
        at.CODE32: code(l=0),
        at.CODE16: Descriptor(limit=0xFFFF, type=CODE_EXECUTE_READ),
        at.KCODE: code(),
        at.KDATA: data(),
        at.UCODE32 & ~3: code(3, l=0),
        at.UDATA & ~3: data(3),
        at.UCODE & ~3: code(3),
        at.UDATA2 & ~3: data(3),
        at.TR: tss(bits),
        at.ABSENT: data(present=0),
        at.SMALL: data(base=at.DATA, limit=0xF, g=0),
    }


def tss(bits: int, type: int = TSS) -> Descriptor:
    """The descriptor of the TSS. Its limit leaves no I/O bitmap, so ring 3 may use no port."""
    return Descriptor(base=at.TSS, limit=0x67, type=type, s=0, wide=bits == 64)


def memory(mode: str) -> dict[int, bytes]:
    """What to write where before the guest starts."""
    bits = WIDTH[mode]
    pieces = {at.STUBS: stubs.stubs(bits)}
    if mode == REAL:
        return pieces | {0: stubs.ivt()}
    pieces[at.IDT] = stubs.idt(bits)
    pieces |= {at.GDT + selector: descriptor.encode() for selector, descriptor in gdt(bits).items()}
    if bits == 64:  # RSP0, RSP1, RSP2, a reserved quadword, IST1 (SDM vol. 3, "64-Bit TSS")
        pieces[at.TSS] = struct.pack("<I5Q", 0, at.STACK0, 0, 0, 0, at.IST1)
    else:  # the link, ESP0, SS0 (SDM vol. 3, "32-Bit Task-State Segment")
        pieces[at.TSS] = struct.pack("<III", 0, at.STACK0, at.KDATA)
    pieces[at.TSS + 0x66] = struct.pack("<H", 0x68)  # the I/O bitmap would begin behind the limit
    return pieces | {PAGING32: _tables32, PAE: _tables_pae, LONG: _tables_long}.get(mode, dict)()


def _wide(*entries: int) -> bytes:
    return struct.pack(f"<{len(entries)}Q", *entries)


def _tables_long() -> dict[int, bytes]:
    pages = _wide(*(page << 12 | OPEN for page in range(512)))
    return {
        at.PML4: _wide(at.PDPT | OPEN),
        at.PDPT: _wide(at.PD | OPEN),
        at.PD: _wide(at.PT | OPEN, 0x20_0000 | OPEN | 0x80),
        at.PT: pages,
    }


def _tables_pae() -> dict[int, bytes]:
    pages = _wide(*(page << 12 | OPEN for page in range(512)))
    return {
        at.PAE_PDPT: _wide(at.PAE_PD | 1),
        at.PAE_PD: _wide(at.PAE_PT | OPEN, 0x20_0000 | OPEN | 0x80),
        at.PAE_PT: pages,
    }


def _tables32() -> dict[int, bytes]:
    return {
        at.PD32: struct.pack("<I", at.PT32 | OPEN),
        at.PT32: struct.pack("<1024I", *(page << 12 | OPEN for page in range(1024))),
    }


def sregs(mode: str, fresh: Any, ring: int = 0) -> None:
    """Fills `fresh`, the struct kvm_sregs of a new vCPU, for `mode` in `ring` (0 or 3)."""
    fresh.cr0 = b.CR0_ET | b.CR0_NE
    if mode == REAL:
        _segment(fresh.cs, Descriptor(limit=0xFFFF, type=CODE_EXECUTE_READ), 0)
        for name in ("ds", "es", "fs", "gs", "ss"):
            _segment(getattr(fresh, name), Descriptor(limit=0xFFFF, type=DATA_READ_WRITE), 0)
        fresh.idt.base, fresh.idt.limit = 0, 0x3FF
        return
    bits = WIDTH[mode]
    entries = gdt(bits)
    code, data = (at.UCODE, at.UDATA) if ring else (at.KCODE, at.KDATA)
    _segment(fresh.cs, entries[code & ~3], code)
    for name in ("ds", "es", "fs", "gs", "ss"):
        _segment(getattr(fresh, name), entries[data & ~3], data)
    _segment(fresh.tr, tss(bits, BUSY_TSS), at.TR)
    _segment(fresh.ldt, Descriptor(s=0, present=0), 0)
    fresh.gdt.base, fresh.gdt.limit = at.GDT, 0x7F
    fresh.idt.base, fresh.idt.limit = at.IDT, 256 * (16 if bits == 64 else 8) - 1
    fresh.cr0 |= b.CR0_PE | b.CR0_WP | (0 if mode == PROTECTED else b.CR0_PG)
    fresh.cr3 = {PAGING32: at.PD32, PAE: at.PAE_PDPT, LONG: at.PML4}.get(mode, 0)
    fresh.cr4 = b.CR4_PAE if mode in (PAE, LONG) else 0
    fresh.efer = b.EFER_LME | b.EFER_LMA if mode == LONG else 0


def _segment(register: Any, descriptor: Descriptor, selector: int) -> None:
    descriptor.fill(register, selector)
