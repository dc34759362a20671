"""The system handle of the soft backend: what open("/dev/kvm") would give. Source: KVM API, "Type: system ioctl"."""

from __future__ import annotations

import errno
from typing import Any

from minivmm.kvm import ioctls
from minivmm.kvm.constants import KVM_API_VERSION
from minivmm.soft import capabilities, cpuid_supported
from minivmm.soft.msr_table import INDEX_LIST
from minivmm.soft.page import SIZE
from minivmm.soft.pointers import struct_at


class SoftSystem:
    """Answers what can be asked before there is a VM. `counting`: nothing that differs from run to run."""

    def __init__(self, *, counting: bool = False) -> None:
        self._counting = counting

    def ioctl(self, request: int, argument: Any) -> int:
        """One ioctl: its result, or -errno."""
        if request == ioctls.KVM_GET_API_VERSION:
            return KVM_API_VERSION if not argument else -errno.EINVAL
        if request == ioctls.KVM_GET_VCPU_MMAP_SIZE:
            return SIZE if not argument else -errno.EINVAL
        if request == ioctls.KVM_CHECK_EXTENSION:
            return capabilities.check(int(argument))
        if request == ioctls.KVM_GET_SUPPORTED_CPUID:
            return _fill_cpuid(struct_at("kvm_cpuid2", argument), self._counting)
        if request == ioctls.KVM_GET_MSR_INDEX_LIST:
            return _fill_index_list(struct_at("kvm_msr_list", argument))
        return -errno.EINVAL  # as KVM's system handle

    def close(self) -> None:
        """Nothing to give back."""


def _fill_cpuid(table: Any, counting: bool) -> int:
    if table is None:
        return -errno.EFAULT
    entries = cpuid_supported.supported(deterministic=counting)
    if table.nent < len(entries):
        return -errno.E2BIG
    for i, entry in enumerate(entries):
        for name, value in entry.items():
            setattr(table.entries[i], name, value)
    table.nent = len(entries)
    return 0


def _fill_index_list(table: Any) -> int:
    if table is None:
        return -errno.EFAULT
    room, table.nmsrs = table.nmsrs, len(INDEX_LIST)
    if room < len(INDEX_LIST):
        return -errno.E2BIG
    for i, index in enumerate(INDEX_LIST):
        table.indices[i] = index
    return 0
