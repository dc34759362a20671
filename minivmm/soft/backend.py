"""The backend `soft`: the KVM API, answered in this process, without a device.

Handles are numbers of our own, not file descriptors. They count up from 0x1000000, so that one that strays into a real
system call is refused there.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from itertools import count
from typing import Any

from minivmm.kvm import ioctls
from minivmm.kvm.errors import KvmError
from minivmm.kvm.seam import CData
from minivmm.soft import selfcheck
from minivmm.soft.clock import CountingClock, WallClock
from minivmm.soft.library import EngineError
from minivmm.soft.system import SoftSystem
from minivmm.soft.vcpu import SoftVcpu
from minivmm.soft.vm import SoftVm

FIRST_HANDLE = 0x1000000
Handle = SoftSystem | SoftVm | SoftVcpu


class SoftBackend:
    """KVM without KVM. With `counting`, time is counted in instructions: every run of a guest is the same."""

    name = "soft"

    def __init__(self, *, counting: bool = False) -> None:
        self.counting = counting
        self._handles: dict[int, Handle] = {}
        self._numbers = count(FIRST_HANDLE)
        self.run: Callable[[int, CData], int] = self._run

    def open(self) -> int:
        """The system handle. Raises KvmError where Unicorn is missing, or not the version that this code knows."""
        try:
            selfcheck.layout()
        except EngineError as error:
            raise KvmError("open of the soft backend", errno.ENODEV, str(error)) from None
        return self._add(SoftSystem(counting=self.counting))

    def _add(self, handle: Handle) -> int:
        number = next(self._numbers)
        self._handles[number] = handle
        return number

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        handle = self._handles.get(fd)
        if handle is None:
            return -errno.EBADF
        if isinstance(handle, SoftSystem) and request == ioctls.KVM_CREATE_VM:
            return -errno.EINVAL if argument else self._add(SoftVm(CountingClock() if self.counting else WallClock()))
        if isinstance(handle, SoftVm) and request == ioctls.KVM_CREATE_VCPU:
            vcpu = handle.create_vcpu(int(argument))
            return vcpu if isinstance(vcpu, int) else self._add(vcpu)
        if isinstance(handle, SoftVcpu) and request == ioctls.KVM_RUN:
            return min(0, handle.run())
        return handle.ioctl(request, argument)

    def _run(self, fd: int, page: CData) -> int:
        handle = self._handles.get(fd)
        return handle.run() if isinstance(handle, SoftVcpu) else -errno.EBADF

    def map_run(self, fd: int, size: int) -> CData:
        handle = self._handles.get(fd)
        page = handle.map(size) if isinstance(handle, SoftVcpu) else None
        if page is None:
            advice = "Pass a vCPU handle and the size from KVM_GET_VCPU_MMAP_SIZE."
            raise KvmError("mmap of kvm_run", errno.EINVAL, advice)
        return page

    def close(self, fd: int) -> None:
        handle = self._handles.pop(fd, None)
        if handle is None:
            raise OSError(errno.EBADF, "Bad file descriptor")
        handle.close()

    def kick(self, thread: int) -> None:
        for handle in list(self._handles.values()):
            if isinstance(handle, SoftVcpu) and handle.parts.thread == thread:
                handle.parts.kick()
