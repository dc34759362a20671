"""Interrupts that userspace injects (no in-kernel irqchip): when the guest takes them, the shadow, the window, NMIs.

Source: KVM API, KVM_INTERRUPT, KVM_NMI, kvm_run.request_interrupt_window; SDM vol. 3, "Masking Interrupts".
"""

from __future__ import annotations

import errno

import pytest
from rig import ALL_MODES, HLT, LONG, MODES, PROTECTED, REAL, Ended, Out, Trapped, asm, asm16, asm64
from rig.layout import SECOND, STACK

from minivmm.kvm import ioctls as io
from minivmm.kvm.calls import struct
from minivmm.kvm.errors import KvmError
from minivmm.x86 import bits

WINDOW = Ended("KVM_EXIT_IRQ_WINDOW_OPEN")


def interrupt(guest, vector=0x40):
    guest.cpu.ioctl(io.KVM_INTERRUPT, struct("kvm_interrupt", irq=vector))


@pytest.mark.parametrize("mode", ALL_MODES)
def test_an_interrupt_comes_before_the_next_instruction(start, mode):
    guest = start(mode, asm("inc eax; hlt"), rflags=0x202)
    interrupt(guest)
    assert guest.trace() == [Trapped(0x40)]
    trap = guest.cpu.trap()
    assert (trap.offset, trap.flags & bits.RFLAGS_IF, guest.regs.rflags & bits.RFLAGS_IF) == (0, bits.RFLAGS_IF, 0)


@pytest.mark.parametrize("mode", [REAL, LONG])
def test_the_handler_returns_and_the_guest_goes_on(start, mode):
    guest = start(mode, asm("mov eax, 7; mov dx, 0x123; out dx, al; hlt"), rflags=0x202)
    interrupt(guest)
    assert guest.trace(past_traps=1) == [Trapped(0x40), Out(0x123, 1, 7), HLT]
    assert guest.regs.rsp == STACK


def test_from_ring_3(start):
    guest = start(LONG, asm64("spin: jmp spin"), ring=3, rflags=0x202)
    interrupt(guest)
    assert guest.trace() == [Trapped(0x40)]  # a hardware interrupt asks for no DPL
    assert guest.cpu.trap().cs & 3 == 3


def test_the_page_says_whether_the_guest_would_take_one(start):
    guest = start(REAL, asm16("mov dx, 0x123; out dx, al; sti; nop; out dx, al; cli; out dx, al; hlt"))
    flags = []
    for _ in range(3):
        guest.cpu.run()
        flags.append((guest.cpu.page.if_flag, guest.cpu.page.ready_for_interrupt_injection))
    assert flags == [(0, 0), (1, 1), (0, 0)]


@pytest.mark.parametrize("mode", MODES)
def test_the_window_opens_when_interrupts_go_on(start, mode):
    guest = start(mode, asm("nop; nop; sti; nop; spin: jmp spin"))
    guest.cpu.page.request_interrupt_window = 1
    assert guest.trace() == [WINDOW]
    assert (guest.cpu.page.ready_for_interrupt_injection, guest.regs.rip >= 0x1004) == (1, True)


def test_the_window_is_open_at_once_where_interrupts_are_on(start):
    guest = start(REAL, asm16("spin: jmp spin"), rflags=0x202)
    guest.cpu.page.request_interrupt_window = 1
    assert guest.trace() == [WINDOW]


@pytest.mark.parametrize("mode", MODES)
def test_the_instruction_after_sti_is_safe(start, mode):
    guest = start(mode, asm("sti; inc eax; spin: jmp spin"))
    guest.cpu.page.request_interrupt_window = 1
    assert guest.trace() == [WINDOW]
    interrupt(guest)
    guest.cpu.page.request_interrupt_window = 0
    assert guest.trace() == [Trapped(0x40)]
    assert guest.regs.rax == 1


def test_sti_cli_never_opens_the_window(start):
    guest = start(REAL, asm16("mov cx, 100; again: sti; cli; loop again; hlt"))
    guest.cpu.page.request_interrupt_window = 1
    assert guest.trace() == [HLT]


def test_the_instruction_after_a_load_of_ss_is_safe(start):
    guest = start(PROTECTED, asm("mov eax, 0x20; mov ss, eax; mov esp, 0x8000; spin: jmp spin"), rflags=0x202)
    debug = struct("kvm_guest_debug", control=3)
    guest.cpu.ioctl(io.KVM_SET_GUEST_DEBUG, debug)
    guest.cpu.run()
    guest.cpu.run()
    # The step over MOV SS does not stop behind it either: the pair is one.
    assert guest.regs.rip in (0x1007, 0x100C)


