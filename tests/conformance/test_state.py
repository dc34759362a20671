"""Everything that can be read from a vCPU and set again, and a guest that moves to another VM at work.

Source: KVM API, KVM_GET_* and KVM_SET_*; SDM vol. 1, "FXSAVE Area".
"""

from __future__ import annotations

import pytest
from rig import HLT, LONG, MODES, REAL, Out, asm, asm16, asm64
from rig.layout import DATA, RAM_SIZE
from rig.modes import WIDTH

from minivmm.kvm import constants as k
from minivmm.kvm import ioctls as io
from minivmm.kvm.binding import ffi
from minivmm.kvm.calls import struct
from minivmm.x86 import bits

GENERAL = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", *(f"r{n}" for n in range(8, 16)))


def test_general_registers(start):
    cpu = start(LONG, asm64("hlt")).cpu
    values = {name: 0x1111_1111_1111_1111 * (n % 15 + 1) & (1 << 64) - 1 for n, name in enumerate(GENERAL)}
    cpu.set(**values, rip=0x1234, rflags=0x246)
    regs = cpu.regs
    assert {name: getattr(regs, name) for name in GENERAL} == values
    assert (regs.rip, regs.rflags) == (0x1234, 0x246)


def test_the_fixed_flag_is_always_set(start):
    cpu = start(LONG, asm64("hlt")).cpu
    cpu.set(rflags=0)
    assert cpu.regs.rflags & bits.RFLAGS_FIXED


@pytest.mark.parametrize("mode", MODES)
def test_special_registers_survive_a_round_trip(start, mode):
    cpu = start(mode, asm("hlt")).cpu
    before = bytes(ffi.buffer(cpu.sregs))
    cpu.set_sregs(cpu.sregs)
    assert bytes(ffi.buffer(cpu.sregs)) == before


def test_the_state_of_reset(vm):
    cpu = vm.add_cpu()
    regs, sregs = cpu.regs, cpu.sregs
    assert (regs.rip, regs.rflags, sregs.cs.selector, sregs.cs.base) == (0xFFF0, 2, 0xF000, 0xFFFF0000)
    assert (sregs.cr0, sregs.cr4, sregs.efer, sregs.ds.limit, sregs.idt.limit) == (0x60000010, 0, 0, 0xFFFF, 0xFFFF)


def test_a_guest_starts_at_the_reset_vector(vm):
    rom = vm.slot(0, 0xFFFF0000, 0x10000)
    code = asm16("mov dx, 0x123; mov al, 5; out dx, al; hlt")
    rom[0xFFF0 : 0xFFF0 + len(code)] = code
    cpu = vm.add_cpu()
    assert cpu.trace() == [Out(0x123, 1, 5), HLT]


def test_the_second_form_of_the_special_registers(start):
    guest = start(LONG, asm64("hlt"))
    if not guest.has(k.KVM_CAP_SREGS2):
        pytest.skip("no KVM_CAP_SREGS2")
    second = guest.cpu.get(io.KVM_GET_SREGS2, "kvm_sregs2")
    assert (second.cr3, second.efer, second.cs.selector) == (guest.cpu.sregs.cr3, guest.cpu.sregs.efer, 0x18)
    guest.cpu.ioctl(io.KVM_SET_SREGS2, second)
    assert guest.trace() == [HLT]


def test_debug_registers(start):
    cpu = start(LONG, asm64("mov rax, dr1; mov rbx, dr7; hlt")).cpu
    state = cpu.get(io.KVM_GET_DEBUGREGS, "kvm_debugregs")
    assert (state.dr6, state.dr7) == (0xFFFF0FF0, 0x400)
    state.db[1], state.dr7 = 0x123456, 0x401
    cpu.ioctl(io.KVM_SET_DEBUGREGS, state)
    again = cpu.get(io.KVM_GET_DEBUGREGS, "kvm_debugregs")
    assert (again.db[1], again.dr7) == (0x123456, 0x401)
    again.dr7 = 0x400
    cpu.ioctl(io.KVM_SET_DEBUGREGS, again)
    assert cpu.trace() == [HLT]
    assert (cpu.regs.rax, cpu.regs.rbx) == (0x123456, 0x400)


def test_the_guest_sets_debug_registers(start):
    cpu = start(LONG, asm64("mov eax, 0x4444; mov dr3, rax; hlt")).cpu
    assert cpu.trace() == [HLT]
    assert cpu.get(io.KVM_GET_DEBUGREGS, "kvm_debugregs").db[3] == 0x4444


# ---- floating point ----


def test_the_fpu_after_reset(start):
    fpu = start(LONG, asm64("hlt")).cpu.get(io.KVM_GET_FPU, "kvm_fpu")
    assert (fpu.fcw, fpu.fsw, fpu.ftwx) == (0x37F, 0, 0)


