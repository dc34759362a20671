"""A virtual machine as KVM knows it: a handle, memory slots and vCPUs. No devices: those are the machine's.

Source: KVM API 4.2 KVM_CREATE_VM, 4.4 KVM_CHECK_EXTENSION.
"""

from __future__ import annotations

from typing import Any, Self

from minivmm.kvm import constants as k
from minivmm.kvm import ioctls
from minivmm.kvm.binding import ffi
from minivmm.kvm.calls import current, struct
from minivmm.kvm.handles import Handle, checked, created
from minivmm.kvm.seam import Backend, CData
from minivmm.memory import GuestMemory
from minivmm.vcpu import Vcpu
from minivmm.x86.cpuid import feature_bit

IDENTITY_MAP = 0xFFFB_C000  # a page
TSS_PAGES = 0xFFFB_D000  # three


class Vm:
    """A VM. As a context manager, or when dropped, it closes vCPUs, VM and system handle in this order."""

    def __init__(self, backend: Backend | None = None) -> None:
        self.backend = backend or current()
        self.system = Handle(self.backend.open(), self.backend)
        self.fd = created(self.backend, self.system, ioctls.KVM_CREATE_VM)
        self.run_size = checked(self.backend, self.system, ioctls.KVM_GET_VCPU_MMAP_SIZE)
        self.memory = GuestMemory(self.backend, self.fd)
        self.vcpus: list[Vcpu] = []

    def create_vcpu(self) -> Vcpu:
        """A vCPU with the next number. The first is the bootstrap processor."""
        vcpu = Vcpu(self.backend, self.fd, len(self.vcpus), self.run_size)
        self.vcpus.append(vcpu)
        return vcpu

    def has_cap(self, capability: int) -> int:
        """What KVM_CHECK_EXTENSION says of a KVM_CAP_*: 0 where it is missing, else 1 or a number with a meaning."""
        return max(0, self.backend.ioctl(self.fd, ioctls.KVM_CHECK_EXTENSION, capability))

    def enable_cap(self, capability: int, *arguments: int) -> None:
        """KVM_ENABLE_CAP (api.rst 4.37)."""
        self.ioctl(ioctls.KVM_ENABLE_CAP, struct("kvm_enable_cap", cap=capability, args=arguments))

    def ioctl(self, request: int, argument: Any = 0) -> int:
        """One ioctl on the VM handle. Raises KvmError."""
        return checked(self.backend, self.fd, request, argument)

    def now(self) -> int:
        """The VM's own time in ns, which its kvmclock shows (api.rst 4.29 KVM_GET_CLOCK)."""
        clock = struct("kvm_clock_data")
        self.ioctl(ioctls.KVM_GET_CLOCK, clock)
        return int(clock.clock)

    def supported_cpuid(self) -> list[dict[str, int]]:
        """What CPUID can show a guest here: mappings with the fields of `struct kvm_cpuid_entry2` (api.rst 4.46). That
        it is a guest is among it."""
        cpuid = self._supported_cpuid()
        fields = ("function", "index", "flags", "eax", "ebx", "ecx", "edx")
        return [{name: getattr(cpuid.entries[i], name) for name in fields} for i in range(cpuid.nent)]

    def show_supported_cpuid(self, vcpu: Vcpu) -> None:
        """Lets the guest see all that CPUID can show here. Without it every leaf is zero, and a guest that asks first
        finds no long mode."""
        checked(self.backend, vcpu.fd, ioctls.KVM_SET_CPUID2, self._supported_cpuid())

    def prepare_for_vtx(self) -> None:
        """Gives KVM the pages that VT-x needs for a guest in real mode, at the end of the hole under 4 GiB, where no
        device is. Others ignore it (api.rst 4.13 KVM_SET_TSS_ADDR, 4.39 KVM_SET_IDENTITY_MAP_ADDR)."""
        if self.has_cap(k.KVM_CAP_SET_TSS_ADDR):
            self.ioctl(ioctls.KVM_SET_TSS_ADDR, TSS_PAGES)
        if self.has_cap(k.KVM_CAP_SET_IDENTITY_MAP_ADDR):
            self.ioctl(ioctls.KVM_SET_IDENTITY_MAP_ADDR, ffi.new("uint64_t *", IDENTITY_MAP))

    def _supported_cpuid(self) -> CData:
        room = 256
        cpuid = ffi.new("struct kvm_cpuid2 *", {"nent": room, "entries": room})
        checked(self.backend, self.system, ioctls.KVM_GET_SUPPORTED_CPUID, cpuid)
        # KVM's list has its own leaves (0x40000000 on) but, as a processor would, not the bit that says to look there.
        # Without it Linux finds no kvmclock and may read the time from the ACPI timer: twenty exits for a disk request.
        function, register, bit = feature_bit("hypervisor")
        for entry in cpuid.entries[0 : cpuid.nent]:
            if entry.function == function:
                setattr(entry, register, getattr(entry, register) | 1 << bit)
        return cpuid

    def exit_on_unknown_msrs(self) -> None:
        """Makes RDMSR and WRMSR of MSRs that KVM doesn't know exit to us instead of raising #GP (KVM_CAP 188)."""
        self.enable_cap(k.KVM_CAP_X86_USER_SPACE_MSR, k.KVM_MSR_EXIT_REASON_UNKNOWN)

    def close(self) -> None:
        """Closes everything; a second call does nothing."""
        for vcpu in self.vcpus:
            vcpu.close()
        self.fd.close()
        self.system.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
