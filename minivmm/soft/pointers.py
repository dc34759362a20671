"""The argument of an ioctl: a cffi pointer, or a number that is said to be an address."""

from __future__ import annotations

from typing import Any

from minivmm.kvm.binding import ffi
from minivmm.soft.host_memory import is_mapped


def struct_at(kind: str, argument: Any) -> Any | None:
    """`argument` as a `struct kind *`; None where it points nowhere (EFAULT)."""
    if isinstance(argument, int):
        if argument < 4096 or not is_mapped(argument, 1):
            return None
    elif argument is None or not ffi.cast("uintptr_t", argument):
        return None
    return ffi.cast(f"struct {kind} *", argument)
