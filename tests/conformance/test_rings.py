"""Privilege: what ring 3 may not do, and every way in and out: gates, the TSS's stacks, IST, IRET, far calls.

Source: SDM vol. 3, "Privilege Levels", "Task Management"; SDM vol. 2, IRET; APM vol. 2, "Control Transfers".
"""

from __future__ import annotations

import pytest
from rig import HLT, LONG, PROTECTED, REAL, Out, Trapped, asm, asm16, asm32, asm64
from rig.layout import (
    CODE32,
    GDT,
    IST1,
    KCODE,
    KDATA,
    SECOND,
    STACK,
    STACK0,
    TR,
    TSS,
    UCODE,
    UCODE32,
    UDATA,
    USER,
)

from minivmm.x86 import bits
from minivmm.x86.gates import Gate

RINGED = [PROTECTED, LONG]
GP, UD = 13, 6

NAMES = ["hlt", "cli", "sti", "in", "out", "mov-from-cr0", "mov-to-cr3", "lgdt", "lidt", "ltr", "lldt", "lmsw", "clts"]
NAMES += ["invlpg", "wbinvd", "rdmsr", "wrmsr", "mov-from-dr0"]


@pytest.mark.parametrize("mode", RINGED)
@pytest.mark.parametrize(
    "code",
    [
        asm("hlt"),
        asm("cli"),
        asm("sti"),
        asm("in al, 0x80"),
        asm("out 0x80, al"),
        asm(".byte 0x0F, 0x20, 0xC0"),
        asm(".byte 0x0F, 0x22, 0xD8"),
        asm("lgdt [DATA]"),
        asm("lidt [DATA]"),
        asm("ltr ax"),
        asm("lldt ax"),
        asm("lmsw ax"),
        asm("clts"),
        asm("invlpg [DATA]"),
        asm("wbinvd"),
        asm("rdmsr"),
        asm("wrmsr"),
        asm(".byte 0x0F, 0x21, 0xC0"),
    ],
    ids=NAMES,
)
def test_ring_3_may_not(start, mode, code):
    guest = start(mode, code, ring=3)
    assert guest.trace() == [Trapped(GP, 0)]
    assert guest.cpu.trap().offset == 0


@pytest.mark.parametrize("mode", RINGED)
def test_a_trap_from_ring_3_starts_on_the_stack_of_the_tss(start, mode):
    guest = start(mode, asm("ud2"), ring=3)
    assert guest.trace() == [Trapped(UD)]
    trap, sregs = guest.cpu.trap(), guest.cpu.sregs
    assert (trap.cs, trap.ss, trap.sp, trap.ip) == (UCODE, UDATA, USER, 0x1000)
    assert guest.regs.rsp == STACK0 - 5 * guest.bits // 8
    # In long mode the new SS is null, with the new privilege level; in protected mode it comes from the TSS.
    assert (sregs.cs.selector, sregs.ss.selector) == (KCODE, 0 if mode == LONG else KDATA)


def test_a_page_fault_from_ring_3(start):
    guest = start(LONG, asm64("mov al, [0xC000]"), ring=3)
    guest.set_page(0xC000, 0xC003)
    assert guest.trace() == [Trapped(14, 5)]
    assert guest.cpu.sregs.cr2 == 0xC000


@pytest.mark.parametrize("mode", RINGED)
def test_int_n_from_ring_3_through_a_gate_of_ring_3(start, mode):
    guest = start(mode, asm("int 0x80"), ring=3)
    guest.gate(0x80, dpl=3)
    assert guest.trace() == [Trapped(0x80)]
    assert (guest.cpu.trap().cs, guest.cpu.trap().offset) == (UCODE, 2)


@pytest.mark.parametrize("mode", RINGED)
def test_int_n_from_ring_3_through_a_gate_of_ring_0(start, mode):
    assert start(mode, asm("int 0x80"), ring=3).trace() == [Trapped(GP, 0x80 * 8 + 2)]


