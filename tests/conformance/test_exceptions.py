"""Exceptions reach the guest's handlers, in each mode, with the right vector, error code and return address.

Source: SDM vol. 3, "Exception and Interrupt Reference".
"""

from __future__ import annotations

import pytest
from rig import HLT, LONG, MODES, PROTECTED, REAL, SHUTDOWN, In, Load, Out, Store, Trapped, asm, asm16, asm32, asm64
from rig.events import is_trap
from rig.layout import ABSENT, CODE, DATA, HOLE, IDT, IST1, KCODE, KDATA, PD, PDPT, PML4, PT, SPARE, STACK, STUBS
from rig.modes import OPEN

from minivmm.kvm import ioctls as io
from minivmm.x86 import bits
from minivmm.x86.gates import TRAP_GATE

DE, DB, NMI, BP, OF, BR, UD, NM, DF, TS, NP, SS, GP, PF, MF, AC, XM = *range(8), 8, *range(10, 15), 16, 17, 19


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("code", "vector", "offset"),
    [
        (asm("div bl"), DE, 0),
        (asm("idiv ebx"), DE, 0),
        (asm("div cl"), DE, 0),
        (asm("ud2"), UD, 0),
        (asm("int3"), BP, 1),
        (asm("int 0x40"), 0x40, 2),
        (asm("int 0xFF"), 0xFF, 2),
    ],
    ids=["div-by-zero", "idiv-by-zero", "quotient-too-large", "ud2", "int3", "int-40", "int-ff"],
)
def test_exceptions_of_every_mode(start, mode, code, vector, offset):
    """A fault's return address is that of the instruction, a trap's is behind it."""
    guest = start(mode, code, rax=0x8000, rbx=0, rcx=1)
    assert guest.trace() == [Trapped(vector)]
    trap = guest.cpu.trap()
    assert (trap.offset, trap.cs) == (offset, 0 if mode == REAL else KCODE)


@pytest.mark.parametrize("mode", [REAL, PROTECTED])
def test_into_and_bound(start, mode):
    overflow = start(mode, {
        16: asm16("mov al, 0x7F; add al, 1; into; hlt"), 32: asm32("mov al, 0x7F; add al, 1; into; hlt"),
    })  # fmt: skip
    assert overflow.trace() == [Trapped(OF)]
    none = start(mode, {16: asm16("xor ax, ax; into; hlt"), 32: asm32("xor eax, eax; into; hlt")})
    assert none.trace() == [HLT]
    beyond = start(mode, {
        16: asm16("mov ax, 5; bound ax, [DATA]; hlt"), 32: asm32("mov eax, 5; bound eax, [DATA]; hlt"),
    })  # fmt: skip
    assert beyond.trace() == [Trapped(BR)]


@pytest.mark.parametrize("mode", MODES)
def test_a_handler_returns_where_it_came_from(start, mode):
    guest = start(mode, asm("mov eax, 1; int 0x40; add eax, 1; mov dx, 0x123; out dx, al; hlt"))
    assert guest.trace(past_traps=1) == [Trapped(0x40), Out(0x123, 1, 2), HLT]
    assert guest.regs.rsp == STACK


@pytest.mark.parametrize("mode", MODES)
def test_a_handler_finds_the_flags_on_the_stack_and_gives_them_back(start, mode):
    guest = start(mode, asm("sti; stc; int 0x40; hlt"))
    assert guest.trace() == [Trapped(0x40)]
    trap = guest.cpu.trap()
    wanted = bits.RFLAGS_IF | bits.RFLAGS_CF | bits.RFLAGS_FIXED
    assert (trap.flags, guest.regs.rflags & bits.RFLAGS_IF) == (wanted, 0)
    assert guest.trace() == [HLT]
    assert guest.regs.rflags == wanted


@pytest.mark.parametrize("mode", [PROTECTED, LONG])
def test_a_trap_gate_leaves_interrupts_on(start, mode):
    guest = start(mode, asm("sti; int 0x40; hlt"))
    guest.gate(0x40, type=TRAP_GATE)
    guest.trace()
    assert guest.regs.rflags & bits.RFLAGS_IF


