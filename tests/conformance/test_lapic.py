"""The local APIC in the kernel: its registers, timer, priorities, and x2APIC.

Source: SDM vol. 3, "Advanced Programmable Interrupt Controller (APIC)"; KVM API, KVM_GET_LAPIC.
"""

from __future__ import annotations

import pytest
from rig import HLT, LONG, HangError, Out, Trapped, asm64
from rig.layout import CODE, STACK

from minivmm.kvm import ioctls as io
from minivmm.kvm.binding import ffi
from minivmm.kvm.calls import struct

PAGE = 0xF000  # where these guests map the local APIC
ID, VERSION, TPR, EOI, SVR, ISR, IRR, LVT_TIMER, LVT0 = 0x20, 0x30, 0x80, 0xB0, 0xF0, 0x100, 0x200, 0x320, 0x350


@pytest.fixture
def with_lapic(start):
    def make(code, **options):
        guest = start(LONG, code, irqchip=True, **options)
        guest.set_page(PAGE, 0xFEE00000 | 7)
        return guest

    return make


def msi(guest, vector):
    return guest.ioctl(io.KVM_SIGNAL_MSI, struct("kvm_msi", address_lo=0xFEE00000, data=vector))


def test_registers_after_reset(with_lapic):
    cpu = with_lapic(asm64("hlt")).cpu
    assert (cpu.lapic(ID), cpu.lapic(SVR), cpu.lapic(TPR)) == (0, 0xFF, 0)
    assert cpu.lapic(VERSION) & 0xFF in range(0x10, 0x20)
    assert cpu.lapic(LVT_TIMER) & 1 << 16  # masked
    assert cpu.lapic(LVT0) & 0x700 == 0x700  # ExtINT: the 8259s get through


def test_the_guest_reads_and_writes_registers(with_lapic):
    guest = with_lapic(
        asm64("mov eax, [0xF030]; mov dword ptr [0xF080], 0x30; mov ebx, [0xF080]; mov dx, 0x123; out dx, al")
    )
    guest.cpu.run()
    assert guest.regs.rax & 0xFF == guest.cpu.lapic(VERSION) & 0xFF
    assert (guest.regs.rbx, guest.cpu.lapic(TPR), guest.cpu.sregs.cr8) == (0x30, 0x30, 3)


def test_the_page_is_no_memory_for_userspace(with_lapic):
    guest = with_lapic(asm64("mov eax, [0xF020]; mov dx, 0x123; out dx, al"))
    assert str(guest.cpu.run()).startswith("out8")


def test_the_base_address_names_the_bootstrap_processor(with_lapic):
    base = with_lapic(asm64("hlt")).cpu.sregs.apic_base
    assert base == 0xFEE00900  # enabled, bootstrap processor


def test_a_one_shot_timer(with_lapic):
    guest = with_lapic(asm64("""
        mov dword ptr [0xF0F0], 0x1FF; mov dword ptr [0xF3E0], 0xB; mov dword ptr [0xF320], 0x55
        mov dword ptr [0xF380], 100000; sti; spin: jmp spin
    """))  # fmt: skip
    assert guest.trace() == [Trapped(0x55)]
    guest.cpu.finish()
    guest.write(CODE, asm64("mov dword ptr [0xF0B0], 0; sti; spin: jmp spin"))
    guest.cpu.jump(CODE, rflags=0x202, rsp=STACK)
    with pytest.raises(HangError):
        guest.cpu.run(0.3)


def test_a_periodic_timer(with_lapic):
    guest = with_lapic(asm64("""
        mov dword ptr [0xF0F0], 0x1FF; mov dword ptr [0xF3E0], 0xB; mov dword ptr [0xF320], 0x20055
        mov dword ptr [0xF380], 1000000; sti; spin: jmp spin
    """))  # fmt: skip
    assert guest.trace() == [Trapped(0x55)]
    for _ in range(3):
        guest.cpu.finish()
        guest.write(CODE, asm64("mov dword ptr [0xF0B0], 0; sti; spin: jmp spin").ljust(48, b"\x90"))
        guest.cpu.jump(CODE, rflags=0x202, rsp=STACK)
        assert guest.trace() == [Trapped(0x55)]


def test_a_masked_timer_counts_without_a_word(with_lapic):
    guest = with_lapic(asm64("""
        mov dword ptr [0xF0F0], 0x1FF; mov dword ptr [0xF3E0], 0xB; mov dword ptr [0xF380], 0xFFFFFFF0
        mov eax, [0xF390]; mov ecx, 100000; wait: loop wait; mov ebx, [0xF390]; mov dx, 0x123; out dx, al
    """), rflags=0x202)  # fmt: skip
    assert str(guest.cpu.run()).startswith("out8")
    assert 0 < guest.regs.rbx < guest.regs.rax <= 0xFFFFFFF0


