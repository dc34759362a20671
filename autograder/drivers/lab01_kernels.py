"""Kernels that behave a little differently from the one below, as the KVM API allows any kernel to.

Each wraps a backend, so the student's system calls still end in a real KVM. A VMM that relies on what one kernel
happens to do, and not on what the API promises, shows it here.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from autograder.drivers.base import recording
from autograder.drivers.recorder import Recorder
from minivmm.exits import PortOut, decode
from minivmm.kvm import calls
from minivmm.kvm.constants import KVM_EXIT_IO, KVM_EXIT_IO_OUT
from minivmm.kvm.ioctls import (
    KVM_GET_API_VERSION,
    KVM_GET_VCPU_MMAP_SIZE,
    KVM_RUN,
    KVM_SET_USER_MEMORY_REGION,
)
from minivmm.kvm.run_page import RunPage
from minivmm.kvm.seam import Backend, CData

PIO_DATA = 4096  # where x86 KVM keeps the data of port I/O: KVM_PIO_PAGE_OFFSET, in bytes


class Kernel:
    """Passes every call on."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.name = backend.name

    def open(self) -> int:
        return self.backend.open()

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        return self.backend.ioctl(fd, request, argument)

    def run(self, fd: int, page: CData) -> int:
        return self.ioctl(fd, KVM_RUN)

    def map_run(self, fd: int, size: int) -> CData:
        return self.backend.map_run(fd, size)

    def close(self, fd: int) -> None:
        self.backend.close(fd)

    def kick(self, thread: int) -> None:
        self.backend.kick(thread)


K = TypeVar("K", bound=Kernel)


@contextmanager
def kernel(make: Callable[[Backend], K]) -> Iterator[tuple[Recorder, K]]:
    """Puts a kernel below the student's system calls, and a Recorder between the two."""
    made = make(calls.current())
    previous = calls.use(made)
    try:
        with recording() as recorder:
            yield recorder, made
    finally:
        calls.use(previous)


class OfVersion(Kernel):
    """Says that its API has another version than 12, as Linux before 2.6.22 did (api.rst 4.1)."""

    def __init__(self, backend: Backend, version: int) -> None:
        super().__init__(backend)
        self.version = version

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        return self.version if request == KVM_GET_API_VERSION else super().ioctl(fd, request, argument)


class SlotWatcher(Kernel):
    """Remembers each memory slot that it was asked for, with the errno where it refused."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.slots: list[dict[str, Any]] = []

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        result = super().ioctl(fd, request, argument)
        if request == KVM_SET_USER_MEMORY_REGION and not isinstance(argument, int):
            names = ("slot", "flags", "guest_phys_addr", "memory_size")
            self.slots.append({name: int(getattr(argument, name)) for name in names})
        return result


class WithLargerPage(Kernel):
    """Shares more pages with userspace than the kernel below; `asked` are the sizes that were mapped."""

    def __init__(self, backend: Backend, size: int) -> None:
        super().__init__(backend)
        self.size = size
        self.asked: list[int] = []

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        result = super().ioctl(fd, request, argument)
        return self.size if request == KVM_GET_VCPU_MMAP_SIZE and result >= 0 else result

    def map_run(self, fd: int, size: int) -> CData:
        self.asked.append(int(size))
        return super().map_run(fd, size)


class Interrupting(Kernel):
    """Answers the first `times` calls of KVM_RUN with an error, as a signal makes KVM answer with EINTR."""

    def __init__(self, backend: Backend, code: int, times: int) -> None:
        super().__init__(backend)
        self.code, self.left = code, times
        self.runs = 0

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        if request == KVM_RUN:
            self.runs += 1
            if self.left:
                self.left -= 1
                return -self.code
        return super().ioctl(fd, request, argument)


class Gathering(Kernel):
    """Makes one exit of successive OUTs to the same port: `count` items, `shift` bytes into the data page.

    Linux makes an exit for each item of `rep outsb` today, though the API lets it put many into one, as `rep insb`
    does (api.rst, "5. The kvm_run structure": io.count, io.data_offset). To know where the string ends, this kernel
    runs the guest on to an exit of another kind, and keeps that for the next KVM_RUN.
    """

    def __init__(self, backend: Backend, shift: int) -> None:
        super().__init__(backend)
        self.shift = shift
        self._pages: dict[int, RunPage] = {}
        self._kept: dict[int, bytes] = {}

    def map_run(self, fd: int, size: int) -> CData:
        run = super().map_run(fd, size)
        self._pages[int(fd)] = RunPage(run, size)
        return run

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        page = self._pages.get(int(fd))
        if request != KVM_RUN or page is None:
            return super().ioctl(fd, request, argument)
        if kept := self._kept.pop(int(fd), b""):
            page.page[:] = kept
            return 0
        result = self._run(fd)
        first = decode(page)
        if result < 0 or not isinstance(first, PortOut):
            return result
        data = first.data
        while len(data) < PIO_DATA - self.shift - 4 and self._run(fd) >= 0:
            after = decode(page)
            if not isinstance(after, PortOut) or (after.port, after.size) != (first.port, first.size):
                self._kept[int(fd)] = bytes(page.page)
                break
            data += after.data
        self._report(page, first, data)
        return 0

    def _run(self, fd: int) -> int:
        while (result := super().ioctl(fd, KVM_RUN)) == -errno.EINTR:
            pass
        return result

    def _report(self, page: RunPage, first: PortOut, data: bytes) -> None:
        page.exit_reason = KVM_EXIT_IO
        page.io.direction, page.io.size, page.io.port = KVM_EXIT_IO_OUT, first.size, first.port
        page.io.count, page.io.data_offset = len(data) // first.size, PIO_DATA + self.shift
        page.page[PIO_DATA + self.shift : PIO_DATA + self.shift + len(data)] = data
