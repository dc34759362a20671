"""The seam: what a backend must answer. Nothing above this line asks which backend it has.

A backend is anything that answers the KVM API at ioctl level, with the kernel's structures, request numbers and errnos.
`KvmBackend` passes the calls to /dev/kvm; another can compute the answers itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

CData = Any  # a cffi pointer; cffi has no types of its own to offer


class Backend(Protocol):
    """Six calls, as the kernel has them. Handles are small integers, as file descriptors are."""

    name: str

    def open(self) -> int:
        """The system handle, as open("/dev/kvm") gives it. Raises KvmError with the remedy where there is none."""
        ...

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        """One call on a handle. `argument` is a number or a pointer. The result (≥ 0), or -errno; never raises."""
        ...

    @property
    def run(self) -> Callable[[int, CData], int]:
        """ioctl(vcpu, KVM_RUN) as a function of the handle and its `struct kvm_run *`: what a run loop calls.

        The result is -errno, or 0, or a mark > 0 by which the exit may be known again: the same mark from the same
        vCPU is the same exit, data and all. A backend that can't tell that cheaply returns 0.
        """
        ...

    def map_run(self, fd: int, size: int) -> CData:
        """The memory shared with KVM_RUN: a `struct kvm_run *` over `size` bytes (KVM_GET_VCPU_MMAP_SIZE), kept mapped
        for as long as the pointer lives."""
        ...

    def close(self, fd: int) -> None:
        """Gives a handle back. Closing twice is the caller's mistake, and EBADF."""
        ...

    def kick(self, thread: int) -> None:
        """Makes a KVM_RUN in progress in `thread` (threading.get_native_id()) return EINTR soon."""
        ...
