"""What the KVM API says when it says no, and what to do about it.

A `KvmError` names the call, the errno and the likely cause. The bare `OSError: [Errno 22] Invalid argument` is where
most people who try KVM for the first time get stuck.
"""

from __future__ import annotations

import errno as errno_module
import os

from minivmm.kvm.ioctls import name_of

# (call, errno) → the likely cause and its remedy. "*" stands for every call. Causes: api.rst, "Errors" of each ioctl.
LIKELY_CAUSES = {
    ("KVM_CREATE_VM", errno_module.EBUSY): "Another hypervisor (VirtualBox, VMware) holds the CPU's virtualization "
    "extension; shut its machines down and try again.",
    ("KVM_CREATE_VM", errno_module.ENOMEM): "The host is out of memory for a new VM; close other virtual machines.",
    ("KVM_CREATE_VM", errno_module.EINVAL): "The machine type must be 0 on x86.",
    (
        "KVM_CREATE_VCPU",
        errno_module.EEXIST,
    ): "A vCPU with this number exists in this VM already; number them 0, 1, 2, …",
    ("KVM_CREATE_VCPU", errno_module.EINVAL): "This is not a VM's handle, or the vCPU number is "
    "beyond what this host allows (KVM_CAP_MAX_VCPU_ID).",
    ("KVM_SET_USER_MEMORY_REGION", errno_module.EEXIST): "The slot overlaps another slot in guest-physical memory.",
    ("KVM_SET_USER_MEMORY_REGION", errno_module.EINVAL): "guest_phys_addr, memory_size and userspace_addr must be "
    "multiples of the page size (4096), the slot number must be within KVM_CAP_NR_MEMSLOTS, and a slot's size and "
    "place can't be changed without deleting it first (memory_size = 0). The handle must be the VM's.",
    ("KVM_SET_SREGS", errno_module.EINVAL): "The register state breaks a rule of the architecture; "
    "minivmm.x86.broken_rules(sregs) names it.",
    ("KVM_SET_REGS", errno_module.EINVAL): "The register state breaks a rule of the architecture.",
    (
        "KVM_GET_DIRTY_LOG",
        errno_module.ENOENT,
    ): "The slot doesn't log dirty pages; create it with KVM_MEM_LOG_DIRTY_PAGES.",
    ("KVM_INTERRUPT", errno_module.EEXIST): "An interrupt is already waiting to be taken.",
    ("KVM_INTERRUPT", errno_module.ENXIO): "This VM has an in-kernel irqchip: use KVM_IRQ_LINE instead.",
    ("KVM_IRQ_LINE", errno_module.ENXIO): "This VM has no in-kernel irqchip: call KVM_CREATE_IRQCHIP first.",
    ("KVM_SET_CPUID2", errno_module.E2BIG): "More CPUID entries than KVM takes (256).",
    (
        "KVM_GET_SUPPORTED_CPUID",
        errno_module.E2BIG,
    ): "The array is too small for what the host reports: make it larger.",
    ("KVM_RUN", errno_module.EFAULT): "Guest memory isn't there any more (was its buffer freed while the VM runs?).",
    ("KVM_RUN", errno_module.ENOSPC): "This KVM can't enter a VM without memory: give it a slot first.",
    ("KVM_RUN", errno_module.EINTR): "A signal or immediate_exit ended KVM_RUN; call it again to go on.",
    ("KVM_RUN", errno_module.EIO): "The VM belongs to another process: KVM handles don't work after fork().",
    ("*", errno_module.EBADF): "The handle is closed, or it is not a handle of this kind (system, VM, vCPU).",
    (
        "*",
        errno_module.ENOTTY,
    ): "This handle doesn't know the call: is it the right handle (system, VM, vCPU), the right "
    "request number, and does this host's KVM have the extension (KVM_CHECK_EXTENSION)?",
    (
        "*",
        errno_module.EINVAL,
    ): "The argument is not one that the call takes, or the handle doesn't know the call: is it "
    "the right handle (system, VM, vCPU), with the right request number?",
    ("*", errno_module.EFAULT): "The argument points nowhere: pass the structure's address, and keep it alive.",
    ("*", errno_module.EIO): "The VM belongs to another process: KVM handles don't work after fork().",
    ("*", errno_module.ENOMEM): "The host is out of memory, or past a limit (ulimit -v, ulimit -l).",
    ("*", errno_module.EMFILE): "Too many open files: close VMs that are no longer needed, or raise ulimit -n.",
}


class KvmError(OSError):
    """A call of the KVM API failed. `ioctl` is its name, `errno` the code, `remedy` the likely cause and what to do."""

    def __init__(self, ioctl: str, errno: int, remedy: str = "") -> None:
        self.ioctl = ioctl
        self.remedy = remedy
        super().__init__(errno, os.strerror(errno))

    def __str__(self) -> str:
        code = errno_module.errorcode.get(self.errno or 0, str(self.errno))
        text = f"{self.ioctl} failed: {code} ({self.strerror})."
        return f"{text} {self.remedy}" if self.remedy else text


def failure(request: int, errno: int) -> KvmError:
    """The KvmError for an ioctl `request` that failed with `errno` (positive), with its likely cause."""
    name = name_of(request)
    remedy = LIKELY_CAUSES.get((name, errno)) or LIKELY_CAUSES.get(("*", errno), "")
    return KvmError(name, errno, remedy)