@pytest.mark.parametrize("mode", RINGED)
def test_int3_from_ring_3(start, mode):
    allowed = start(mode, asm("int3"), ring=3)
    allowed.gate(3, dpl=3)
    assert allowed.trace() == [Trapped(3)]
    assert start(mode, asm("int3"), ring=3).trace() == [Trapped(GP, 3 * 8 + 2)]


@pytest.mark.parametrize("mode", RINGED)
def test_down_to_ring_3_and_up_again(start, mode):
    guest = start(mode, {
        32: asm32("push UDATA; push USER; push 0x202; push UCODE; push SECOND; iretd"),
        64: asm64("push UDATA; push USER; push 0x202; push UCODE; push SECOND; iretq"),
    })  # fmt: skip
    guest.write(SECOND, asm("mov eax, 0x33; ud2")[guest.bits])
    assert guest.trace() == [Trapped(UD)]
    trap = guest.cpu.trap()
    assert (trap.cs, trap.ss, trap.sp, trap.flags & bits.RFLAGS_IF) == (UCODE, UDATA, USER, bits.RFLAGS_IF)
    assert guest.regs.rax == 0x33


def test_a_trap_from_ring_3_returns_there(start):
    guest = start(LONG, asm64("int3; mov eax, 5; ud2"), ring=3)
    guest.gate(3, dpl=3)
    assert guest.trace(past_traps=1) == [Trapped(3), Trapped(UD)]
    assert guest.regs.rax == 5


@pytest.mark.parametrize("ring", [0, 3])
def test_ist_gives_a_known_good_stack(start, ring):
    guest = start(LONG, asm64("ud2"), ring=ring)
    guest.gate(UD, ist=1)
    assert guest.trace() == [Trapped(UD)]
    assert guest.regs.rsp == IST1 - 40
    assert guest.cpu.trap().sp == (USER if ring else STACK)


# ---- IRET ----


def test_iret_in_real_mode(start):
    guest = start(REAL, asm16("pushf; push 0x10; push SECOND - 0x100; iret"))
    guest.write(SECOND, asm16("mov bx, cs; hlt"))
    assert guest.trace() == [HLT]
    assert (guest.regs.rbx & 0xFFFF, guest.regs.rsp) == (0x10, STACK)


def test_iretd_in_real_mode(start):
    guest = start(REAL, asm16("pushd 0x2; pushd 0; pushd SECOND; iretd"))
    guest.write(SECOND, asm16("hlt"))
    assert guest.trace() == [HLT]


def test_iretd_to_the_same_ring(start):
    guest = start(PROTECTED, asm32("push 0x203; push KCODE; push SECOND; iretd"))
    guest.write(SECOND, asm32("hlt"))
    assert guest.trace() == [HLT]
    assert guest.regs.rflags == 0x203


def test_iretq_always_takes_the_stack(start):
    guest = start(LONG, asm64("push 0; push USER; push 0x2; push KCODE; push SECOND; iretq"))
    guest.write(SECOND, asm64("hlt"))
    assert guest.trace() == [HLT]
    assert guest.regs.rsp == USER


def test_iretq_to_compatibility_mode(start):
    guest = start(LONG, asm64("push UDATA; push USER; push 0x2; push UCODE32; push SECOND; iretq"))
    guest.write(SECOND, asm32("inc eax; nop; ud2"))
    assert guest.trace() == [Trapped(UD)]
    assert (guest.regs.rax, guest.cpu.trap().cs) == (1, UCODE32)


def test_iret_with_16_bit_operands_in_protected_mode(start):
    guest = start(PROTECTED, asm32("pushw 0x2; pushw KCODE; pushw SECOND; iretw"))
    guest.write(SECOND, asm32("hlt"))
    assert guest.trace() == [HLT]


def test_iret_in_long_mode_knows_no_nested_tasks(start):
    guest = start(LONG, asm64("push KDATA; push STACK; push 2; push KCODE; push SECOND; iretq"), rflags=0x4002)
    assert guest.trace() == [Trapped(GP, 0)]


