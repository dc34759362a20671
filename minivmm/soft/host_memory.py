"""What is mapped in our own process.

KVM answers EFAULT for memory that isn't there. The engine would touch it and take the process, and the notebook, with
it; so we ask first. And the vCPUs of a VM have one page in common, each at an address of its own.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

_MS_ASYNC = 1
_MREMAP_MAYMOVE, _MREMAP_FIXED = 1, 2  # linux/mman.h


def _libc() -> ctypes.CDLL | None:
    if sys.platform == "win32":
        return None
    library = ctypes.CDLL(None, use_errno=True)
    size = ctypes.c_size_t
    library.msync.argtypes = [size, size, ctypes.c_int]
    if sys.platform == "linux":
        library.mremap.argtypes = [size, size, size, ctypes.c_int, size]
    return library


_LIBC = _libc()


def is_mapped(address: int, size: int) -> bool:
    """Whether `size` bytes at `address` are mapped: msync() says ENOMEM where they aren't, and does nothing else."""
    if _LIBC is None:
        return address >= 1 << 16
    start = address & ~(mmap.PAGESIZE - 1)
    return not _LIBC.msync(start, address + size - start, _MS_ASYNC)


def alias(address: int, original: int, size: int) -> None:
    """Shows the shared memory at `original` at `address` as well, instead of what was there.

    Linux's mremap() makes such a second view where it is told that the old size is 0 (its manual page, mremap(2)).
    Elsewhere, and where `size` is not in whole pages, nothing changes.
    """
    if _LIBC is not None and sys.platform == "linux" and not size % mmap.PAGESIZE:
        _LIBC.mremap(original, 0, size, _MREMAP_MAYMOVE | _MREMAP_FIXED, address)
