"""The kvm_run page: how KVM tells userspace why the guest stopped, and gets the answer back."""

from __future__ import annotations

from typing import Any

from minivmm.kvm.binding import ffi
from minivmm.kvm.seam import CData


class RunPage:
    """The shared page of one vCPU: every field of `struct kvm_run` by its name, and all its bytes as `page`.

    `run.exit_reason`, `run.io.port`, `run.immediate_exit = 1` read and write the mapping itself. `page` is a writable
    memoryview of all of it, because the data of a port exit lies behind the structure, at `run.io.data_offset`.
    A slice of `bytes` is a copy, made in one step.

    Source: api.rst, "5. The kvm_run structure".
    """

    __slots__ = ("bytes", "c", "page")

    bytes: Any
    c: CData
    page: memoryview

    def __init__(self, c: CData, size: int) -> None:
        object.__setattr__(self, "c", c)
        object.__setattr__(self, "bytes", ffi.buffer(c, size))
        object.__setattr__(self, "page", memoryview(self.bytes).cast("B"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.c, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.c, name, value)

    def __dir__(self) -> list[str]:
        return ["c", "page", *dir(self.c)]