@pytest.mark.parametrize("mode", RINGED)
def test_iret_to_a_null_selector(start, mode):
    guest = start(mode, {
        32: asm32("push 2; push 0; push SECOND; iretd"),
        64: asm64("push KDATA; push STACK; push 2; push 0; push SECOND; iretq"),
    })  # fmt: skip
    assert guest.trace() == [Trapped(GP, 0)]


def test_iret_to_a_data_segment(start):
    guest = start(LONG, asm64("push KDATA; push STACK; push 2; push KDATA; push SECOND; iretq"))
    assert guest.trace() == [Trapped(GP, KDATA)]


def test_iret_may_not_raise_the_privilege(start):
    guest = start(LONG, asm64("push KDATA; push USER - 64; push 2; push KCODE; push SECOND; iretq"), ring=3)
    assert guest.trace() == [Trapped(GP, KCODE)]


def test_iret_in_ring_3_can_not_switch_interrupts_on(start):
    guest = start(LONG, asm64("""
        push UDATA; push USER; push 0x3202; push UCODE; mov eax, offset next; push rax; iretq
    next: ud2
    """), ring=3)  # fmt: skip
    assert guest.trace() == [Trapped(UD)]
    assert guest.cpu.trap().flags & (bits.RFLAGS_IF | bits.RFLAGS_IOPL) == 0


# ---- the flags that ring 3 can't change, and I/O ----


@pytest.mark.parametrize("mode", RINGED)
def test_popf_in_ring_3_leaves_if_and_iopl_alone(start, mode):
    guest = start(mode, {32: asm32("push 0x3201; popfd; ud2"), 64: asm64("push 0x3201; popfq; ud2")}, ring=3)
    assert guest.trace() == [Trapped(UD)]
    flags = guest.cpu.trap().flags
    assert flags & (bits.RFLAGS_IF | bits.RFLAGS_IOPL | bits.RFLAGS_CF) == bits.RFLAGS_CF


def test_iopl_3_lets_ring_3_use_ports_and_the_interrupt_flag(start):
    guest = start(LONG, asm64("cli; sti; mov dx, 0x123; out dx, al; ud2"), ring=3, rflags=0x3002)
    assert guest.trace() == [Out(0x123, 1, 0), Trapped(UD)]