def test_the_deadline_timer(with_lapic):
    guest = with_lapic(asm64("""
        mov dword ptr [0xF0F0], 0x1FF; mov dword ptr [0xF320], 0x40055; mfence
        rdtsc; shl rdx, 32; or rax, rdx; add rax, 1000000; mov rdx, rax; shr rdx, 32; mov ecx, 0x6E0; wrmsr
        sti; spin: jmp spin
    """))  # fmt: skip
    if not guest.leaf(1).ecx >> 24 & 1:
        pytest.skip("CPUID has no TSC deadline")
    assert guest.trace() == [Trapped(0x55)]
    assert guest.cpu.msr(0x6E0) == 0  # disarmed


def test_an_ipi_to_itself(with_lapic):
    guest = with_lapic(asm64("mov dword ptr [0xF0F0], 0x1FF; sti; mov dword ptr [0xF300], 0x40066; spin: jmp spin"))
    assert guest.trace() == [Trapped(0x66)]


def test_priorities(with_lapic):
    guest = with_lapic(
        asm64("mov eax, 6; mov cr8, rax; sti; nop; mov dx, 0x123; out dx, al; xor eax, eax; mov cr8, rax; nop")
    )
    guest.cpu.set_lapic_enabled()
    msi(guest, 0x6F)  # class 6: not above the task's priority
    assert guest.trace() == [Out(0x123, 1, 6), Trapped(0x6F)]


def test_a_higher_class_passes_the_task_priority(with_lapic):
    guest = with_lapic(asm64("mov eax, 6; mov cr8, rax; sti; spin: jmp spin"))
    guest.cpu.set_lapic_enabled()
    msi(guest, 0x71)
    assert guest.trace() == [Trapped(0x71)]


def test_an_interrupt_in_service_blocks_its_class_until_eoi(with_lapic):
    guest = with_lapic(asm64("sti; spin: jmp spin"))
    guest.cpu.set_lapic_enabled()
    msi(guest, 0x71)
    assert guest.trace() == [Trapped(0x71)]
    assert guest.cpu.lapic(ISR + 0x30) == 1 << 0x11
    msi(guest, 0x72)
    assert guest.cpu.lapic(IRR + 0x30) & 1 << 0x12
    guest.cpu.finish()
    guest.cpu.jump(CODE, rflags=0x202, rsp=STACK)
    with pytest.raises(HangError):
        guest.cpu.run(0.2)
    guest.write(CODE, asm64("mov dword ptr [0xF0B0], 0; sti; spin: jmp spin"))
    guest.cpu.jump(CODE, rflags=0x202, rsp=STACK)
    assert guest.trace() == [Trapped(0x72)]


def test_x2apic(start):
    guest = start(LONG, asm64("""
        mov ecx, 0x1B; rdmsr; or eax, 0xC00; wrmsr; mov ecx, 0x80F; mov eax, 0x1FF; xor edx, edx; wrmsr
        mov ecx, 0x802; rdmsr; mov ebx, eax; mov ecx, 0x83F; mov eax, 0x77; xor edx, edx; wrmsr; sti; spin: jmp spin
    """), irqchip=True)  # fmt: skip
    if not guest.leaf(1).ecx >> 21 & 1:
        pytest.skip("CPUID has no x2APIC")
    assert guest.trace() == [Trapped(0x77)]
    assert (guest.regs.rbx, guest.cpu.sregs.apic_base & 0xC00) == (0, 0xC00)


def test_x2apic_registers_fault_in_xapic_mode(start):
    guest = start(LONG, asm64("mov ecx, 0x802; rdmsr"), irqchip=True)
    assert guest.trace() == [Trapped(13, 0)]


def test_x2apic_refuses_reserved_bits(start):
    guest = start(LONG, asm64("""
        mov ecx, 0x1B; rdmsr; or eax, 0xC00; wrmsr; mov ecx, 0x808; xor eax, eax; mov edx, 1; wrmsr
    """), irqchip=True)  # fmt: skip
    if not guest.leaf(1).ecx >> 21 & 1:
        pytest.skip("CPUID has no x2APIC")
    assert guest.trace() == [Trapped(13, 0)]  # bits 63 to 32, in all but ICR


def test_registers_survive_a_round_trip(with_lapic):
    cpu = with_lapic(asm64("hlt")).cpu
    cpu.set_lapic_enabled()
    before = cpu.get(io.KVM_GET_LAPIC, "kvm_lapic_state")
    ffi.buffer(before)[TPR : TPR + 1] = b"\x40"
    cpu.ioctl(io.KVM_SET_LAPIC, before)
    after = bytes(ffi.buffer(cpu.get(io.KVM_GET_LAPIC, "kvm_lapic_state")))
    assert (after[TPR], after[SVR : SVR + 2]) == (0x40, b"\xff\x01")


def test_cr8_without_an_irqchip_is_a_register(start):
    guest = start(LONG, asm64("mov eax, 5; mov cr8, rax; mov rbx, cr8; hlt"))
    events = guest.trace()
    assert events[-1] == HLT
    assert (guest.regs.rbx, guest.cpu.page.cr8) == (5, 5)


def test_an_illegal_priority(start):
    assert start(LONG, asm64("mov eax, 0x10; mov cr8, rax"), irqchip=True).trace() == [Trapped(13, 0)]
