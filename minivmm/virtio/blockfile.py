"""A raw disk image: a file whose byte n is byte n of the disk. Or a block device of the host.

Data moves between the file and guest memory in one system call, without a copy of ours; meanwhile other threads run.

Source: preadv(2), fdatasync(2), fallocate(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Sequence
from functools import cache
from typing import Self

from minivmm.virtio.buffers import size_of, split
from minivmm.virtio.errors import DiskImageError

SECTOR = 512
AT_ONCE = 1024  # buffers in one call: IOV_MAX
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 0x01, 0x02, 0x10  # <linux/falloc.h>
ZEROES = memoryview(bytes(1 << 16))
NOT_HERE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV, errno.EPERM)


class BlockFile:
    """`sectors` of 512 bytes. Offsets and sizes are in bytes. All calls may raise OSError, as the host's disk may fail.

    Raises DiskImageError where the file can't be opened, or isn't made of whole sectors.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.path = os.fspath(path)
        self.read_only = read_only
        try:
            mode = os.stat(path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):  # a pipe would make `open` wait for somebody
                raise DiskImageError(f"the disk image {self.path} is neither a file nor a block device")
            self._fd = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
        except OSError as error:
            remedy = "; a disk that is only read can be read-only" if error.errno == errno.EACCES else ""
            raise DiskImageError(f"can't open the disk image {self.path}: {error.strerror}{remedy}") from None
        size = os.lseek(self._fd, 0, os.SEEK_END)  # works for block devices too, which stat says are empty
        if size == 0 or size % SECTOR:
            self.close()
            raise DiskImageError(
                f"the disk image {self.path} must hold whole {SECTOR}-byte sectors, at least one, and has {size} "
                f"bytes; `truncate -s %{SECTOR} {self.path}` rounds it up"
            )
        self.sectors = size // SECTOR

    def read(self, offset: int, views: Sequence[memoryview]) -> None:
        """Fills `views` from the file."""
        self._all(os.preadv, offset, views)

    def write(self, offset: int, views: Sequence[memoryview]) -> None:
        """Writes `views` to the file. They are stable after the next `flush`."""
        self._all(os.pwritev, offset, views)

    def _all(self, call: Callable[..., int], offset: int, views: Sequence[memoryview]) -> None:
        left = size_of(views)
        while left:
            done = call(self._fd, views[:AT_ONCE], offset)
            if done == 0:  # the file became shorter under us
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            offset += done
            left -= done
            if left:
                _, views = split(views, done)

    def flush(self) -> None:
        """Returns when all that was written is on the disk."""
        if self._fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        getattr(os, "fdatasync", os.fsync)(self._fd)

    def discard(self, offset: int, size: int) -> None:
        """Tells the host that nobody needs these bytes: they may be a hole from now on. Or not: it is only advice."""
        self._fallocate(PUNCH_HOLE | KEEP_SIZE, offset, size)

    def write_zeroes(self, offset: int, size: int, *, may_unmap: bool) -> None:
        """Makes these bytes read as zero, as a hole where that is allowed, by hand where the file system can't."""
        if may_unmap and self._fallocate(PUNCH_HOLE | KEEP_SIZE, offset, size):
            return
        if self._fallocate(ZERO_RANGE | KEEP_SIZE, offset, size):
            return
        while size:
            piece = ZEROES[: min(size, len(ZEROES))]
            self.write(offset, [piece])
            offset += len(piece)
            size -= len(piece)

    def _fallocate(self, mode: int, offset: int, size: int) -> bool:
        # os.posix_fallocate has no mode, so we ask the C library. False: the host can't do it with this file.
        call = getattr(_c_library(), "fallocate", None)
        if call is None or not size:
            return size == 0
        off_t = ctypes.c_int64
        if call(ctypes.c_int(self._fd), ctypes.c_int(mode), off_t(offset), off_t(size)) == 0:
            return True
        code = ctypes.get_errno()
        if code in NOT_HERE:
            return False
        raise OSError(code, os.strerror(code))

    def close(self) -> None:
        """A second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
