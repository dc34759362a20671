"""MOV to and from control and debug registers, LMSW: with the rules that the engine does not check.

Source: SDM vol. 2, "MOV—Move to/from Control Registers", "MOV—Move to/from Debug Registers"; vol. 3, "Control
Registers", "Debug Registers".
"""

from __future__ import annotations

from typing import Any

from minivmm.soft.engine import PHYSICAL_BITS
from minivmm.soft.processor import DEBUG, MASK64, PROTECTION, UNDEFINED, GuestFault, Processor
from minivmm.soft.state import DESC_L, GPRS
from minivmm.x86.bits import CR0_CD, CR0_ET, CR0_NW, CR0_PE, CR0_PG, CR4_DE, CR4_PAE, EFER_LMA, EFER_LME

_CR0_DEFINED = 0xE005003F
DR6_FIXED, DR7_FIXED, DR7_GD = 0xFFFF0FF0, 0x400, 1 << 13


def operands(code: bytes, bits: int) -> tuple[int, str]:
    """The number of the control or debug register, and the name of the general one."""
    at, rex = 0, 0
    while code[at] != 0x0F:
        rex = code[at] & 0xF if bits == 64 and code[at] & 0xF0 == 0x40 else 0
        at += 1
    modrm = code[at + 2]
    lock_means_8 = 0xF0 in code[:at]  # LOCK MOV CR0 is AMD's way to CR8 (APM vol. 3, "MOV CRn")
    number = modrm >> 3 & 7 | (rex & 4) << 1 | (8 if lock_means_8 else 0)
    return number, GPRS[modrm & 7 | (rex & 1) << 3]


def valid_cr0(value: int) -> bool:
    """Whether CR0 may have this value at all."""
    no_pe, no_cd = not value & CR0_PE, not value & CR0_CD
    return not (value >> 32 or (value & CR0_PG and no_pe) or (value & CR0_NW and no_cd))


def valid_sregs(sregs: Any, cr4_allowed: int) -> bool:
    """What KVM_SET_SREGS looks at: the mode must be one, the control registers valid. Source: SDM vol. 3, "Checks on
    Guest Control Registers, Debug Registers, and MSRs", as far as KVM itself makes them."""
    if sregs.efer & EFER_LME and sregs.cr0 & CR0_PG:
        if not sregs.cr4 & CR4_PAE or not sregs.efer & EFER_LMA or sregs.cr3 >> PHYSICAL_BITS:
            return False
    elif sregs.efer & EFER_LMA or sregs.cs.l:
        return False
    return valid_cr0(sregs.cr0) and not sregs.cr4 & ~cr4_allowed


def write_cr0(cpu: Processor, value: int) -> None:
    """Raises GuestFault(#GP) for a value that CR0 can't have now."""
    env = cpu.env
    if not valid_cr0(value):
        raise GuestFault(PROTECTION, 0)
    value = value & _CR0_DEFINED | CR0_ET
    turns_on, turns_off = value & ~env.cr0 & CR0_PG, env.cr0 & ~value & CR0_PG
    if turns_on and env.efer & EFER_LME:
        if not env.cr4 & CR4_PAE or env.cs.flags & DESC_L:
            raise GuestFault(PROTECTION, 0)
        env.efer |= EFER_LMA
    if turns_off:
        if env.efer & EFER_LMA and env.cs.flags & DESC_L:
            raise GuestFault(PROTECTION, 0)
        env.efer &= ~EFER_LMA
    env.cr0 = value


def write_cr4(cpu: Processor, value: int, allowed: int) -> None:
    """Raises GuestFault(#GP) for bits that this CPU doesn't have, and for turning PAE off in long mode."""
    env = cpu.env
    if value & ~allowed or (env.efer & EFER_LMA and not value & CR4_PAE):
        raise GuestFault(PROTECTION, 0)
    env.cr4 = value


def debug_register(cpu: Processor, number: int) -> int:
    """Which register the number means: 4 and 5 are 6 and 7, unless CR4.DE makes them #UD. DR7.GD traps the access."""
    if number in (4, 5):
        if cpu.env.cr4 & CR4_DE:
            raise GuestFault(UNDEFINED)
        number += 2
    if number > 7:
        raise GuestFault(UNDEFINED)
    if cpu.dr[7] & DR7_GD:
        cpu.dr[7] &= ~DR7_GD
        cpu.dr[6] |= 1 << 13
        raise GuestFault(DEBUG)
    return number


def write_debug_register(cpu: Processor, number: int, value: int) -> None:
    """Raises GuestFault(#GP) where DR6 or DR7 would get upper bits."""
    if number in (6, 7) and value >> 32:
        raise GuestFault(PROTECTION, 0)
    if number == 6:
        value = value & 0x1E00F | DR6_FIXED
    if number == 7:
        value = value & 0xFFFF2BFF | DR7_FIXED
    cpu.dr[number] = value & MASK64
