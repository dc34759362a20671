"""SYSCALL and SYSENTER, which the engine leaves to us; SYSRET and SYSEXIT it does itself.

The CPU is an AMD one, and so are the rules where the makers differ: SYSCALL works in every protected mode, SYSENTER not
in long mode. Source: APM vol. 3, "SYSCALL", "SYSENTER".
"""

from __future__ import annotations

from minivmm.soft.msr_table import CSTAR, FMASK, LSTAR, STAR, SYSENTER_CS, SYSENTER_EIP, SYSENTER_ESP
from minivmm.soft.msrs import Msrs
from minivmm.soft.processor import PROTECTION, UNDEFINED, GuestFault, Processor
from minivmm.soft.state import DESC_L, set_flags, set_segment
from minivmm.x86.bits import EFER_SCE, RFLAGS_IF, RFLAGS_RF, RFLAGS_VM

_CODE_32, _CODE_64, _DATA = 0xC09B00, 0xA09B00, 0xC09300
FLAT = 0xFFFFFFFF


def syscall(cpu: Processor, msrs: Msrs, length: int) -> None:
    """Goes to the kernel's entry. Raises GuestFault(#UD) where SYSCALL isn't enabled."""
    flags = cpu.flags
    env = cpu.look()
    if not env.efer & EFER_SCE or not cpu.protected:
        raise GuestFault(UNDEFINED)
    star = msrs.read(STAR, host=True)
    selector = star >> 32 & 0xFFFC
    next_rip = env.rip + length
    if cpu.long:
        from_64_bit = env.cs.flags & DESC_L
        env.rcx, env.r11 = next_rip, flags & ~RFLAGS_RF
        env.rip = msrs.read(LSTAR if from_64_bit else CSTAR, host=True)
        flags &= ~(msrs.read(FMASK, host=True) | RFLAGS_RF)
        code = _CODE_64
    else:
        env.rcx = next_rip & 0xFFFFFFFF
        env.rip = star & 0xFFFFFFFF
        flags &= ~(RFLAGS_VM | RFLAGS_IF | RFLAGS_RF)
        code = _CODE_32
    _kernel_segments(cpu, selector, code)
    set_flags(env, flags)
    cpu.put()


def sysenter(cpu: Processor, msrs: Msrs) -> None:
    """Goes to the kernel's entry. Raises GuestFault: #UD in long mode, #GP in real mode or without an entry."""
    flags = cpu.flags
    env = cpu.look()
    if cpu.long:
        raise GuestFault(UNDEFINED)
    selector = msrs.read(SYSENTER_CS, host=True) & 0xFFFC
    if not cpu.protected or not selector:
        raise GuestFault(PROTECTION, 0)
    env.rip = msrs.read(SYSENTER_EIP, host=True) & 0xFFFFFFFF
    env.rsp = msrs.read(SYSENTER_ESP, host=True) & 0xFFFFFFFF
    _kernel_segments(cpu, selector, _CODE_32)
    set_flags(env, flags & ~(RFLAGS_VM | RFLAGS_IF | RFLAGS_RF))
    cpu.put()


def _kernel_segments(cpu: Processor, selector: int, code: int) -> None:
    set_segment(cpu.env.cs, selector, 0, FLAT, code)
    set_segment(cpu.env.ss, selector + 8 & 0xFFFF, 0, FLAT, _DATA)
