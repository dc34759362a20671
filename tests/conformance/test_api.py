"""The API itself: versions, capabilities, handles, and the errno of what can't be done.

Source: KVM API, "4. API description".
"""

from __future__ import annotations

import errno

import pytest
from rig import LONG, Vm, asm64

from minivmm.kvm import constants as k
from minivmm.kvm import ioctls as io
from minivmm.kvm.binding import ffi
from minivmm.kvm.calls import struct
from minivmm.kvm.errors import KvmError

EVERYWHERE = (
    *("USER_MEMORY", "SET_TSS_ADDR", "IRQCHIP", "HLT", "EXT_CPUID", "NR_VCPUS", "NR_MEMSLOTS", "PIT2", "MP_STATE"),
    *("READONLY_MEM", "VCPU_EVENTS", "DEBUGREGS", "XSAVE", "XCRS", "SET_GUEST_DEBUG", "SYNC_REGS", "IMMEDIATE_EXIT"),
    *("IRQ_ROUTING", "SIGNAL_MSI", "SPLIT_IRQCHIP", "USER_NMI", "X86_USER_SPACE_MSR", "X86_MSR_FILTER", "MAX_VCPUS"),
    *("MAX_VCPU_ID", "CHECK_EXTENSION_VM", "ENABLE_CAP_VM", "DESTROY_MEMORY_REGION_WORKS", "INTERNAL_ERROR_DATA"),
    *("JOIN_MEMORY_REGIONS_WORKS", "ADJUST_CLOCK", "GET_TSC_KHZ", "PIT_STATE2"),
)


def test_the_version(backend):
    fd = backend.open()
    assert backend.ioctl(fd, io.KVM_GET_API_VERSION) == k.KVM_API_VERSION
    backend.close(fd)


@pytest.mark.parametrize("name", EVERYWHERE)
def test_a_capability_that_every_backend_has(vm, name):
    assert vm.has(getattr(k, f"KVM_CAP_{name}")) >= 1


def test_an_unknown_capability_is_zero(vm):
    assert vm.has(99999) == 0


def test_the_system_and_the_vm_agree(vm):
    for capability in (k.KVM_CAP_USER_MEMORY, k.KVM_CAP_SYNC_REGS, k.KVM_CAP_NR_MEMSLOTS, k.KVM_CAP_IRQCHIP):
        assert vm.backend.ioctl(vm.system, io.KVM_CHECK_EXTENSION, capability) == vm.has(capability)


def test_the_size_of_the_shared_mapping(vm):
    assert vm.run_size >= 3 * 4096
    assert vm.run_size % 4096 == 0


def test_requests_that_a_handle_does_not_know(vm):
    """ENOTTY from a VM's handle, EINVAL from the other two: so it grew, so it stays."""
    cpu = vm.add_cpu()
    nonsense = 0xAEFE
    results = [vm.backend.ioctl(fd, nonsense, 0) for fd in (vm.system, vm.fd, cpu.fd)]
    assert results == [-errno.EINVAL, -errno.ENOTTY, -errno.EINVAL]


def test_requests_of_another_handle(vm):
    cpu = vm.add_cpu()
    regs = struct("kvm_regs")
    assert vm.backend.ioctl(vm.fd, io.KVM_GET_REGS, regs) == -errno.ENOTTY
    assert vm.backend.ioctl(vm.system, io.KVM_GET_REGS, regs) == -errno.EINVAL
    assert vm.backend.ioctl(cpu.fd, io.KVM_CREATE_VCPU, 1) == -errno.EINVAL


def test_a_closed_handle(backend):
    fd = backend.open()
    backend.close(fd)
    assert backend.ioctl(fd, io.KVM_GET_API_VERSION) == -errno.EBADF


def test_closing_twice(backend):
    fd = backend.open()
    backend.close(fd)
    with pytest.raises(OSError, match=r"Bad file descriptor|EBADF"):
        backend.close(fd)


def test_a_vm_type_that_is_not_there(vm):
    assert vm.backend.ioctl(vm.system, io.KVM_CREATE_VM, 1 << 20) == -errno.EINVAL


def test_a_vcpu_number_that_is_taken(vm):
    vm.add_cpu()
    assert vm.backend.ioctl(vm.fd, io.KVM_CREATE_VCPU, 0) == -errno.EEXIST


def test_a_vcpu_number_beyond_the_limit(vm):
    limit = vm.has(k.KVM_CAP_MAX_VCPU_ID)
    assert vm.backend.ioctl(vm.fd, io.KVM_CREATE_VCPU, limit) == -errno.EINVAL


def test_vcpus_in_any_order(vm):
    for number in (3, 1, 0):
        fd = vm.backend.ioctl(vm.fd, io.KVM_CREATE_VCPU, number)
        assert fd >= 0
        vm.backend.close(fd)


def test_many_vms_side_by_side(backend):
    vms = [Vm(backend) for _ in range(8)]
    for number, vm in enumerate(vms):
        vm.slot(0, 0, 4096)[0:1] = bytes([number])
        vm.add_cpu()
    assert len({int(vm.fd) for vm in vms}) == 8
    for vm in vms:
        vm.close()


def test_the_registers_of_one_vcpu_are_not_anothers(vm):
    first, second = vm.add_cpu(), vm.add_cpu()
    first.set(rax=1)
    second.set(rax=2)
    assert (first.regs.rax, second.regs.rax) == (1, 2)


@pytest.mark.parametrize("capability", [99999, k.KVM_CAP_USER_MEMORY])
def test_what_can_not_be_enabled(vm, capability):
    assert vm.backend.ioctl(vm.fd, io.KVM_ENABLE_CAP, struct("kvm_enable_cap", cap=capability)) == -errno.EINVAL


def test_addresses_for_intels_real_mode(vm):
    vm.ioctl(io.KVM_SET_TSS_ADDR, 0xFFFBD000)
    vm.ioctl(io.KVM_SET_IDENTITY_MAP_ADDR, ffi.new("uint64_t *", 0xFFFBC000))


def test_the_frequency_of_the_time_stamp_counter(start):
    cpu = start(LONG, asm64("hlt")).cpu
    khz = cpu.ioctl(io.KVM_GET_TSC_KHZ)
    assert 100_000 < khz < 20_000_000


def test_a_vcpu_without_memory_says_what_is_wrong(vm):
    try:
        said = vm.add_cpu().run(5).name
    except KvmError as error:
        # Where KVM computes the room for its own page tables from the slots: without any there is none.
        said = f"{error.errno}: {error}"
    exits = ("KVM_EXIT_INTERNAL_ERROR", "KVM_EXIT_MMIO", "KVM_EXIT_SHUTDOWN")
    assert said in exits or (said.startswith(f"{errno.ENOSPC}:") and "give it a slot" in said)


def test_every_kind_of_handle_is_given_back(backend):
    """A hundred VMs, one after the other: handles and memory are freed."""
    for _ in range(100):
        vm = Vm(backend)
        vm.slot(0, 0, 1 << 20)
        vm.add_cpu(cpuid=False)
        vm.close()
