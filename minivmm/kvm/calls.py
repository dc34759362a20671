"""The system calls of a VMM, as a student writes them: open, ioctl, mmap, close.

    kvm = open_kvm()                       # open("/dev/kvm", O_RDWR)
    vm = ioctl(kvm, KVM_CREATE_VM)
    vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)
    ioctl(vcpu, KVM_RUN)

They go through the seam: `use()` sets the backend that answers. Structures, numbers and errnos are the kernel's.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

from minivmm.kvm.binding import ffi
from minivmm.kvm.device import KvmBackend
from minivmm.kvm.handles import Handle, checked, created
from minivmm.kvm.ioctls import KVM_CREATE_VCPU, KVM_CREATE_VM
from minivmm.kvm.run_page import RunPage
from minivmm.kvm.seam import Backend, CData

_backend: Backend | None = None
_default: Callable[[], Backend] = KvmBackend


def use(backend: Backend) -> Backend:
    """Sets the backend behind these calls. Returns the one that it replaces."""
    global _backend
    previous, _backend = current(), backend
    return previous


def default_to(make: Callable[[], Backend]) -> None:
    """Says what makes the backend where nobody has set one by the time of the first call. At first: /dev/kvm."""
    global _default
    _default = make


def current() -> Backend:
    """The backend behind these calls."""
    global _backend
    if _backend is None:
        _backend = _default()
    return _backend


def open_kvm() -> Handle:
    """Opens the system handle, as open("/dev/kvm", O_RDWR) does. Raises KvmError with the remedy."""
    return Handle(current().open(), current())


def ioctl(fd: int, request: int, argument: Any = 0) -> int:
    """One ioctl: `argument` is a number or a pointer to a structure. Returns the result; raises KvmError.

    A result that is a new handle (KVM_CREATE_VM, KVM_CREATE_VCPU) closes itself when it is dropped.
    """
    call = created if request in (KVM_CREATE_VM, KVM_CREATE_VCPU) else checked
    return call(current(), fd, request, argument)


def mmap_run(vcpu: int, size: int) -> RunPage:
    """Maps the kvm_run page of a vCPU; `size` is what KVM_GET_VCPU_MMAP_SIZE says, in bytes."""
    return RunPage(current().map_run(vcpu, size), size)


def close(fd: int) -> None:
    """Closes a handle."""
    if isinstance(fd, Handle):
        fd.close()
    else:
        current().close(fd)


def anonymous_memory(size: int) -> mmap.mmap:
    """`size` bytes of zeroed host memory, page-aligned: what KVM wants behind a memory slot."""
    return mmap.mmap(-1, size)


def address_of(buffer: Any) -> int:
    """The host virtual address (HVA) of a writable buffer. The buffer must outlive whoever uses the address."""
    return int(ffi.cast("uintptr_t", ffi.from_buffer(buffer, require_writable=True)))


def struct(name: str, **fields: Any) -> CData:
    """A pointer to a new, zeroed `struct name` with `fields` set: struct("kvm_regs", rip=0x1000, rflags=2)."""
    return ffi.new(f"struct {name} *", fields)