@pytest.mark.parametrize("mode", [PROTECTED, LONG])
@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (asm("mov eax, ABSENT; mov ds, eax"), Trapped(NP, ABSENT)),
        (asm("mov eax, ABSENT; mov ss, eax"), Trapped(SS, ABSENT)),
        (asm("mov eax, 0xFFF8; mov ds, eax"), Trapped(GP, 0xFFF8)),
        (asm("mov eax, KCODE; mov ss, eax"), Trapped(GP, KCODE)),
        (asm("mov eax, TR; mov es, eax"), Trapped(GP, 0x48)),
        (asm("xor ecx, ecx; dec ecx; rdmsr"), Trapped(GP, 0)),
        (asm("mov eax, 0x80000000; .byte 0x0F, 0x22, 0xC0"), Trapped(GP, 0)),
        (asm("mov eax, 0x80000000; .byte 0x0F, 0x22, 0xE0"), Trapped(GP, 0)),
        (asm("mov eax, 0x68; ltr ax"), Trapped(GP, 0x68)),
    ],
    ids=["ds-absent", "ss-absent", "beyond-gdt", "code-as-stack", "tss-as-data", "rdmsr", "cr0", "cr4", "ltr"],
)
def test_error_codes(start, mode, code, wanted):
    assert start(mode, code).trace() == [wanted]


@pytest.mark.parametrize("mode", [PROTECTED, LONG])
def test_an_absent_gate(start, mode):
    guest = start(mode, asm("int 0x41"))
    guest.gate(0x41, present=0)
    assert guest.trace() == [Trapped(NP, 0x41 * 8 + 2)]


@pytest.mark.parametrize("mode", [PROTECTED, LONG])
def test_a_vector_beyond_the_idt(start, mode):
    guest = start(mode, asm("int 0x41"))
    sregs = guest.cpu.sregs
    sregs.idt.limit = 0x41 * (16 if mode == LONG else 8) - 1
    guest.cpu.set_sregs(sregs)
    assert guest.trace() == [Trapped(GP, 0x41 * 8 + 2)]


def test_a_gate_whose_segment_is_no_code(start):
    guest = start(PROTECTED, asm32("int 0x41"))
    guest.gate(0x41, selector=KDATA)
    assert guest.trace() == [Trapped(GP, KDATA)]


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (asm64("movabs rax, 0x800000000000; mov rax, [rax]"), Trapped(GP, 0)),
        (asm64("movabs rax, 0x800000000000; mov [rax], al"), Trapped(GP, 0)),
        (asm64("movabs rsp, 0x800000000010; push rax"), Trapped(SS, 0)),
        (asm64("movabs rbp, 0x800000000010; mov rax, [rbp]"), Trapped(SS, 0)),
        (asm64("movabs rax, 0x800000000000; jmp rax"), Trapped(GP, 0)),
        (asm64("movabs rax, 0x800000000000; mov ecx, 0xC0000082; rdmsr; bts edx, 15; wrmsr"), Trapped(GP, 0)),
        (asm64("mov ecx, 0xC0000080; mov eax, 0xFFFFFFFF; wrmsr"), Trapped(GP, 0)),
        (asm64("xor eax, eax; mov cr0, rax"), Trapped(GP, 0)),
        (asm64("mov rax, cr4; btr rax, 5; mov cr4, rax"), Trapped(GP, 0)),
    ],
    ids=["load", "store", "push", "rbp", "jump", "wrmsr", "efer", "cr0-zero", "cr4-without-pae"],
)
def test_general_protection_in_long_mode(start, code, wanted):
    guest = start(LONG, code)
    guest.gate(SS, ist=1)  # a handler can't start on the stack that just failed
    assert guest.trace() == [wanted]


@pytest.mark.parametrize("mode", MODES)
def test_the_icebp_instruction(start, mode):
    assert start(mode, asm(".byte 0xF1")).trace() == [Trapped(DB)]


@pytest.mark.parametrize("mode", MODES)
def test_the_trap_flag_steps_the_guest_itself(start, mode):
    guest = start(mode, asm("nop; nop; hlt"), rflags=0x102)
    assert guest.trace() == [Trapped(DB)]
    assert guest.cpu.trap().offset == 1
    assert guest.trace() == [Trapped(DB)]
    assert guest.cpu.trap().offset == 2


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (asm64("out 0x77, al; nop; nop; hlt"), Out(0x77, 1, 5)),
        (asm64("outsb; nop; nop; hlt"), Out(0x123, 1, 0)),
        (asm64("in al, 0x77; nop; nop; hlt"), In(0x77, 1)),
        (asm64("mov [rbx], al; nop; nop; hlt"), Store(HOLE, 1, 5)),
        (asm64("mov al, [rbx]; nop; nop; hlt"), Load(HOLE, 1)),
    ],
    ids=["out", "outsb", "in", "store", "load"],
)
def test_a_step_across_a_device(start, code, wanted):
    """The device sees the access, and the trap comes right behind it."""
    guest = start(LONG, code, rflags=0x102, rax=5, rbx=HOLE, rdx=0x123, rsi=DATA)
    assert guest.trace() == [wanted, Trapped(DB)]
    assert guest.read(guest.cpu.trap().ip, 1) == asm64("nop")
    assert guest.cpu.trap().offset == guest.read(CODE, 16).index(asm64("nop; nop"))