def test_the_fpu_survives_a_round_trip(start):
    cpu = start(LONG, asm64("hlt")).cpu
    fpu = cpu.get(io.KVM_GET_FPU, "kvm_fpu")
    fpu.fcw, fpu.ftwx = 0x27F, 0x80  # KVM neither takes nor gives MXCSR here: XSAVE has it
    for n in range(16):
        fpu.xmm[n] = [n + 1] * 16
    fpu.fpr[0] = [0, 0, 0, 0, 0, 0, 0, 0x80, 0xFF, 0x3F, 0, 0, 0, 0, 0, 0]
    cpu.ioctl(io.KVM_SET_FPU, fpu)
    again = cpu.get(io.KVM_GET_FPU, "kvm_fpu")
    assert (again.fcw, again.ftwx) == (0x27F, 0x80)
    assert [again.xmm[n][0] for n in range(16)] == list(range(1, 17))
    assert bytes(again.fpr[0])[:10] == bytes(fpu.fpr[0])[:10]


def test_the_guest_sees_the_vector_registers_that_were_set(start):
    cpu = start(LONG, asm64("movdqu [DATA], xmm3; mov eax, 0x55; movd xmm4, eax; hlt")).cpu
    cpu.change(cr4=cpu.sregs.cr4 | bits.CR4_OSFXSR)
    fpu = cpu.get(io.KVM_GET_FPU, "kvm_fpu")
    fpu.xmm[3] = list(range(16))
    cpu.ioctl(io.KVM_SET_FPU, fpu)
    assert cpu.trace() == [HLT]
    assert cpu.guest.read(DATA, 16) == bytes(range(16))
    assert bytes(cpu.get(io.KVM_GET_FPU, "kvm_fpu").xmm[4]) == b"\x55" + bytes(15)


def test_xsave_holds_the_same_as_the_fpu(start):
    guest = start(LONG, asm64("hlt"))
    if not guest.has(k.KVM_CAP_XSAVE):
        pytest.skip("no KVM_CAP_XSAVE")
    fpu = guest.cpu.get(io.KVM_GET_FPU, "kvm_fpu")
    fpu.xmm[0], fpu.fcw = [7] * 16, 0x27F
    guest.cpu.ioctl(io.KVM_SET_FPU, fpu)
    area = ffi.new("struct kvm_xsave *", {"extra": 1024})
    guest.cpu.ioctl(io.KVM_GET_XSAVE, area)
    data = bytes(ffi.buffer(area.region))
    assert (data[0:2], data[160:176]) == (b"\x7f\x02", b"\x07" * 16)
    ffi.buffer(area.region)[160:176] = b"\x09" * 16
    guest.cpu.ioctl(io.KVM_SET_XSAVE, area)
    assert bytes(guest.cpu.get(io.KVM_GET_FPU, "kvm_fpu").xmm[0]) == b"\x09" * 16


def test_extended_control_registers(start):
    guest = start(LONG, asm64("hlt"))
    if not guest.has(k.KVM_CAP_XCRS) or not guest.leaf(1).ecx >> 26 & 1:
        pytest.skip("no KVM_CAP_XCRS, or no XSAVE in CPUID")
    state = guest.cpu.get(io.KVM_GET_XCRS, "kvm_xcrs")
    assert (state.nr_xcrs, state.xcrs[0].xcr, state.xcrs[0].value & 1) == (1, 0, 1)
    state.xcrs[0].value = 3
    guest.cpu.ioctl(io.KVM_SET_XCRS, state)
    assert guest.cpu.get(io.KVM_GET_XCRS, "kvm_xcrs").xcrs[0].value == 3
    state.xcrs[0].value = 2  # x87 can't be left out
    with pytest.raises(OSError, match="EINVAL"):
        guest.cpu.ioctl(io.KVM_SET_XCRS, state)


# ---- events ----


def test_events_of_a_vcpu_at_rest(start):
    events = start(LONG, asm64("hlt")).cpu.events
    assert (events.exception.injected, events.interrupt.injected, events.nmi.injected, events.nmi.masked) == (0,) * 4


def test_the_shadow_of_sti_can_be_set(start):
    guest = start(LONG, asm64("nop; spin: jmp spin"), rflags=0x202)
    events = guest.cpu.events
    events.flags, events.interrupt.shadow = k.KVM_VCPUEVENT_VALID_SHADOW, k.KVM_X86_SHADOW_INT_STI
    guest.cpu.ioctl(io.KVM_SET_VCPU_EVENTS, events)
    assert guest.cpu.events.interrupt.shadow  # AMD-V knows one shadow, whatever made it
    guest.cpu.page.request_interrupt_window = 1
    assert guest.cpu.run().name == "KVM_EXIT_IRQ_WINDOW_OPEN"
    assert guest.regs.rip >= 0x1001