def test_a_second_interrupt_waits_for_the_window(start):
    guest = start(REAL, asm16("spin: jmp spin"), rflags=0x202)
    guest.gate(0x40, SECOND)
    guest.write(SECOND, asm16("mov dx, 0x123; out dx, al; iret"))
    for _ in range(2):
        interrupt(guest)
        assert str(guest.cpu.run()).startswith("out8")
        assert guest.cpu.page.ready_for_interrupt_injection == 0
        guest.cpu.page.request_interrupt_window = 1
        assert guest.cpu.run().name == "KVM_EXIT_IRQ_WINDOW_OPEN"
        guest.cpu.page.request_interrupt_window = 0


def test_a_vector_beyond_255_is_refused(start):
    guest = start(REAL, asm16("hlt"))
    with pytest.raises(KvmError) as refusal:
        interrupt(guest, 256)
    assert refusal.value.errno == errno.EINVAL


def test_with_an_irqchip_userspace_does_not_inject(start):
    guest = start(REAL, asm16("hlt"), irqchip=True)
    with pytest.raises(KvmError) as refusal:
        interrupt(guest)
    assert refusal.value.errno == errno.ENXIO


def test_a_queued_interrupt_shows_in_the_events(start):
    guest = start(REAL, asm16("hlt"), rflags=0x202)
    interrupt(guest, 0x33)
    events = guest.cpu.events
    assert (events.interrupt.injected, events.interrupt.nr) == (1, 0x33)


def test_an_interrupt_set_by_the_events_is_taken(start):
    guest = start(REAL, asm16("hlt"), rflags=0x202)
    events = guest.cpu.events
    events.interrupt.injected, events.interrupt.nr = 1, 0x44
    guest.cpu.ioctl(io.KVM_SET_VCPU_EVENTS, events)
    assert guest.trace() == [Trapped(0x44)]


def test_an_interrupt_in_a_string_instruction(start):
    """A long REP is left between two rounds, with the registers telling how far it came."""
    guest = start(LONG, asm64("mov edi, SPARE; mov ecx, 4; mov dx, 0x123; sti; rep insb; hlt"))
    first = guest.cpu.run()
    for n in range(len(first.buffer)):
        first.buffer[n] = n + 1
    assert first.size == 1
    assert guest.trace([2, 3, 4])[-1] == HLT
    assert guest.read(0xC000, 4) == b"\1\2\3\4"


# ---- NMI ----


@pytest.mark.parametrize("mode", MODES)
def test_an_nmi_needs_no_interrupt_flag(start, mode):
    guest = start(mode, asm("hlt"))
    guest.cpu.ioctl(io.KVM_NMI)
    assert guest.trace() == [Trapped(2)]


@pytest.mark.parametrize("mode", [REAL, LONG])
def test_a_second_nmi_waits_for_iret(start, mode):
    guest = start(mode, {
        16: asm16("mov dx, 0x123; out dx, al; hlt"), 64: asm64("mov dx, 0x123; out dx, al; hlt"),
    })  # fmt: skip
    guest.gate(2, SECOND)
    guest.write(SECOND, {
        16: asm16("inc eax; mov dx, 0x200; out dx, al; iret"), 64: asm64("inc eax; mov dx, 0x200; out dx, al; iretq"),
    }[guest.bits])  # fmt: skip
    guest.cpu.ioctl(io.KVM_NMI)
    guest.cpu.run()
    assert guest.cpu.events.nmi.masked == 1
    guest.cpu.ioctl(io.KVM_NMI)
    assert guest.regs.rax == 1
    events = guest.trace()
    assert events == [Out(0x200, 1, 2), Out(0x123, 1, 2), HLT]
    assert guest.cpu.events.nmi.masked == 0


def test_a_masked_nmi_stays_pending(start):
    guest = start(LONG, asm64("hlt"))
    events = guest.cpu.events
    events.nmi.masked, events.nmi.pending, events.flags = 1, 1, 1
    guest.cpu.ioctl(io.KVM_SET_VCPU_EVENTS, events)
    assert guest.trace() == [HLT]
    assert (guest.cpu.events.nmi.masked, guest.cpu.events.nmi.pending) == (1, 1)


def test_nmi_before_interrupt(start):
    guest = start(LONG, asm64("hlt"), rflags=0x202)
    interrupt(guest)
    guest.cpu.ioctl(io.KVM_NMI)
    first = guest.trace()
    assert first[0] in (Trapped(2), Trapped(0x40))
    other = Trapped(0x40) if first == [Trapped(2)] else Trapped(2)
    assert guest.trace()[0] == other
