"""The page walk: 32-bit, PAE and 4-level tables (native/paging.c).

x86/paging.py walks too, for people to read; it sets no accessed bits and knows no rights, so it can't stand in here.
Source: SDM vol. 3, chapter "Paging"; the error code: "Page-Fault Exceptions".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minivmm.soft.plain.constants import (
    CR0_PG,
    CR0_WP,
    CR4_PAE,
    CR4_PSE,
    CR4_SMEP,
    EFER_NXE,
    FETCH,
    MASK32,
    NON_CANONICAL,
    PAGE,
    PAGE_FAULT,
    PROT_R,
    PROT_W,
    PROT_X,
    WRITE,
)
from minivmm.soft.plain.cpu import Cpu, ffi
from minivmm.soft.plain.memory import host_at, mark_dirty, slot_at

PTE_P, PTE_W, PTE_U, PTE_A, PTE_D, PTE_PS, PTE_NX = 1, 2, 4, 0x20, 0x40, 0x80, 1 << 63
PF_P, PF_W, PF_U, PF_RSVD, PF_I = 1, 2, 4, 8, 16


@dataclass(frozen=True)
class Paging:
    """How the present mode walks: `bits` of the address at each level; what of an entry is an address, or must be 0."""

    levels: int
    bits: int
    entry_size: int
    address: int
    reserved: int

    def large_reserved(self, size: int) -> int:
        """What else must be 0 in an entry that maps a large page: the low bits of its address."""
        return (size - 1) & ~0x1FFF if self.entry_size == 8 else 1 << 21  # bit 12 is PAT; 13 to 20 are PSE-36


_TWO_LEVELS = Paging(2, 10, 4, 0xFFFFF000, 0)


def paging_of(cpu: Cpu) -> Paging:
    c = cpu.c
    if not cpu.long and not c.cr4 & CR4_PAE:
        return _TWO_LEVELS
    levels = 4 if cpu.long else 3
    reserved = ~c.physical_mask & ((1 << 52) - 1 if levels == 4 else (1 << 63) - 1)
    if not c.efer & EFER_NXE:
        reserved |= PTE_NX
    return Paging(levels, 9, 8, c.physical_mask & ~0xFFF, reserved)


def walk(cpu: Cpu, va: int, access: int, user: bool) -> tuple[int, int, int]:
    """Why it failed (0, NON_CANONICAL, or PAGE_FAULT with fault_code); else the GPA of `va`, and what its entry allows
    besides this access (PROT_*). Sets accessed and dirty bits as the processor does."""
    c, long = cpu.c, cpu.long
    if not long:
        va &= MASK32
    if not c.cr0 & CR0_PG:
        return 0, va, PROT_R | PROT_W | PROT_X
    if long and (va >> 47) not in (0, 0x1FFFF):
        return NON_CANONICAL, 0, 0
    mode, smep = paging_of(cpu), bool(c.cr4 & CR4_SMEP)
    code = (PF_W if access == WRITE else 0) | (PF_U if user else 0)
    if access == FETCH and (smep or (mode.entry_size == 8 and c.efer & EFER_NXE)):
        code |= PF_I

    def fault(more: int = 0) -> tuple[int, int, int]:
        c.fault_code = code | more
        return PAGE_FAULT, 0, 0

    rights, nx = PTE_W | PTE_U, 0
    table = cpu.reg(cpu.library.reg_cr3) & (0xFFFFFFE0 if mode.levels == 3 else mode.address)
    level = mode.levels - 1
    while True:
        shift, directory_pointer = 12 + mode.bits * level, mode.levels == 3 and level == 2
        at = table + (va >> shift & (1 << mode.bits) - 1) * mode.entry_size
        host = host_at(cpu, at)
        entry = 0 if host is None else int.from_bytes(ffi.buffer(host, mode.entry_size)[:], "little")
        if not entry & PTE_P:  # a table in a hole reads as empty
            return fault()
        size = 1 << shift
        if entry & mode.reserved:
            return fault(PF_RSVD | PF_P)
        if not directory_pointer:  # a PDPTE of PAE has no rights and no accessed bit
            rights &= entry
            nx |= entry & PTE_NX
        if not level:
            break
        if entry & PTE_PS and not directory_pointer and (mode.entry_size == 8 or c.cr4 & CR4_PSE):
            if level == 3 or entry & mode.large_reserved(size):
                return fault(PF_RSVD | PF_P)
            break
        if not directory_pointer:
            _set_bits(cpu, at, host, PTE_A)
        table = entry & mode.address
        level -= 1

    no_fetch = bool(nx) or (not user and bool(rights & PTE_U) and smep)
    may_write = bool(rights & PTE_W) or not (user or c.cr0 & CR0_WP)
    if (user and not rights & PTE_U) or (access == WRITE and not may_write) or (access == FETCH and no_fetch):
        return fault(PF_P)
    _set_bits(cpu, at, host, PTE_A | PTE_D if access == WRITE else PTE_A)
    gpa = entry & mode.address & ~(size - 1) | va & size - 1
    if mode.entry_size == 4 and level:
        gpa |= (entry >> 13 & 0xFF) << 32
    # Without D, a later write must come here again to set it.
    perms = PROT_R | (0 if no_fetch else PROT_X) | (PROT_W if may_write and host[0] & PTE_D else 0)  # type: ignore[index]
    return 0, gpa, perms


def _set_bits(cpu: Cpu, gpa: int, entry: Any, bits: int) -> None:
    if entry[0] & bits != bits:
        entry[0] |= bits
        mark_dirty(slot_at(cpu, gpa), gpa)


def fetch(cpu: Cpu, va: int, user: bool, size: int) -> bytes:
    """`size` bytes at the linear address `va`, as code is read; fewer where they can't be had."""
    code = b""
    while len(code) < size:
        piece = min(size - len(code), PAGE - va % PAGE)
        failed, gpa, _ = walk(cpu, va, FETCH, user)
        host = None if failed else host_at(cpu, gpa)
        if host is None:
            break
        code += ffi.buffer(host, piece)[:]
        va += piece
    return code
