"""Backends that pass calls on and listen: what the student's code told the kernel, before it got there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minivmm.kvm import calls, ffi


class PassingOn:
    """Passes every call on to the backend in use when it was made. Hand it to `calls.use`; inside of `recording()`, for
    that puts the former one back."""

    def __init__(self) -> None:
        self._backend = calls.current()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        return self._backend.ioctl(fd, request, argument)


class Overheard(PassingOn):
    """Keeps what the first `most` calls of `request` were told, in `told`: these fields of their structure `kind`."""

    def __init__(self, request: int, kind: str, fields: Sequence[str], most: int) -> None:
        super().__init__()
        self.told: list[dict[str, int]] = []
        self._request, self._kind, self._fields, self._most = request, kind, fields, most

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        if request == self._request and isinstance(argument, ffi.CData) and len(self.told) < self._most:
            structure = ffi.cast(f"struct {self._kind} *", argument)
            self.told.append({name: int(getattr(structure, name)) for name in self._fields})
        return super().ioctl(fd, request, argument)
