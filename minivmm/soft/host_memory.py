"""Whether an address of our own process is mapped.

KVM answers EFAULT for memory that isn't there. The engine would touch it and take the process, and the notebook, with
it; so we ask first.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

_MS_ASYNC = 1


def _libc() -> ctypes.CDLL | None:
    if sys.platform == "win32":
        return None
    library = ctypes.CDLL(None, use_errno=True)
    library.msync.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
    return library


_LIBC = _libc()


def is_mapped(address: int, size: int) -> bool:
    """Whether `size` bytes at `address` are mapped: msync() says ENOMEM where they aren't, and does nothing else."""
    if _LIBC is None:
        return address >= 1 << 16
    start = address & ~(mmap.PAGESIZE - 1)
    return not _LIBC.msync(start, address + size - start, _MS_ASYNC)
