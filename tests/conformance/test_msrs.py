"""Model-specific registers: what is known, what faults, what userspace may answer itself.

Source: KVM API, KVM_GET_MSRS, KVM_CAP_X86_USER_SPACE_MSR, KVM_X86_SET_MSR_FILTER; SDM vol. 4; APM vol. 2.
"""

from __future__ import annotations

import errno

import pytest
from rig import HLT, LONG, PROTECTED, Out, Trapped, asm64
from rig.layout import CODE

from minivmm import exits
from minivmm.kvm import constants as k
from minivmm.kvm import ioctls as io
from minivmm.kvm.binding import ffi
from minivmm.kvm.calls import struct
from minivmm.kvm.errors import KvmError
from minivmm.kvm.handles import checked
from minivmm.x86 import msrs

GP = 13
UNKNOWN = 0x1234_5678
READ = asm64("rdmsr; mov dx, 0x123; out dx, eax; hlt")
READ_BOTH = asm64("rdmsr; hlt")
WRITE = asm64("wrmsr; mov dx, 0x123; out dx, al; hlt")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IA32_SYSENTER_CS", 0x18),
        ("IA32_SYSENTER_ESP", 0x12345678),
        ("IA32_SYSENTER_EIP", 0x12345678),
        ("IA32_PAT", 0x0007040600070406),
        ("IA32_MTRR_DEF_TYPE", 0xC06),
        ("STAR", 0x0023001000000000),
        ("LSTAR", 0xFFFFFFFF81000000),
        ("CSTAR", 0x7FFFFFFFF000),
        ("SFMASK", 0x47700),
        ("FS_BASE", 0x7FFFFFFFF000),
        ("GS_BASE", 0xFFFFFFFF81000000),
        ("KERNEL_GS_BASE", 0xFFFFFFFF82000000),
    ],
)
def test_a_value_goes_in_from_the_guest_and_out_to_the_host_and_back(start, name, value):
    number = msrs.number_of(name)
    guest = start(LONG, WRITE, rcx=number, rax=value & 0xFFFFFFFF, rdx=value >> 32)
    assert guest.trace()[-1] == HLT
    assert guest.cpu.msr(number) == value
    assert guest.cpu.set_msr(number, value)
    guest = start(LONG, READ_BOTH, rcx=number)
    assert guest.cpu.set_msr(number, value)
    assert guest.trace() == [HLT]
    assert guest.regs.rdx << 32 | guest.regs.rax == value


def test_efer_is_the_one_of_the_special_registers(start):
    guest = start(LONG, READ_BOTH, rcx=0xC0000080)
    assert guest.trace() == [HLT]
    assert guest.regs.rax == guest.cpu.sregs.efer == guest.cpu.msr(0xC0000080)


def test_fs_base_is_the_one_of_the_segment(start):
    guest = start(LONG, asm64("wrmsr; mov rax, fs:[0]; hlt"), rcx=0xC0000100, rax=0x4000)
    guest.poke(0x4000, 0x55)
    assert guest.trace() == [HLT]
    assert (guest.regs.rax, guest.cpu.sregs.fs.base) == (0x55, 0x4000)


@pytest.mark.parametrize("mode", [PROTECTED, LONG])
def test_an_unknown_one_faults(start, mode):
    read = start(mode, READ, rcx=UNKNOWN)
    assert read.trace() == [Trapped(GP, 0)]
    assert read.cpu.trap().offset == 0
    assert start(mode, WRITE, rcx=UNKNOWN).trace() == [Trapped(GP, 0)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EFER", 1 << 63),
        ("IA32_PAT", 0x0202020202020202),
        ("IA32_APIC_BASE", 0xFFFFFFFFFFFFFFFF),
        ("LSTAR", 0x800000000000),
        ("FS_BASE", 0x800000000000),
        ("IA32_MTRR_DEF_TYPE", 0xFF),
    ],
)
def test_a_value_that_is_not_allowed_faults(start, name, value):
    code = asm64("wrmsr; ud2")  # no HLT: with an irqchip it would wait for ever where the value is taken
    guest = start(LONG, code, irqchip=True, rcx=msrs.number_of(name), rax=value & 0xFFFFFFFF, rdx=value >> 32)
    assert guest.trace() == [Trapped(GP, 0)]


def test_the_list_of_msrs(vm):
    short = ffi.new("struct kvm_msr_list *", {"nmsrs": 0, "indices": 0})
    with pytest.raises(KvmError) as refusal:
        checked(vm.backend, vm.system, io.KVM_GET_MSR_INDEX_LIST, short)
    assert refusal.value.errno == errno.E2BIG
    count = short.nmsrs
    full = ffi.new("struct kvm_msr_list *", {"nmsrs": count, "indices": count})
    checked(vm.backend, vm.system, io.KVM_GET_MSR_INDEX_LIST, full)
    listed = set(full.indices[0:count])
    known = ("IA32_TIME_STAMP_COUNTER", "STAR", "LSTAR", "CSTAR", "SFMASK", "KERNEL_GS_BASE", "IA32_SYSENTER_CS")
    assert {msrs.number_of(name) for name in known} <= listed


def test_every_listed_msr_can_be_read(start):
    guest = start(LONG, asm64("hlt"), irqchip=True)
    room = ffi.new("struct kvm_msr_list *", {"nmsrs": 1000, "indices": 1000})
    checked(guest.backend, guest.system, io.KVM_GET_MSR_INDEX_LIST, room)
    assert room.nmsrs > 10
    unreadable = [hex(index) for index in room.indices[0 : room.nmsrs] if guest.cpu.msr(index) is None]
    assert len(unreadable) < room.nmsrs // 2  # some want a feature that this vCPU doesn't show