def test_unknown_flags_of_events_are_refused(start):
    cpu = start(LONG, asm64("hlt")).cpu
    events = cpu.events
    events.flags = 1 << 30
    with pytest.raises(OSError, match="EINVAL"):
        cpu.ioctl(io.KVM_SET_VCPU_EVENTS, events)


# ---- a whole guest moves ----

VCPU_STATE = [
    (io.KVM_GET_SREGS, io.KVM_SET_SREGS, "kvm_sregs"),
    (io.KVM_GET_REGS, io.KVM_SET_REGS, "kvm_regs"),
    (io.KVM_GET_FPU, io.KVM_SET_FPU, "kvm_fpu"),
    (io.KVM_GET_DEBUGREGS, io.KVM_SET_DEBUGREGS, "kvm_debugregs"),
    (io.KVM_GET_VCPU_EVENTS, io.KVM_SET_VCPU_EVENTS, "kvm_vcpu_events"),
]
MSRS = (0x174, 0x175, 0x176, 0x277, *range(0xC0000081, 0xC0000085), 0xC0000102)


def move(old, new):
    """All of a stopped guest goes to another, in the order that QEMU and kvmtool use too: MSRs behind SREGS."""
    new.write(0, old.read(0, RAM_SIZE))
    for get, put, kind in VCPU_STATE:
        state = old.cpu.get(get, kind)
        new.cpu.set_sregs(state) if put == io.KVM_SET_SREGS else new.cpu.ioctl(put, state)
    for number in MSRS:
        value = old.cpu.msr(number)
        assert value is None or new.cpu.set_msr(number, value)


COUNT = {
    16: asm16("mov dx, 0x123; again: inc ax; out dx, ax; mov [DATA], ax; push ax; pop bx; cmp ax, 20; jne again; hlt"),
    64: asm64("mov dx, 0x123; on: inc eax; out dx, ax; mov [DATA], ax; push rax; pop rbx; cmp ax, 20; jne on; hlt"),
}  # fmt: skip


@pytest.mark.parametrize("mode", [REAL, LONG])
def test_a_guest_goes_on_in_another_vm(start, mode):
    first, second = start(mode, COUNT), start(mode, asm("hlt")[WIDTH[mode]])
    for n in range(1, 11):
        assert first.cpu.run().data == n.to_bytes(2, "little")
    first.cpu.finish()
    move(first, second)
    assert second.trace() == [*(Out(0x123, 2, n) for n in range(11, 21)), HLT]
    assert (second.regs.rbx & 0xFFFF, second.word(DATA, 2)) == (20, 20)


def test_a_guest_moves_from_ring_3_with_its_msrs(start):
    code = asm64("mov dx, 0x123; wait: cmp byte ptr [DATA], 0; je wait; mov rax, fs:[0]; ud2")
    first, second = start(LONG, code, ring=3), start(LONG, asm64("hlt"))
    first.cpu.set_msr(0xC0000082, 0xFFFFFFFF81234000)
    first.cpu.set_msr(0xC0000102, 0x7777000)
    sregs = first.cpu.sregs
    sregs.fs.base = DATA + 8
    first.cpu.set_sregs(sregs)
    first.poke(DATA + 8, 0x4321)
    with pytest.raises(AssertionError, match="no exit in time"):
        first.cpu.run(0.2)
    first.write(DATA, b"\1")
    move(first, second)
    second.trace()
    assert (second.regs.rax, second.cpu.trap().cs & 3) == (0x4321, 3)
    assert (second.cpu.msr(0xC0000082), second.cpu.msr(0xC0000102)) == (0xFFFFFFFF81234000, 0x7777000)


def test_interrupt_controllers_move_too(start):
    code = asm64("sti; spin: jmp spin")
    first, second = start(LONG, code, irqchip=True), start(LONG, code, irqchip=True)
    first.cpu.set_lapic_enabled()
    first.ioctl(io.KVM_SIGNAL_MSI, struct("kvm_msi", address_lo=0xFEE00000, data=0x71))  # pending in the local APIC
    for chip in range(3):
        state = struct("kvm_irqchip", chip_id=chip)
        first.ioctl(io.KVM_GET_IRQCHIP, state)
        second.ioctl(io.KVM_SET_IRQCHIP, state)
    move(first, second)
    second.cpu.ioctl(io.KVM_SET_LAPIC, first.cpu.get(io.KVM_GET_LAPIC, "kvm_lapic_state"))
    second.cpu.trace()
    assert second.cpu.trap().vector == 0x71