def test_a_step_across_a_chip(start):
    guest = start(LONG, asm64("out 0x21, al; nop; hlt"), irqchip=True, rflags=0x102, rax=0xA5)
    assert guest.trace() == [Trapped(DB)]
    guest.write(CODE, asm64("in al, 0x21; out 0x77, al; ud2"))
    guest.cpu.jump(rflags=2, rax=0)
    assert guest.trace() == [Out(0x77, 1, 0xA5), Trapped(UD)]


@pytest.mark.parametrize("mode", MODES)
def test_the_guests_own_breakpoint(start, mode):
    guest = start(mode, {
        16: asm16("mov eax, offset here; mov dr0, eax; mov eax, 1; mov dr7, eax; nop; here: nop; hlt"),
        32: asm32("mov eax, offset here; mov dr0, eax; mov eax, 1; mov dr7, eax; nop; here: nop; hlt"),
        64: asm64("mov eax, offset here; mov dr0, rax; mov eax, 1; mov dr7, rax; nop; here: nop; hlt"),
    })  # fmt: skip
    assert guest.trace() == [Trapped(DB)]
    assert guest.cpu.trap().offset == len(guest.read(0x1000, 64).rstrip(b"\0")) - 2


@pytest.mark.parametrize("mode", MODES)
def test_no_fpu_while_ts_is_set(start, mode):
    guest = start(mode, asm("fninit; hlt"))
    guest.cpu.change(cr0=guest.cpu.sregs.cr0 | bits.CR0_TS)
    assert guest.trace() == [Trapped(NM)]


def test_an_x87_error_is_reported_at_the_next_wait(start):
    guest = start(LONG, asm64("fninit; fldcw [DATA]; fld1; fldz; fdivp; fwait; hlt"))
    guest.poke(0x4000, 0x0300, 2)
    assert guest.trace() == [Trapped(MF)]


def test_an_sse_error_is_reported_at_once(start):
    guest = start(LONG, asm64("ldmxcsr [DATA]; xorps xmm1, xmm1; movss xmm0, [DATA + 4]; divss xmm0, xmm1; hlt"))
    guest.poke(0x4000, 0x1D80, 4)
    guest.poke(0x4004, 0x3F800000, 4)
    guest.cpu.change(cr4=guest.cpu.sregs.cr4 | bits.CR4_OSFXSR | bits.CR4_OSXMMEXCPT)
    assert guest.trace() == [Trapped(XM)]


def test_alignment_is_checked_in_ring_3_on_demand(start):
    guest = start(LONG, asm64("mov eax, [DATA + 4]; mov eax, [DATA + 1]; ud2"), ring=3, rflags=0x40002)
    guest.cpu.change(cr0=guest.cpu.sregs.cr0 | bits.CR0_AM)
    assert guest.trace() == [Trapped(AC, 0)]


# ---- faults while delivering ----


def test_a_fault_in_a_handler_is_a_fault_of_its_own(start):
    guest = start(LONG, asm64("int 0x40"))
    guest.gate(0x40, 0x2000)
    guest.write(0x2000, asm64("ud2"))
    assert guest.trace() == [Trapped(UD)]
    assert guest.cpu.trap().ip == 0x2000
    assert guest.regs.rsp == STACK - 48 - 40  # each frame starts at a multiple of 16


@pytest.mark.parametrize("mode", [PROTECTED, LONG])
def test_a_benign_exception_whose_gate_is_absent(start, mode):
    guest = start(mode, asm("ud2"))
    guest.gate(UD, present=0)
    assert guest.trace() == [Trapped(NP, UD * 8 + 2 + 1)]  # + 1: an event from outside, no INT n, was on its way


@pytest.mark.parametrize("mode", [PROTECTED, LONG])
def test_two_contributory_faults_are_a_double_fault(start, mode):
    guest = start(mode, asm("mov eax, 0xFFF8; mov ds, eax"))
    guest.gate(GP, present=0)
    assert guest.trace() == [Trapped(DF, 0)]


@pytest.mark.parametrize("mode", [PROTECTED, LONG])
def test_a_divide_error_that_can_not_be_delivered_is_a_double_fault(start, mode):
    guest = start(mode, asm("xor ebx, ebx; div ebx"))
    guest.gate(DE, present=0)
    assert guest.trace() == [Trapped(DF, 0)]


