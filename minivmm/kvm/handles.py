"""Handles that close themselves, in the right order, also when a notebook cell is run twice."""

from __future__ import annotations

import contextlib
from typing import Any

from minivmm.kvm.errors import KvmError, failure
from minivmm.kvm.seam import Backend


class Handle(int):
    """A file descriptor that is closed when nobody holds it any more.

    It is an int, so it goes wherever a file descriptor goes. It keeps its parent alive (a vCPU its VM, a VM the system
    handle), so that they close from the leaf to the root, however the names in a notebook are rebound.
    """

    _backend: Backend | None
    _parent: Handle | None

    def __new__(cls, fd: int, backend: Backend, parent: Handle | None = None) -> Handle:
        handle = super().__new__(cls, fd)
        handle._backend = backend
        handle._parent = parent
        return handle

    @property
    def closed(self) -> bool:
        return self._backend is None

    def close(self) -> None:
        """Closes the handle; a second call does nothing."""
        backend, self._backend = self._backend, None
        if backend is not None:
            with contextlib.suppress(OSError, KvmError):
                backend.close(int(self))
        self._parent = None

    def __del__(self) -> None:
        # At interpreter exit, modules may be gone already; the kernel closes what we can't.
        with contextlib.suppress(Exception):
            self.close()

    def __reduce__(self) -> Any:
        raise TypeError("a KVM handle belongs to its process and can't be pickled")


def checked(backend: Backend, fd: int, request: int, argument: Any = 0) -> int:
    """One ioctl through the seam: its result (≥ 0). Raises KvmError where the backend gives -errno."""
    result = backend.ioctl(fd, request, argument)
    if result < 0:
        raise failure(request, -result)
    return result


def created(backend: Backend, fd: int, request: int, argument: Any = 0) -> Handle:
    """An ioctl whose result is a new handle, a child of `fd` (KVM_CREATE_VM, KVM_CREATE_VCPU). Raises KvmError."""
    return Handle(checked(backend, fd, request, argument), backend, fd if isinstance(fd, Handle) else None)
