"""CPUID as userspace sets it.

Source: KVM API, KVM_GET_SUPPORTED_CPUID, KVM_SET_CPUID2; Documentation/virt/kvm/x86/cpuid.rst; SDM vol. 2, CPUID.
"""

from __future__ import annotations

import errno

import pytest
from rig import ALL_MODES, HLT, LONG, REAL, Trapped, asm, asm32, asm64

from minivmm.kvm import constants as k
from minivmm.kvm import ioctls as io
from minivmm.kvm.binding import ffi
from minivmm.kvm.errors import KvmError
from minivmm.kvm.handles import checked

HYPERVISOR = 0x40000000


def set_cpuid(guest, *entries):
    table = ffi.new("struct kvm_cpuid2 *", {"nent": len(entries), "entries": list(entries)})
    guest.cpu.ioctl(io.KVM_SET_CPUID2, table)


def ask(guest, leaf, index=0):
    """EAX, EBX, ECX, EDX as the guest reads them."""
    guest.cpu.jump(rax=leaf, rcx=index)
    assert guest.trace() == [HLT]
    regs = guest.regs
    return tuple(value & 0xFFFFFFFF for value in (regs.rax, regs.rbx, regs.rcx, regs.rdx))


@pytest.mark.parametrize("mode", ALL_MODES)
def test_the_guest_reads_what_was_set(start, mode):
    guest = start(mode, asm("cpuid; hlt"), cpuid=False)
    set_cpuid(guest, {"function": 0, "eax": 1, "ebx": 0x11, "ecx": 0x22, "edx": 0x33}, {"function": 1, "eax": 0x44})
    assert ask(guest, 0) == (1, 0x11, 0x22, 0x33)


def test_a_leaf_of_a_hypervisor(start):
    guest = start(LONG, asm64("cpuid; hlt"), cpuid=False)
    words = [int.from_bytes(part, "little") for part in (b"mini", b"vmm ", b"here")]
    leaf = dict(zip(("ebx", "ecx", "edx"), words, strict=True))
    set_cpuid(guest, {"function": 0, "eax": 1}, {"function": 1}, {"function": HYPERVISOR, "eax": HYPERVISOR, **leaf})
    assert ask(guest, HYPERVISOR) == (HYPERVISOR, *words)


def test_kvm_signs_the_leaves_that_it_supports(vm):
    leaf = vm.leaf(HYPERVISOR)
    name = b"".join(value.to_bytes(4, "little") for value in (leaf.ebx, leaf.ecx, leaf.edx))
    assert name == b"KVMKVMKVM\0\0\0"


def test_subleaves(start):
    guest = start(LONG, asm64("cpuid; hlt"), cpuid=False)
    significant = k.KVM_CPUID_FLAG_SIGNIFCANT_INDEX
    set_cpuid(
        guest,
        {"function": 0, "eax": 4},
        {"function": 4, "index": 0, "flags": significant, "eax": 0x11},
        {"function": 4, "index": 1, "flags": significant, "eax": 0x22},
    )
    assert [ask(guest, 4, index)[0] for index in range(3)] == [0x11, 0x22, 0]


def test_ecx_does_not_count_where_a_leaf_has_no_subleaves(start):
    guest = start(LONG, asm64("cpuid; hlt"), cpuid=False)
    set_cpuid(guest, {"function": 0, "eax": 0x11}, {"function": 2, "eax": 0x77})
    assert ask(guest, 2, 9)[0] == 0x77


def test_a_leaf_within_the_limit_that_is_not_there_is_zero(start):
    guest = start(LONG, asm64("cpuid; hlt"), cpuid=False)
    set_cpuid(guest, {"function": 0, "eax": 0x10}, {"function": 1})
    assert ask(guest, 3) == (0, 0, 0, 0)


def test_without_any_it_is_all_zero(start):
    guest = start(LONG, asm64("cpuid; hlt"), cpuid=False)
    assert ask(guest, 0) == ask(guest, 1) == (0, 0, 0, 0)


