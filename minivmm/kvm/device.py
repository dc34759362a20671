"""The backend `kvm`: the calls go to /dev/kvm."""

from __future__ import annotations

import errno
import mmap
import os
import signal
from collections.abc import Callable
from typing import Any

from minivmm.kvm import binding, host
from minivmm.kvm.binding import ffi, install_kick, ioctl_pointer, ioctl_value, send_signal
from minivmm.kvm.constants import KVM_API_VERSION
from minivmm.kvm.errors import KvmError
from minivmm.kvm.ioctls import KVM_GET_API_VERSION
from minivmm.kvm.seam import CData


class KvmBackend:
    """The kernel's own KVM. Any number of VMs may be open through one object."""

    name = "kvm"

    def __init__(self, path: str = host.DEVICE) -> None:
        self.path = path
        self._kick_signal = 0
        # The compiled function itself, with no Python frame around it: this call is made at every exit.
        self.run: Callable[[int, CData], int] = binding.run

    def open(self) -> int:
        """Opens the device. Raises KvmError: absent, forbidden, not a KVM, or an API version that isn't 12."""
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            remedy = host.remedy(host.look()) if self.path == host.DEVICE else ""
            raise KvmError(f"open({self.path!r})", error.errno or errno.EIO, remedy) from None
        version = ioctl_value(fd, KVM_GET_API_VERSION, 0)
        if version != KVM_API_VERSION:
            os.close(fd)
            raise KvmError(f"open({self.path!r})", errno.ENODEV, f"{self.path} doesn't answer as KVM (API version 12).")
        return fd

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        if isinstance(argument, int):
            return ioctl_value(fd, request, argument)  # type: ignore[no-any-return]
        return ioctl_pointer(fd, request, argument)  # type: ignore[no-any-return]

    def map_run(self, fd: int, size: int) -> CData:
        try:
            return ffi.from_buffer("struct kvm_run *", mmap.mmap(fd, size))
        except (OSError, ValueError) as error:
            code = getattr(error, "errno", None) or errno.EINVAL
            raise KvmError(
                "mmap of kvm_run", code, "Pass a vCPU handle and the size from KVM_GET_VCPU_MMAP_SIZE."
            ) from None

    def close(self, fd: int) -> None:
        os.close(fd)

    def kick(self, thread: int) -> None:
        if not self._kick_signal:
            self._kick_signal = signal.SIGRTMIN + 2  # glibc keeps the first ones to itself
            install_kick(self._kick_signal)
        send_signal(thread, self._kick_signal)  # to a thread that has ended, it does nothing