def test_a_page_fault_while_delivering_a_page_fault_is_a_double_fault(start):
    guest = start(LONG, asm64("mov al, [0xC000]"))
    guest.set_page(0xC000, 0)
    guest.set_page(0x8000, 0)  # the stack for the frame
    guest.gate(DF, ist=1)
    assert guest.trace() == [Trapped(DF, 0)]
    assert guest.regs.rsp == IST1 - 48


@pytest.mark.parametrize("mode", [PROTECTED, LONG])
def test_a_triple_fault_shuts_down(start, mode):
    guest = start(mode, asm("mov eax, 0xFFF8; mov ds, eax"))
    guest.gate(GP, present=0)
    guest.gate(DF, present=0)
    assert guest.trace() == [SHUTDOWN]


@pytest.mark.parametrize("mode", [PROTECTED, LONG])
def test_no_idt_at_all_shuts_down(start, mode):
    guest = start(mode, asm("ud2"))
    sregs = guest.cpu.sregs
    sregs.idt.limit = 0
    guest.cpu.set_sregs(sregs)
    assert guest.trace() == [SHUTDOWN]


def test_no_vector_table_in_real_mode_shuts_down(start):
    guest = start(REAL, asm16("lidt [DATA]; ud2"))
    assert guest.trace() == [SHUTDOWN]


def test_a_guest_moves_its_idt(start):
    guest = start(LONG, asm64("sidt [DATA]; lidt [DATA + 16]; int 0x40"))
    guest.poke(0x4010, 0xFFF, 2)
    guest.poke(0x4012, 0xC000)
    guest.write(0xC000, guest.read(IDT, 0x1000))
    guest.write(IDT, bytes(0x1000))
    assert guest.trace() == [Trapped(0x40)]
    assert (guest.word(0x4000, 2), guest.word(0x4002, 8)) == (0xFFF, IDT)


def test_the_vector_table_of_real_mode_can_lie_elsewhere(start):
    guest = start(REAL, asm16("lidt [DATA]; int 0x40"))
    guest.poke(0x4000, 0x3FF, 2)
    guest.poke(0x4002, 0xC000, 4)
    guest.write(0xC000, guest.read(0, 0x400))
    guest.write(0, bytes(0x400))
    assert guest.trace() == [Trapped(0x40)]


def test_a_software_interrupt_pushes_no_error_code(start):
    guest = start(LONG, asm64("int 13"))
    guest.cpu.trace()
    assert (guest.regs.rsp, guest.word(STACK - 40, 8)) == (STACK - 40, 0x1002)
    assert guest.regs.rip - STUBS in range(13 * 8, 14 * 8)


def test_the_64_bit_frame_is_aligned(start):
    guest = start(LONG, asm64("int 0x40"), rsp=STACK - 3)
    guest.trace()
    assert (guest.cpu.trap().sp, guest.regs.rsp) == (STACK - 3, STACK - 16 - 40)


def test_a_stack_pointer_smaller_than_the_frame_wraps_to_the_top_of_the_address_space(start):
    """-40 is an address like any other: canonical, and here there is memory."""
    guest = start(LONG, asm64("ud2"), rsp=8)
    for table, next_one in (PML4, PDPT), (PDPT, PD), (PD, PT), (PT, SPARE):
        guest.poke(table + 511 * 8, next_one | OPEN)
    assert is_trap(guest.cpu.run())
    assert guest.regs.rsp == (1 << 64) - 40
    assert [guest.word(SPARE + 0x1000 - at, 8) for at in (40, 16)] == [CODE, 8]


def test_a_stack_pointer_smaller_than_the_frame_and_no_memory_there(start):
    guest = start(LONG, asm64("ud2"), rsp=8)
    guest.gate(DF, ist=1)
    assert guest.trace() == [Trapped(DF, 0)]  # for no page fault can be delivered there either


@pytest.mark.parametrize("rsp", [0xFFFF_8000_0000_0010, 0x8000_0000_0010], ids=["end", "beginning"])
def test_a_frame_that_reaches_between_the_halves_of_the_address_space(start, rsp):
    guest = start(LONG, asm64("ud2"), rsp=rsp)
    guest.gate(SS, ist=1)
    assert guest.trace() == [Trapped(SS, 1)]  # EXT: another exception was on its way


def test_state_in_vcpu_events_raises_an_exception_on_entry(start):
    guest = start(LONG, asm64("hlt"))
    events = guest.cpu.events
    events.exception.injected, events.exception.nr = 1, GP
    events.exception.has_error_code, events.exception.error_code = 1, 0x1234
    guest.cpu.ioctl(io.KVM_SET_VCPU_EVENTS, events)
    assert guest.trace() == [Trapped(GP, 0x1234)]
