"""The block device: a disk, as requests of "read these sectors there", "write those", "flush".

A request that asks for the impossible gets VIRTIO_BLK_S_IOERR or _UNSUPP in its status byte and hurts nobody; only one
without a header or without a status byte breaks the device, for there is no way to answer it.

Source: virtio 1.2, 5.2 "Block Device"; 5.2.6.2 "Device Requirements: Device Operation".
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

from minivmm.virtio.blockfile import SECTOR, BlockFile
from minivmm.virtio.buffers import Views, gather, scatter, size_of, split, split_last
from minivmm.virtio.chain import Chain
from minivmm.virtio.device import VirtioDevice
from minivmm.virtio.errors import DriverError

F_SEG_MAX, F_RO, F_BLK_SIZE, F_FLUSH = 1 << 2, 1 << 5, 1 << 6, 1 << 9
F_DISCARD, F_WRITE_ZEROES = 1 << 13, 1 << 14
OK, IOERR, UNSUPP = 0, 1, 2

HEADER = Struct("<IIQ")  # type, reserved, sector
RANGE = Struct("<QII")  # sector, num_sectors, flags: of discard and write zeroes
UNMAP = 1
ID_BYTES = 20
# 5.2.4: capacity, size_max, seg_max, geometry (3 fields), blk_size, topology (4), writeback, unused, num_queues, then
# max sectors, max segments and alignment of discards, max sectors and segments of write zeroes, may_unmap, unused.
CONFIG = Struct("<Q II HBB I BBHI BBH III II B3x")

QUEUE_SIZE = 256
SEG_MAX = QUEUE_SIZE - 2  # header and status take a descriptor each
MOST_RANGES = 16  # in one discard or write zeroes
MOST_DISCARDED = 1 << 22  # sectors a range: 2 GiB
MOST_ZEROED = 1 << 16  # 32 MiB: it may have to be written by hand


class Type(IntEnum):
    """What a request asks for: VIRTIO_BLK_T_*."""

    IN = 0
    OUT = 1
    FLUSH = 4
    GET_ID = 8
    DISCARD = 11
    WRITE_ZEROES = 13


KNOWN = frozenset(Type)
FILLS = (Type.IN, Type.GET_ID)  # these have data to be written by the device, the others to be read, or none


class RequestError(Exception):
    """A request that can't be done; `status` is what the guest is told."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(status)


class VirtioBlock(VirtioDevice):
    """A disk on `image`. `serial` is what the guest sees as the disk's name, up to 20 ASCII characters."""

    name = "block"
    device_id = 2
    queue_sizes = (QUEUE_SIZE,)

    def __init__(self, image: BlockFile, *, serial: str = "minivmm") -> None:
        super().__init__()
        if not serial.isascii() or len(serial) > ID_BYTES:
            raise ValueError(f"a disk's serial has at most {ID_BYTES} ASCII characters, and {serial!r} doesn't fit")
        self.image = image
        self._serial = serial.encode().ljust(ID_BYTES, b"\0")
        self.features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH
        self.features |= F_RO if image.read_only else F_DISCARD | F_WRITE_ZEROES

    def config(self) -> bytes:
        discard = (0, 0, 0) if self.image.read_only else (MOST_DISCARDED, MOST_RANGES, 1)
        zeroes = (0, 0, 0) if self.image.read_only else (MOST_ZEROED, MOST_RANGES, 1)
        geometry, topology, cache_and_queues = (0, 0, 0), (0, 0, 0, 0), (0, 0, 0)
        sizes = (self.image.sectors, 0, SEG_MAX)
        return CONFIG.pack(*sizes, *geometry, SECTOR, *topology, *cache_and_queues, *discard, *zeroes)

    def serve(self, queue: int, chain: Chain) -> int:
        header, payload = split(chain.readable, HEADER.size)
        if size_of(header) < HEADER.size or not chain.writable:
            raise DriverError("a request has no room for its header of 16 bytes or for its status byte")
        kind, _, sector = HEADER.unpack(gather(header))
        answer, status = split_last(chain.writable)
        try:
            written = self._do(kind, sector, payload, answer)
            status[0] = OK
        except RequestError as error:
            written, status[0] = 0, error.status
        except OSError:  # the host's disk is full or failing, and so is the guest's
            written, status[0] = 0, IOERR
        # 2.7.8.2: `len` counts from the first byte on, so the status counts only where all before it was written.
        return written + 1 if written == size_of(answer) else written

    def _do(self, kind: int, sector: int, payload: Views, answer: Views) -> int:
        """`payload` is what came behind the header, `answer` what is to be filled: returns how many bytes were."""
        if kind in KNOWN and (payload if kind in FILLS else answer):
            raise RequestError(IOERR)  # data in the wrong direction
        match kind:
            case Type.IN:
                size = self._checked(sector, size_of(answer))
                self.image.read(sector * SECTOR, answer)
                return size
            case Type.OUT:
                if self.image.read_only:
                    raise RequestError(IOERR)
                self._checked(sector, size_of(payload))
                self.image.write(sector * SECTOR, payload)
                self._settle()
            case Type.FLUSH:
                self.image.flush()
            case Type.GET_ID:
                if size_of(answer) < ID_BYTES:
                    raise RequestError(IOERR)
                return scatter(answer, self._serial)
            case Type.DISCARD if self.has(F_DISCARD):
                for offset, size, _ in self._ranges(payload, MOST_DISCARDED, 0):
                    self.image.discard(offset, size)
            case Type.WRITE_ZEROES if self.has(F_WRITE_ZEROES):
                for offset, size, flags in self._ranges(payload, MOST_ZEROED, UNMAP):
                    self.image.write_zeroes(offset, size, may_unmap=bool(flags & UNMAP))
                self._settle()
            case _:
                raise RequestError(UNSUPP)
        return 0

    def _checked(self, sector: int, size: int) -> int:
        """`size`, in bytes, where it is whole sectors of this disk, from `sector` on."""
        if size % SECTOR or sector + size // SECTOR > self.image.sectors:
            raise RequestError(IOERR)
        return size

    def _ranges(self, payload: Views, longest: int, flags_known: int) -> list[tuple[int, int, int]]:
        """The ranges of a discard or write zeroes as offset, size (bytes) and flags; all are checked before one is
        touched. They are few: their copy may be made before they are checked."""
        size = size_of(payload)
        if not size or size % RANGE.size or size > MOST_RANGES * RANGE.size:
            raise RequestError(IOERR)
        found = []
        for sector, count, flags in RANGE.iter_unpack(gather(payload)):
            if flags & ~flags_known:
                raise RequestError(UNSUPP)  # "if any unknown flag is set", and for discard `unmap` is one
            if count > longest:
                raise RequestError(IOERR)
            found.append((sector * SECTOR, self._checked(sector, count * SECTOR), flags))
        return found

    def _settle(self) -> None:
        # 5.2.6.2: to a driver that didn't take VIRTIO_BLK_F_FLUSH we promise that a finished write is on the disk.
        if not self.has(F_FLUSH):
            self.image.flush()