@pytest.mark.parametrize("mode", RINGED)
def test_the_io_bitmap_lets_ring_3_use_single_ports(start, mode):
    guest = start(mode, asm("mov dx, 0x123; out dx, al; inc dx; out dx, al; hlt"), ring=3)
    bitmap = bytearray(b"\xff" * 0x60)
    bitmap[0x123 // 8] &= ~(1 << 0x123 % 8)
    guest.write(TSS + 0x68, bytes(bitmap))
    sregs = guest.cpu.sregs
    sregs.tr.limit = 0x68 + len(bitmap) - 1
    guest.cpu.set_sregs(sregs)
    assert guest.trace() == [Out(0x123, 1, 0), Trapped(GP, 0)]


def test_a_wide_access_needs_every_bit(start):
    guest = start(LONG, asm64("mov dx, 0x123; out dx, ax"), ring=3)
    bitmap = bytearray(b"\xff" * 0x60)
    bitmap[0x123 // 8] &= ~(1 << 0x123 % 8)
    guest.write(TSS + 0x68, bytes(bitmap))
    sregs = guest.cpu.sregs
    sregs.tr.limit = 0x68 + len(bitmap) - 1
    guest.cpu.set_sregs(sregs)
    assert guest.trace() == [Trapped(GP, 0)]


# ---- far control transfers ----


def test_far_return_to_compatibility_mode(start):
    guest = start(LONG, asm64("push CODE32; push SECOND; rex.w lret"))
    guest.write(SECOND, asm32("inc eax; nop; hlt"))
    assert guest.trace() == [HLT]
    assert (guest.regs.rax, guest.cpu.sregs.cs.l) == (1, 0)


def test_far_return_to_ring_3(start):
    guest = start(LONG, asm64("push UDATA; push USER; push UCODE; push SECOND; rex.w lret"))
    guest.write(SECOND, asm64("ud2"))
    assert guest.trace() == [Trapped(UD)]
    assert (guest.cpu.trap().cs, guest.cpu.trap().sp) == (UCODE, USER)


def test_far_call_and_return_in_protected_mode(start):
    guest = start(PROTECTED, asm32("lcall CODE32, SECOND; mov ebx, cs; hlt"))
    guest.write(SECOND, asm32("mov eax, cs; lret"))
    assert guest.trace() == [HLT]
    assert (guest.regs.rax, guest.regs.rbx, guest.regs.rsp) == (CODE32, KCODE, STACK)


@pytest.mark.parametrize("mode", RINGED)
def test_a_call_gate_leads_from_ring_3_to_ring_0(start, mode):
    guest = start(mode, {
        32: asm32("lcall 0x68, 0"),
        64: asm64("lcall [DATA]"),
    }, ring=3)  # fmt: skip
    guest.write(0x4000, b"\0\0\0\0\x68\0")
    guest.write(GDT + 0x68, Gate(SECOND, KCODE, type=12, dpl=3, wide=mode == LONG).encode())
    guest.write(SECOND, asm("mov eax, cs; hlt")[guest.bits])
    assert guest.trace() == [HLT]
    assert guest.regs.rax == KCODE
    assert guest.regs.rsp == STACK0 - 4 * guest.bits // 8


def test_a_call_gate_of_ring_0_refuses_ring_3(start):
    guest = start(LONG, asm64("lcall [DATA]"), ring=3)
    guest.write(0x4000, b"\0\0\0\0\x68\0")
    guest.write(GDT + 0x68, Gate(SECOND, KCODE, type=12, dpl=0).encode())
    assert guest.trace() == [Trapped(GP, 0x68)]


# ---- system segments ----


@pytest.mark.parametrize("mode", RINGED)
def test_ltr_marks_the_tss_busy(start, mode):
    guest = start(mode, asm("mov eax, TR; ltr ax; str ebx; hlt"))
    assert guest.trace() == [HLT]
    assert (guest.read(GDT + TR + 5, 1)[0] & 15, guest.regs.rbx) == (11, TR)
    assert guest.cpu.sregs.tr.base == TSS


@pytest.mark.parametrize("mode", RINGED)
def test_a_busy_tss_can_not_be_loaded(start, mode):
    assert start(mode, asm("mov eax, TR; ltr ax; ltr ax")).trace() == [Trapped(GP, TR)]


def test_a_local_descriptor_table(start):
    guest = start(PROTECTED, asm32("mov eax, 0x68; lldt ax; mov eax, 0x0C; mov fs, eax; mov al, fs:[1]; sldt ebx; hlt"))
    guest.entry(0x68, 0x0000_8200_C000_000F)  # an LDT of 16 bytes at SPARE
    guest.poke(0xC008, 0x0040_9200_4000_000F)  # its second entry: data at DATA
    guest.write(0x4001, b"\x21")
    assert guest.trace() == [HLT]
    assert (guest.regs.rax & 0xFF, guest.regs.rbx) == (0x21, 0x68)


@pytest.mark.parametrize("mode", RINGED)
def test_selector_questions(start, mode):
    code = asm("""
        mov ecx, UDATA; lsl eax, ecx; setz bl; lar edx, ecx; mov ecx, KCODE; verr cx; setz bh; verw cx; setz ch
        mov esi, 0xFFF8; lsl edi, esi; setz cl; hlt
    """)
    guest = start(mode, code)
    assert guest.trace() == [HLT]
    regs = guest.regs
    assert (regs.rax, regs.rdx & 0xFFF0FFFF) == (0xFFFFFFFF, 0x00C0F300)  # LAR leaves bits 19:16 undefined
    assert (regs.rbx & 0xFFFF, regs.rcx & 0xFFFF) == (0x0101, 0)
