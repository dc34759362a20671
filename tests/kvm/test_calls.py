"""The four system calls of a VMM on the real device: handles, the run page, and both ways of binding."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys

import pytest

from minivmm.kvm import (
    KVM_CHECK_EXTENSION,
    KVM_CREATE_VCPU,
    KVM_CREATE_VM,
    KVM_EXIT_HLT,
    KVM_GET_API_VERSION,
    KVM_GET_REGS,
    KVM_GET_SREGS,
    KVM_GET_VCPU_MMAP_SIZE,
    KVM_RUN,
    KVM_SET_REGS,
    KVM_SET_SREGS,
    KVM_SET_USER_MEMORY_REGION,
    Handle,
    address_of,
    anonymous_memory,
    close,
    ioctl,
    mmap_run,
    open_kvm,
    struct,
)  # fmt: skip

pytestmark = pytest.mark.kvm

PROGRAM = """
from minivmm.kvm import *
kvm = open_kvm(); vm = ioctl(kvm, KVM_CREATE_VM); memory = anonymous_memory(4096); memory[0] = 0xF4
region = struct("kvm_userspace_memory_region", memory_size=4096, userspace_addr=address_of(memory))
ioctl(vm, KVM_SET_USER_MEMORY_REGION, region)
vcpu = ioctl(vm, KVM_CREATE_VCPU, 0); run = mmap_run(vcpu, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE))
sregs = struct("kvm_sregs"); ioctl(vcpu, KVM_GET_SREGS, sregs); sregs.cs.base = sregs.cs.selector = 0
ioctl(vcpu, KVM_SET_SREGS, sregs); ioctl(vcpu, KVM_SET_REGS, struct("kvm_regs", rip=0, rflags=2)); ioctl(vcpu, KVM_RUN)
backend = KvmBackend(); import threading; backend.kick(threading.get_native_id())
print(MODE, run.exit_reason, ioctl(kvm, KVM_GET_API_VERSION))
"""


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_guest_by_hand() -> None:
    kvm = open_kvm()
    assert ioctl(kvm, KVM_GET_API_VERSION) == 12
    vm = ioctl(kvm, KVM_CREATE_VM)
    memory = anonymous_memory(4096)
    memory[0] = 0xF4  # hlt
    region = struct("kvm_userspace_memory_region", memory_size=4096, userspace_addr=address_of(memory))
    ioctl(vm, KVM_SET_USER_MEMORY_REGION, region)
    vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)
    run = mmap_run(vcpu, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE))
    sregs = struct("kvm_sregs")
    ioctl(vcpu, KVM_GET_SREGS, sregs)
    sregs.cs.base = sregs.cs.selector = 0
    ioctl(vcpu, KVM_SET_SREGS, sregs)
    ioctl(vcpu, KVM_SET_REGS, struct("kvm_regs", rip=0, rflags=2))
    ioctl(vcpu, KVM_RUN)
    assert run.exit_reason == KVM_EXIT_HLT
    regs = struct("kvm_regs")
    ioctl(vcpu, KVM_GET_REGS, regs)
    assert regs.rip == 1
    assert run.page[8] == KVM_EXIT_HLT  # the same memory, by bytes


@pytest.mark.parametrize("mode", ["api", "abi"])
def test_both_bindings_run_the_same_guest(mode: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "MINIVMM_FFI": mode},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[1:] == ["5", "12"]
    if mode == "abi":
        assert done.stdout.startswith("ABI")


def test_dropped_handles_close_and_rerun_cells_leak_nothing() -> None:
    def cell() -> Handle:
        kvm = open_kvm()
        vm = ioctl(kvm, KVM_CREATE_VM)
        return ioctl(vm, KVM_CREATE_VCPU, 0)  # type: ignore[return-value]

    gc.collect()  # what earlier tests dropped must not close in the middle of this one
    before = open_files()
    vcpu = cell()
    assert open_files() == before + 3  # the vCPU keeps its VM, and the VM the system handle
    for _ in range(20):
        vcpu = cell()
    gc.collect()
    assert open_files() == before + 3
    del vcpu
    gc.collect()
    assert open_files() == before


def test_closing_twice_is_harmless_and_a_handle_stays_a_number() -> None:
    kvm = open_kvm()
    assert ioctl(kvm, KVM_CHECK_EXTENSION, 3) == 1
    number = int(kvm)
    close(kvm)
    close(kvm)
    assert kvm == number
    assert kvm.closed
    with pytest.raises(TypeError, match="belongs to its process"):
        pickle.dumps(kvm)


def test_the_run_page_outlives_its_handle() -> None:
    kvm = open_kvm()
    vm = ioctl(kvm, KVM_CREATE_VM)
    vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)
    run = mmap_run(vcpu, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE))
    close(vcpu)
    run.immediate_exit = 1
    assert run.immediate_exit == 1  # no crash: the mapping lives as long as somebody looks at it
    assert "exit_reason" in dir(run)
