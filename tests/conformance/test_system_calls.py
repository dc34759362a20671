"""SYSCALL, SYSRET, SYSENTER, SYSEXIT: the fast ways between ring 3 and ring 0.

GNU as has no name for the 64-bit SYSRET and SYSEXIT in Intel syntax, hence their bytes: REX.W 0F 07 and REX.W 0F 35.
Source: SDM vol. 2 and APM vol. 3, the instructions. AMD has no SYSENTER in long mode; Intel no SYSCALL outside it.
"""

from __future__ import annotations

import pytest
from rig import HLT, LONG, PROTECTED, Trapped, asm32, asm64
from rig.layout import KCODE, KDATA, SECOND, SPARE, STACK, UCODE, UCODE32, UDATA, UDATA2, USER

from minivmm.x86 import bits

STAR, LSTAR, CSTAR, SFMASK = range(0xC0000081, 0xC0000085)
SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP = 0x174, 0x175, 0x176
UD, GP = 6, 13


def amd(guest):
    return guest.leaf(0).ebx == 0x68747541  # "Auth"


def allow_syscall(guest):
    """STAR: SYSCALL to KCODE, SYSRET to UCODE32 (32-bit) and UCODE (64-bit); the kernel is at SECOND."""
    cpu = guest.cpu
    cpu.change(efer=cpu.sregs.efer | bits.EFER_SCE)
    assert cpu.set_msr(STAR, (UCODE32 << 48) | KCODE << 32)
    assert cpu.set_msr(LSTAR, SECOND)
    assert cpu.set_msr(SFMASK, bits.RFLAGS_IF | bits.RFLAGS_DF)
    return guest


def allow_sysenter(guest):
    for msr, value in ((SYSENTER_CS, KCODE), (SYSENTER_ESP, STACK), (SYSENTER_EIP, SECOND)):
        assert guest.cpu.set_msr(msr, value)
    return guest


def test_syscall_from_ring_3(start):
    guest = allow_syscall(start(LONG, asm64("syscall"), ring=3, rflags=bits.RFLAGS_DF | bits.RFLAGS_CF | 2))
    guest.write(SECOND, asm64("hlt"))
    assert guest.trace() == [HLT]
    regs, sregs = guest.regs, guest.cpu.sregs
    assert (regs.rcx, regs.rsp) == (0x1002, USER)  # the stack is the kernel's own business
    assert regs.r11 & ~bits.RFLAGS_RF == bits.RFLAGS_DF | bits.RFLAGS_CF | 2
    assert regs.rflags & bits.RFLAGS_DF == 0
    assert (sregs.cs.selector, sregs.ss.selector, sregs.cs.dpl) == (KCODE, KDATA, 0)


def test_syscall_keeps_the_flags_that_are_not_masked(start):
    guest = allow_syscall(start(LONG, asm64("syscall"), ring=3, rflags=bits.RFLAGS_CF | bits.RFLAGS_ZF | 2))
    guest.write(SECOND, asm64("hlt"))
    assert guest.trace() == [HLT]
    assert guest.regs.rflags == bits.RFLAGS_CF | bits.RFLAGS_ZF | 2


def test_sysret_to_64_bit_code(start):
    guest = allow_syscall(start(LONG, asm64("mov ecx, SECOND; mov r11d, 0x202; .byte 0x48, 0x0F, 0x07")))
    guest.write(SECOND, asm64("ud2"))
    assert guest.trace() == [Trapped(UD)]
    trap = guest.cpu.trap()
    assert (trap.cs, trap.ss, trap.ip, trap.flags & bits.RFLAGS_IF) == (UCODE, UDATA, SECOND, bits.RFLAGS_IF)


def test_sysret_to_32_bit_code(start):
    guest = allow_syscall(start(LONG, asm64("mov ecx, SECOND; mov r11d, 0x2; .byte 0x0F, 0x07")))
    guest.write(SECOND, asm32("inc eax; nop; ud2"))
    assert guest.trace() == [Trapped(UD)]
    assert (guest.cpu.trap().cs, guest.regs.rax) == (UCODE32, 1)


