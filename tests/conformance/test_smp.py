"""Several vCPUs, a thread each: INIT and SIPI, interrupts between them, and memory that they share.

Source: SDM vol. 3, "Multiple-Processor (MP) Initialization"; KVM API, KVM_GET_MP_STATE.
"""

from __future__ import annotations

import threading

import pytest
from rig import LONG, HangError, asm16, asm64
from rig.layout import DATA, SECOND

from minivmm import exits
from minivmm.kvm import constants as k
from minivmm.kvm import ioctls as io
from minivmm.kvm.calls import struct

LAPIC = 0xF000


class Thread(threading.Thread):
    """Runs one vCPU until its next exit other than a port write, and keeps what it saw."""

    def __init__(self, cpu, count=1):
        super().__init__(daemon=True)
        self.cpu, self.count, self.seen, self.error = cpu, count, [], None

    def run(self):
        try:
            for _ in range(self.count):
                self.seen.append(self.cpu.run())
        except BaseException as error:
            self.error = error

    def result(self):
        self.join(120)
        if self.error:
            raise self.error
        return self.seen


@pytest.fixture
def several(start):
    """several(code, n) -> a guest with a mapped local APIC and n vCPUs."""

    def make(code, count=2, irqchip=True):
        guest = start(LONG, code, irqchip=irqchip)
        guest.set_page(LAPIC, 0xFEE00000 | 7)
        for _ in range(count - 1):
            guest.add_cpu()
        return guest

    return make


def state_of(cpu):
    return cpu.get(io.KVM_GET_MP_STATE, "kvm_mp_state").mp_state


INIT_SIPI = asm64("""
    mov dword ptr [0xF0F0], 0x1FF; mov dword ptr [0xF300], 0xC4500; mov dword ptr [0xF300], 0xC4602
    mov dx, 0x123; out dx, al; wait: pause; cmp byte ptr [DATA], bl; jne wait; out dx, al
""")  # fmt: skip


@pytest.mark.parametrize("count", [2, 4])
def test_init_and_sipi_start_the_others_in_real_mode(several, count):
    guest = several(INIT_SIPI, count)
    guest.cpu.set(rbx=count - 1)
    guest.write(SECOND, asm16("mov bx, cs; lock inc byte ptr cs:[0x2000]; mov dx, 0x124; out dx, al"))
    threads = [Thread(cpu) for cpu in guest.cpus[1:]] + [Thread(guest.cpu, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        assert all(isinstance(exit, exits.PortOut) for exit in thread.result())
    assert guest.word(DATA, 1) == count - 1
    for cpu in guest.cpus[1:]:
        assert (cpu.regs.rbx & 0xFFFF, cpu.sregs.cs.base, cpu.sregs.cr0 & 1) == (0x200, 0x2000, 0)


def test_only_the_first_runs_by_itself(several):
    guest = several(asm64("hlt"))
    second = guest.cpus[1]
    assert state_of(guest.cpu) == k.KVM_MP_STATE_RUNNABLE
    assert state_of(second) == k.KVM_MP_STATE_UNINITIALIZED
    with pytest.raises(HangError):
        second.run(0.2)


def test_without_an_irqchip_all_are_runnable(several):
    guest = several(asm64("lock inc dword ptr [DATA]; mov dx, 0x123; out dx, al"), irqchip=False)
    second = guest.cpus[1]
    guest.place(second)
    for cpu in guest.cpus:
        assert isinstance(cpu.run(), exits.PortOut)
    assert guest.word(DATA) == 2


def test_userspace_can_start_a_vcpu(several):
    guest = several(asm64("mov dx, 0x123; out dx, al"))
    second = guest.cpus[1]
    guest.place(second)
    second.ioctl(io.KVM_SET_MP_STATE, struct("kvm_mp_state", mp_state=k.KVM_MP_STATE_RUNNABLE))
    assert isinstance(second.run(), exits.PortOut)


def test_a_locked_counter_loses_nothing(several):
    guest = several(asm64("mov ecx, 20000; again: lock inc dword ptr [DATA]; loop again; mov dx, 0x123; out dx, al"))
    guest.place(guest.cpus[1])
    guest.cpus[1].ioctl(io.KVM_SET_MP_STATE, struct("kvm_mp_state", mp_state=k.KVM_MP_STATE_RUNNABLE))
    threads = [Thread(cpu) for cpu in guest.cpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.result()
    assert guest.word(DATA) == 40000


def test_one_vcpu_waits_for_the_other_in_memory(several):
    guest = several(asm64("""
        test ebx, ebx; jz first
    second: mov dword ptr [DATA], 7; jmp out
    first: pause; cmp dword ptr [DATA], 7; jne first
    out: mov dx, 0x123; out dx, al
    """))  # fmt: skip
    second = guest.cpus[1]
    guest.place(second, rbx=1)
    second.ioctl(io.KVM_SET_MP_STATE, struct("kvm_mp_state", mp_state=k.KVM_MP_STATE_RUNNABLE))
    threads = [Thread(cpu) for cpu in guest.cpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        assert isinstance(thread.result()[0], exits.PortOut)


def test_an_interrupt_from_one_to_the_other(several):
    guest = several(asm64("""
        mov dword ptr [0xF0F0], 0x1FF; test ebx, ebx; jnz second
        sti; first: inc dword ptr [DATA]; jmp first
    second: pause; cmp dword ptr [DATA], 5; jb second
        mov dword ptr [0xF310], 0; mov dword ptr [0xF300], 0x4066; mov dx, 0x123; out dx, al
    """))  # fmt: skip
    second = guest.cpus[1]
    guest.place(second, rbx=1)
    second.ioctl(io.KVM_SET_MP_STATE, struct("kvm_mp_state", mp_state=k.KVM_MP_STATE_RUNNABLE))
    threads = [Thread(cpu) for cpu in guest.cpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        assert isinstance(thread.result()[0], exits.PortOut)
    assert guest.cpu.trap().vector == 0x66


def test_each_has_its_own_apic_id(several):
    guest = several(asm64("hlt"), 3)
    assert [cpu.lapic(0x20) >> 24 for cpu in guest.cpus] == [0, 1, 2]
    assert [cpu.sregs.apic_base >> 8 & 1 for cpu in guest.cpus] == [1, 0, 0]


def test_init_puts_a_running_vcpu_back_to_waiting(several):
    guest = several(asm64("""
        mov dword ptr [0xF0F0], 0x1FF; mov dword ptr [0xF300], 0xC4500; mov dx, 0x123; out dx, al
    """))  # fmt: skip
    second = guest.cpus[1]
    second.ioctl(io.KVM_SET_MP_STATE, struct("kvm_mp_state", mp_state=k.KVM_MP_STATE_RUNNABLE))
    guest.cpu.run()
    with pytest.raises(HangError):
        second.run(0.2)
    assert state_of(second) in (k.KVM_MP_STATE_INIT_RECEIVED, k.KVM_MP_STATE_UNINITIALIZED)