def test_a_feature_bit_can_be_taken_away(start):
    guest = start(LONG, asm64("cpuid; hlt"))
    leaf = guest.leaf(1)
    entry = {"function": 1, "eax": leaf.eax, "ebx": leaf.ebx, "ecx": leaf.ecx & ~(1 << 23), "edx": leaf.edx & ~(1 << 4)}
    set_cpuid(guest, {"function": 0, "eax": 1}, entry)
    _, _, ecx, edx = ask(guest, 1)
    assert (ecx >> 23 & 1, edx >> 4 & 1) == (0, 0)


def test_the_supported_leaves_hold_what_64_bit_code_needs(vm):
    assert vm.leaf(0).eax >= 1
    assert vm.leaf(0x80000000).eax >= 0x80000008
    features, extended = vm.leaf(1).edx, vm.leaf(0x80000001).edx
    fpu, tsc, msr, pae, cx8, apic, sse2 = (features >> bit & 1 for bit in (0, 4, 5, 6, 8, 9, 26))
    assert (fpu, tsc, msr, pae, cx8, apic, sse2) == (1,) * 7
    syscall, nx, long_mode = (extended >> bit & 1 for bit in (11, 20, 29))
    assert (syscall, nx, long_mode) == (1, 1, 1)


def test_the_guest_reads_the_supported_leaves(start):
    guest = start(LONG, asm64("cpuid; hlt"))
    vendor = guest.leaf(0)
    assert ask(guest, 0) == (vendor.eax, vendor.ebx, vendor.ecx, vendor.edx)


def test_osxsave_follows_cr4(start):
    guest = start(LONG, asm64("cpuid; hlt"))
    if not guest.leaf(1).ecx >> 26 & 1:
        pytest.skip("CPUID has no XSAVE")
    assert ask(guest, 1)[2] >> 27 & 1 == 0
    guest.cpu.change(cr4=guest.cpu.sregs.cr4 | 1 << 18)
    assert ask(guest, 1)[2] >> 27 & 1 == 1


def test_cpuid_in_ring_3(start):
    guest = start(LONG, asm64("cpuid; ud2"), ring=3, cpuid=False)
    set_cpuid(guest, {"function": 0, "eax": 0x99})
    assert guest.trace() == [Trapped(6)]
    assert guest.regs.rax == 0x99


def test_what_was_set_can_be_read_back(start):
    guest = start(REAL, asm("hlt"), cpuid=False)
    set_cpuid(guest, {"function": 0, "eax": 1, "ebx": 7}, {"function": 0x80000000, "eax": 0x80000008})
    table = ffi.new("struct kvm_cpuid2 *", {"nent": 10, "entries": 10})
    guest.cpu.ioctl(io.KVM_GET_CPUID2, table)
    assert [(entry.function, entry.eax) for entry in table.entries[0:2]] == [(0, 1), (0x80000000, 0x80000008)]
    assert table.nent in (2, 10)  # kernels up to 6.1 leave the room that they were given


def test_too_many_entries(start):
    guest = start(REAL, asm("hlt"), cpuid=False)
    with pytest.raises(KvmError) as refusal:
        set_cpuid(guest, *({"function": n} for n in range(257)))
    assert refusal.value.errno == errno.E2BIG


def test_too_little_room(vm):
    table = ffi.new("struct kvm_cpuid2 *", {"nent": 1, "entries": 1})
    with pytest.raises(KvmError) as refusal:
        checked(vm.backend, vm.system, io.KVM_GET_SUPPORTED_CPUID, table)
    assert refusal.value.errno == errno.E2BIG


def test_long_mode_needs_its_bit(start):
    """Without LM in CPUID, EFER.LME can't be set by the guest."""
    code = asm32("mov ecx, 0xC0000080; rdmsr; or eax, 0x100; wrmsr; hlt")
    guest = start("protected", code, cpuid=False)
    set_cpuid(guest, {"function": 0, "eax": 1}, {"function": 1})
    assert guest.trace() == [Trapped(13, 0)]
    assert start("protected", code).trace() == [HLT]