def test_there_and_back_again(start):
    guest = allow_syscall(start(LONG, asm64("mov eax, 5; syscall; inc eax; syscall; ud2"), ring=3))
    guest.write(SECOND, asm64("add eax, 10; .byte 0x48, 0x0F, 0x07"))
    assert guest.trace() == [Trapped(UD)]
    assert (guest.regs.rax, guest.cpu.trap().cs) == (26, UCODE)


def test_syscall_that_is_not_switched_on(start):
    guest = start(LONG, asm64("syscall"), ring=3)
    guest.cpu.change(efer=guest.cpu.sregs.efer & ~bits.EFER_SCE)
    assert guest.trace() == [Trapped(UD)]


def test_sysret_is_for_ring_0(start):
    assert allow_syscall(start(LONG, asm64(".byte 0x48, 0x0F, 0x07"), ring=3)).trace() == [Trapped(GP, 0)]


def test_syscall_from_compatibility_mode(start):
    guest = allow_syscall(start(LONG, asm64("push UDATA; push USER; push 2; push UCODE32; push SPARE; iretq")))
    assert guest.cpu.set_msr(CSTAR, SECOND)
    guest.write(SPARE, asm32("syscall"))
    guest.write(SECOND, asm64("mov rax, -1; hlt"))
    assert guest.trace() == ([HLT] if amd(guest) else [Trapped(UD)])


def test_sysenter_in_protected_mode(start):
    guest = allow_sysenter(start(PROTECTED, asm32("sysenter"), ring=3, rflags=0x202))
    guest.write(SECOND, asm32("hlt"))
    assert guest.trace() == [HLT]
    regs, sregs = guest.regs, guest.cpu.sregs
    assert (regs.rsp, regs.rflags & bits.RFLAGS_IF) == (STACK, 0)
    assert (sregs.cs.selector, sregs.ss.selector) == (KCODE, KDATA)


def test_sysexit_in_protected_mode(start):
    guest = allow_sysenter(start(PROTECTED, asm32("mov ecx, USER; mov edx, SECOND; sysexit")))
    guest.write(SECOND, asm32("mov eax, 9; ud2"))
    assert guest.trace() == [Trapped(UD)]
    trap = guest.cpu.trap()
    assert (trap.cs, trap.ss, trap.sp, guest.regs.rax) == (UCODE32, UDATA, USER, 9)


@pytest.mark.parametrize("code", [asm32("sysenter"), asm32("sysexit")], ids=["sysenter", "sysexit"])
def test_without_a_segment_they_fault(start, code):
    guest = start(PROTECTED, code)
    guest.cpu.set_msr(SYSENTER_CS, 0)
    assert guest.trace() == [Trapped(GP, 0)]


def test_sysexit_is_for_ring_0(start):
    assert allow_sysenter(start(PROTECTED, asm32("sysexit"), ring=3)).trace() == [Trapped(GP, 0)]


def test_sysenter_in_long_mode(start):
    guest = allow_sysenter(start(LONG, asm64("sysenter"), ring=3))
    guest.write(SECOND, asm64("hlt"))
    assert guest.trace() == ([Trapped(UD)] if amd(guest) else [HLT])


def test_sysexit_to_64_bit_code(start):
    guest = allow_sysenter(start(LONG, asm64("mov ecx, USER; mov edx, SECOND; .byte 0x48, 0x0F, 0x35")))
    guest.write(SECOND, asm64("mov rax, -1; ud2"))
    assert guest.trace() == [Trapped(UD)]
    if not amd(guest):
        assert (guest.cpu.trap().cs, guest.cpu.trap().ss, guest.regs.rax) == (UCODE, UDATA2, (1 << 64) - 1)
