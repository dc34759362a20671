"""One VM of the soft backend: memory, interrupt chips, time, vCPUs, and the ioctls on its handle.

Source: KVM API, section 4, "Type: vm ioctl".
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from minivmm.kvm import constants as k
from minivmm.kvm import ioctls
from minivmm.soft import capabilities, ioeventfd
from minivmm.soft.binding import ffi
from minivmm.soft.host_memory import is_mapped
from minivmm.soft.irq_ioctls import vm_ioctl as irqchip_ioctl
from minivmm.soft.irqchip import IrqChip
from minivmm.soft.parts import VmParts
from minivmm.soft.pointers import struct_at
from minivmm.soft.vcpu import SoftVcpu

# What a VM without an irqchip says to the ioctls that are about one; ENOTTY to all others.
_NO_CHIP = {
    ioctls.KVM_IRQ_LINE: errno.ENXIO,
    ioctls.KVM_IRQ_LINE_STATUS: errno.ENXIO,
    ioctls.KVM_GET_IRQCHIP: errno.ENXIO,
    ioctls.KVM_SET_IRQCHIP: errno.ENXIO,
    ioctls.KVM_CREATE_PIT2: errno.ENOENT,
    ioctls.KVM_GET_PIT2: errno.ENXIO,
    ioctls.KVM_SET_PIT2: errno.ENXIO,
}


class SoftVm(VmParts):
    """The handle of a VM."""

    def create_vcpu(self, number: int) -> SoftVcpu | int:
        """KVM_CREATE_VCPU: the vCPU, or -errno."""
        if not 0 <= number < capabilities.MOST_VCPUS:
            return -errno.EINVAL
        if number in self.vcpus:
            return -errno.EEXIST
        with self.turn:
            vcpu = SoftVcpu(self, number)
            self.vcpus[number] = vcpu.parts
        return vcpu

    # ---- the ioctls ----

    def ioctl(self, request: int, argument: Any) -> int:
        """One ioctl: its result, or -errno."""
        found = _IOCTLS.get(request)
        if found is not None:
            answer, kind = found
            structure = struct_at(kind, argument) if kind else argument
            return -errno.EFAULT if structure is None else answer(self, structure)
        if self.irqchip is None:
            return -_NO_CHIP.get(request, errno.ENOTTY)
        if struct_at("kvm_irqchip", argument) is None:
            return -errno.EFAULT
        result = irqchip_ioctl(self.irqchip, request, argument)
        return -errno.ENOTTY if result is None else result

    def check_extension(self, capability: int) -> int:
        return capabilities.check(capability)

    def set_region(self, region: Any) -> int:
        with self.turn:
            return self.memory.set_region(region)

    def register_zone(self, zone: Any) -> int:
        with self.turn:
            return self.zones.register(zone)

    def unregister_zone(self, zone: Any) -> int:
        with self.turn:
            return self.zones.unregister(zone)

    def set_ioeventfd(self, event: Any) -> int:
        with self.turn:
            return self.eventfds.set(event)

    def get_dirty_log(self, log: Any) -> int:
        with self.turn:
            slot = self.memory.dirty_log(log.slot)
            if slot is None:
                return -errno.ENOENT
            address = int(ffi.cast("uintptr_t", log.dirty_bitmap))
            if not is_mapped(address, slot.log_bytes):
                return -errno.EFAULT
            ffi.memmove(ffi.cast("char *", address), slot.dirty, slot.log_bytes)
            self.memory.forget_dirty(slot)
            return 0

    def create_irqchip(self, _: Any) -> int:
        if self.irqchip is not None:
            return -errno.EEXIST
        if self.vcpus:
            return -errno.EINVAL  # the vCPUs would have no local APIC
        self.irqchip = IrqChip(self.clock.now)
        return 0

    def enable_cap(self, cap: Any) -> int:
        if cap.flags:
            return -errno.EINVAL
        if cap.cap == k.KVM_CAP_SPLIT_IRQCHIP:
            return self._split_irqchip(cap.args[0])
        if cap.cap == k.KVM_CAP_X86_USER_SPACE_MSR:
            known = k.KVM_MSR_EXIT_REASON_INVAL | k.KVM_MSR_EXIT_REASON_UNKNOWN | k.KVM_MSR_EXIT_REASON_FILTER
            if cap.args[0] & ~known:
                return -errno.EINVAL
            self.msr_exits = cap.args[0]
            return 0
        return -errno.EINVAL

    def _split_irqchip(self, pins: int) -> int:
        if self.irqchip is not None or self.vcpus:
            return -errno.EEXIST
        if pins > 24:
            return -errno.EINVAL
        self.irqchip = IrqChip(self.clock.now, split=True, reserved_pins=pins)
        return 0

    def set_msr_filter(self, msr_filter: Any) -> int:
        try:
            self.msr_filter.set(msr_filter)
        except ValueError:
            return -errno.EINVAL
        return 0

    def nothing(self, _: Any) -> int:
        """KVM_SET_TSS_ADDR and KVM_SET_IDENTITY_MAP_ADDR: places that Intel's real mode needs, and we don't."""
        return 0

    def get_clock(self, clock: Any) -> int:
        clock.clock, clock.flags = self.clock.now() + self._clock_offset(), k.KVM_CLOCK_TSC_STABLE
        return 0

    def set_clock(self, clock: Any) -> int:
        for vcpu in self.vcpus.values():
            vcpu.kvmclock.set_clock(clock.clock)
        return 0

    def _clock_offset(self) -> int:
        return next((vcpu.kvmclock.offset for vcpu in self.vcpus.values()), 0)

    def set_boot_cpu(self, number: int) -> int:
        return -errno.EBUSY if self.vcpus else 0 if number == 0 else -errno.EINVAL

    def close(self) -> None:
        """Gives up the vCPUs that are still there; their handles know only EBADF from then on."""
        for vcpu in list(self.vcpus.values()):
            vcpu.kick()
        with self.turn:
            for vcpu in self.vcpus.values():
                vcpu.close()
            self.vcpus.clear()
            self.eventfds.close()


_IOCTLS: dict[int, tuple[Callable[[SoftVm, Any], int], str | None]] = {
    ioctls.KVM_CHECK_EXTENSION: (SoftVm.check_extension, None),
    ioctls.KVM_SET_USER_MEMORY_REGION: (SoftVm.set_region, "kvm_userspace_memory_region"),
    ioctls.KVM_GET_DIRTY_LOG: (SoftVm.get_dirty_log, "kvm_dirty_log"),
    ioctls.KVM_REGISTER_COALESCED_MMIO: (SoftVm.register_zone, "kvm_coalesced_mmio_zone"),
    ioctls.KVM_UNREGISTER_COALESCED_MMIO: (SoftVm.unregister_zone, "kvm_coalesced_mmio_zone"),
    ioctls.KVM_CREATE_IRQCHIP: (SoftVm.create_irqchip, None),
    ioctls.KVM_ENABLE_CAP: (SoftVm.enable_cap, "kvm_enable_cap"),
    ioctls.KVM_X86_SET_MSR_FILTER: (SoftVm.set_msr_filter, "kvm_msr_filter"),
    ioctls.KVM_SET_TSS_ADDR: (SoftVm.nothing, None),
    ioctls.KVM_SET_IDENTITY_MAP_ADDR: (SoftVm.nothing, None),
    ioctls.KVM_SET_BOOT_CPU_ID: (SoftVm.set_boot_cpu, None),
    ioctls.KVM_GET_CLOCK: (SoftVm.get_clock, "kvm_clock_data"),
    ioctls.KVM_SET_CLOCK: (SoftVm.set_clock, "kvm_clock_data"),
}
if ioeventfd.AVAILABLE:
    _IOCTLS[ioctls.KVM_IOEVENTFD] = SoftVm.set_ioeventfd, "kvm_ioeventfd"