def test_reading_stops_at_the_first_unknown(start):
    cpu = start(LONG, asm64("hlt")).cpu
    entries = [{"index": index} for index in (0xC0000081, UNKNOWN, 0xC0000082)]
    assert cpu.ioctl(io.KVM_GET_MSRS, ffi.new("struct kvm_msrs *", {"nmsrs": 3, "entries": entries})) == 1


def test_the_time_stamp_counter_goes_up(start):
    guest = start(LONG, asm64("""
        rdtsc; shl rdx, 32; or rax, rdx; mov rbx, rax; mov ecx, 1000; wait: loop wait
        rdtsc; shl rdx, 32; or rax, rdx; mov ecx, 0x10; mov rsi, rax; rdmsr; shl rdx, 32; or rax, rdx; hlt
    """))  # fmt: skip
    assert guest.trace() == [HLT]
    assert guest.regs.rbx < guest.regs.rsi < guest.regs.rax


def test_the_time_stamp_counter_can_be_set(start):
    guest = start(LONG, asm64("rdtsc; shl rdx, 32; or rax, rdx; hlt"))
    assert guest.cpu.set_msr(0x10, 1 << 60)
    assert guest.trace() == [HLT]
    assert 1 << 60 <= guest.regs.rax < (1 << 60) + (1 << 56)


# ---- answered by userspace ----


def test_unknown_ones_can_exit(start):
    guest = start(LONG, READ, rcx=UNKNOWN)
    guest.enable(k.KVM_CAP_X86_USER_SPACE_MSR, k.KVM_MSR_EXIT_REASON_UNKNOWN)
    exit = guest.cpu.run()
    assert isinstance(exit, exits.ReadMsr)
    assert (exit.index, exit.why, guest.regs.rip) == (UNKNOWN, k.KVM_MSR_EXIT_REASON_UNKNOWN, CODE)
    exit.answer(0x1122334455667788)
    assert guest.trace() == [Out(0x123, 4, 0x55667788), HLT]


def test_a_write_to_an_unknown_one_can_exit(start):
    guest = start(LONG, WRITE, rcx=UNKNOWN, rax=0x11, rdx=0x22)
    guest.enable(k.KVM_CAP_X86_USER_SPACE_MSR, k.KVM_MSR_EXIT_REASON_UNKNOWN)
    exit = guest.cpu.run()
    assert isinstance(exit, exits.WriteMsr)
    assert (exit.index, exit.value) == (UNKNOWN, 0x2200000011)
    exit.accept()
    assert guest.trace() == [Out(0x123, 1, 0x11), HLT]


@pytest.mark.parametrize("code", [READ, WRITE], ids=["read", "write"])
def test_userspace_may_refuse(start, code):
    guest = start(LONG, code, rcx=UNKNOWN)
    guest.enable(k.KVM_CAP_X86_USER_SPACE_MSR, k.KVM_MSR_EXIT_REASON_UNKNOWN)
    guest.cpu.run().refuse()
    assert guest.trace() == [Trapped(GP, 0)]
    assert guest.cpu.trap().offset == 0


def test_known_ones_do_not_exit(start):
    guest = start(LONG, READ, rcx=0xC0000081)
    guest.enable(k.KVM_CAP_X86_USER_SPACE_MSR, k.KVM_MSR_EXIT_REASON_UNKNOWN)
    assert guest.trace()[-1] == HLT


def test_a_refused_value_can_exit(start):
    guest = start(LONG, WRITE, rcx=0x277, rax=2)
    guest.enable(k.KVM_CAP_X86_USER_SPACE_MSR, k.KVM_MSR_EXIT_REASON_INVAL)
    exit = guest.cpu.run()
    assert isinstance(exit, exits.WriteMsr)
    assert (exit.index, exit.why) == (0x277, k.KVM_MSR_EXIT_REASON_INVAL)


def set_filter(guest, base, allowed, flags=k.KVM_MSR_FILTER_READ | k.KVM_MSR_FILTER_WRITE):
    """Eight MSRs from `base` on: those in the bit mask `allowed` are passed, the others refused."""
    bitmap = ffi.new("uint8_t[1]", [allowed])
    rules = struct("kvm_msr_filter")
    rules.ranges[0].flags, rules.ranges[0].nmsrs, rules.ranges[0].base = flags, 8, base
    rules.ranges[0].bitmap = bitmap
    guest.ioctl(io.KVM_X86_SET_MSR_FILTER, rules)


def test_a_filter_makes_a_known_one_fault(start):
    guest = start(LONG, READ, rcx=0xC0000082)
    set_filter(guest, 0xC0000080, 0b11111011)
    assert guest.trace() == [Trapped(GP, 0)]


def test_a_filter_with_exits(start):
    guest = start(LONG, READ, rcx=0xC0000082)
    guest.enable(k.KVM_CAP_X86_USER_SPACE_MSR, k.KVM_MSR_EXIT_REASON_FILTER)
    set_filter(guest, 0xC0000080, 0b11111011)
    exit = guest.cpu.run()
    assert isinstance(exit, exits.ReadMsr)
    assert (exit.index, exit.why) == (0xC0000082, k.KVM_MSR_EXIT_REASON_FILTER)
    exit.answer(9)
    assert guest.trace() == [Out(0x123, 4, 9), HLT]


def test_what_the_filter_allows_passes(start):
    guest = start(LONG, READ, rcx=0xC0000081)
    set_filter(guest, 0xC0000080, 0b11111011)
    assert guest.trace()[-1] == HLT
