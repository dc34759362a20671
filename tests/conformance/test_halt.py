"""HLT: an exit where interrupts are userspace's business, a wait in the kernel where they are not.

Source: KVM API, KVM_EXIT_HLT, KVM_GET_MP_STATE; SDM vol. 2, HLT.
"""

from __future__ import annotations

import threading
import time

import pytest
from rig import ALL_MODES, HLT, LONG, REAL, Ended, HangError, Out, Trapped, asm, asm16, asm64
from rig.layout import CODE

from minivmm.kvm import constants as k
from minivmm.kvm import ioctls as io
from minivmm.kvm.calls import struct


@pytest.mark.parametrize("mode", ALL_MODES)
def test_hlt_is_an_exit_behind_the_instruction(start, mode):
    guest = start(mode, asm("nop; hlt; mov dx, 0x123; out dx, al; hlt"))
    assert guest.trace() == [HLT]
    assert guest.regs.rip == CODE + 2
    assert guest.trace() == [Out(0x123, 1, 0), HLT]


def test_a_halted_guest_goes_on_with_an_interrupt(start):
    guest = start(REAL, asm16("sti; hlt; mov dx, 0x123; out dx, al; hlt"))
    assert guest.trace() == [HLT]
    guest.cpu.ioctl(io.KVM_INTERRUPT, struct("kvm_interrupt", irq=0x40))
    assert guest.trace(past_traps=1) == [Trapped(0x40), Out(0x123, 1, 0), HLT]


def test_with_an_irqchip_hlt_waits_in_the_kernel(start):
    guest = start(LONG, asm64("hlt"), irqchip=True)
    with pytest.raises(HangError):
        guest.cpu.run(0.3)
    state = guest.cpu.get(io.KVM_GET_MP_STATE, "kvm_mp_state")
    assert state.mp_state == k.KVM_MP_STATE_HALTED


def test_an_interrupt_from_another_thread_ends_the_wait(start):
    guest = start(LONG, asm64("sti; hlt; mov dx, 0x123; out dx, al; hlt"), irqchip=True)

    def later():
        time.sleep(0.1)
        # An MSI to the local APIC with ID 0, vector 0x51 (SDM vol. 3, "Message Signalled Interrupts").
        guest.ioctl(io.KVM_SIGNAL_MSI, struct("kvm_msi", address_lo=0xFEE00000, data=0x51))

    guest.cpu.set_lapic_enabled()
    waker = threading.Thread(target=later)
    waker.start()
    assert guest.trace() == [Trapped(0x51)]
    waker.join()
    assert guest.cpu.trap().offset == 2


def test_an_nmi_ends_the_wait_though_interrupts_are_off(start):
    guest = start(LONG, asm64("hlt; mov dx, 0x123; out dx, al; hlt"), irqchip=True)
    with pytest.raises(HangError):
        guest.cpu.run(0.2)
    guest.cpu.ioctl(io.KVM_NMI)
    assert guest.trace() == [Trapped(2)]


def test_a_halted_vcpu_can_be_made_runnable(start):
    guest = start(LONG, asm64("hlt; mov dx, 0x123; out dx, al"), irqchip=True)
    with pytest.raises(HangError):
        guest.cpu.run(0.2)
    guest.cpu.ioctl(io.KVM_SET_MP_STATE, struct("kvm_mp_state", mp_state=k.KVM_MP_STATE_RUNNABLE))
    assert str(guest.cpu.run()).startswith("out8 port 0x123")


def test_a_vcpu_can_be_halted_from_outside(start):
    guest = start(LONG, asm64("mov dx, 0x123; out dx, al"), irqchip=True)
    guest.cpu.ioctl(io.KVM_SET_MP_STATE, struct("kvm_mp_state", mp_state=k.KVM_MP_STATE_HALTED))
    with pytest.raises(HangError):
        guest.cpu.run(0.2)


def test_the_first_vcpu_is_runnable(start):
    state = start(LONG, asm64("hlt"), irqchip=True).cpu.get(io.KVM_GET_MP_STATE, "kvm_mp_state")
    assert state.mp_state == k.KVM_MP_STATE_RUNNABLE


def test_hlt_again_and_again(start):
    guest = start(LONG, asm64("again: inc ecx; hlt; jmp again"))
    for count in range(1, 6):
        assert guest.trace() == [HLT]
        assert guest.regs.rcx == count


def test_pause_is_no_halt(start):
    assert start(LONG, asm64("pause; pause; hlt")).trace() == [Ended("KVM_EXIT_HLT")]
