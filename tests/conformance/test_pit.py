"""The in-kernel 8254: a periodic and a one-shot interrupt, reading the counter, the speaker's channel, state.

Source: Intel 8254 datasheet; KVM API, KVM_CREATE_PIT2.
"""

from __future__ import annotations

import errno

import pytest
from rig import LONG, HangError, Trapped, asm64
from rig.layout import CODE, STACK

from minivmm.kvm import constants as k
from minivmm.kvm import ioctls as io
from minivmm.kvm.calls import struct
from minivmm.kvm.errors import KvmError


class Timed:
    """Makes guests with controllers and a PIT. KVM wants the PIT after the controllers; vCPUs may be there already."""

    def __init__(self, start):
        self.start = start

    def __call__(self, code, **options):
        guest = self.start(LONG, code, irqchip=True, **options)
        guest.ioctl(io.KVM_CREATE_PIT2, struct("kvm_pit_config", flags=k.KVM_PIT_SPEAKER_DUMMY))
        state = struct("kvm_irqchip", chip_id=0)
        guest.ioctl(io.KVM_GET_IRQCHIP, state)
        state.chip.pic.irq_base, state.chip.pic.imr, state.chip.pic.init4 = 0x20, 0xFE, 1
        guest.ioctl(io.KVM_SET_IRQCHIP, state)
        return guest


@pytest.fixture
def timed(start):
    return Timed(start)


def test_a_periodic_interrupt(timed):
    guest = timed(
        asm64("mov al, 0x34; out 0x43, al; mov al, 0xA9; out 0x40, al; mov al, 4; out 0x40, al; sti; spin: jmp spin")
    )
    assert guest.trace() == [Trapped(0x20)]
    for _ in range(3):
        guest.cpu.finish()
        guest.write(CODE, asm64("mov al, 0x20; out 0x20, al; sti; spin: jmp spin"))
        guest.cpu.jump(CODE, rflags=0x202, rsp=STACK)
        assert guest.trace() == [Trapped(0x20)]


def test_an_interrupt_on_terminal_count_comes_once(timed):
    guest = timed(
        asm64("mov al, 0x30; out 0x43, al; mov al, 0xA9; out 0x40, al; mov al, 4; out 0x40, al; sti; spin: jmp spin")
    )
    assert guest.trace() == [Trapped(0x20)]
    guest.cpu.finish()
    guest.write(CODE, asm64("mov al, 0x20; out 0x20, al; sti; spin: jmp spin"))
    guest.cpu.jump(CODE, rflags=0x202, rsp=STACK)
    with pytest.raises(HangError):
        guest.cpu.run(0.3)


def test_the_counter_counts_down(timed):
    guest = timed(asm64("""
        mov al, 0x34; out 0x43, al; xor al, al; out 0x40, al; out 0x40, al; mov ecx, 2000; wait: loop wait
        xor eax, eax; out 0x43, al; in al, 0x40; mov bl, al; in al, 0x40; mov bh, al; mov dx, 0x123; out dx, al
    """))  # fmt: skip
    assert str(guest.cpu.run()).startswith("out8 port 0x123")
    assert 0 < guest.regs.rbx & 0xFFFF <= 0xFFFF


def test_the_speakers_channel_tells_when_it_is_done(timed):
    guest = timed(asm64("""
        mov al, 1; out 0x61, al; mov al, 0xB0; out 0x43, al; mov al, 0x80; out 0x42, al; mov al, 0; out 0x42, al
    wait: in al, 0x61; test al, 0x20; jz wait; mov dx, 0x123; out dx, al
    """))  # fmt: skip
    assert str(guest.cpu.run()).startswith("out8 port 0x123")


def test_the_state_can_be_read_and_set(timed):
    guest = timed(
        asm64("mov al, 0x36; out 0x43, al; mov al, 0x34; out 0x40, al; mov al, 0x12; out 0x40, al; out 0x77, al")
    )
    guest.cpu.run()
    state = struct("kvm_pit_state2")
    guest.ioctl(io.KVM_GET_PIT2, state)
    assert (state.channels[0].count, state.channels[0].mode, state.channels[0].rw_mode) == (0x1234, 3, 3)
    state.channels[0].count = 0x4321
    guest.ioctl(io.KVM_SET_PIT2, state)
    guest.ioctl(io.KVM_GET_PIT2, state)
    assert state.channels[0].count == 0x4321


def test_without_a_pit_its_ports_exit(start):
    guest = start(LONG, asm64("in al, 0x40; out 0x43, al; in al, 0x61; mov dx, 0x123; out dx, al"), irqchip=True)
    exits = [guest.cpu.run() for _ in range(4)]
    assert [exit.port for exit in exits] == [0x40, 0x43, 0x61, 0x123]


def test_a_second_pit_is_refused(timed):
    guest = timed(asm64("hlt"))
    with pytest.raises(KvmError) as refusal:
        guest.ioctl(io.KVM_CREATE_PIT2, struct("kvm_pit_config"))
    assert refusal.value.errno == errno.EEXIST
