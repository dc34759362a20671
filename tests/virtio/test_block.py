"""The block device: virtio 1.2, 5.2. What a request may ask, and what it is told when it may not."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import driver as d
import pytest
from driver import Driver
from guest import Guest

from minivmm.virtio.block import VirtioBlock
from minivmm.virtio.blockfile import BlockFile
from minivmm.virtio.mmio import VirtioMmio

SECTORS = 64
IN, OUT, FLUSH, GET_ID, GET_LIFETIME, DISCARD, WRITE_ZEROES, SECURE_ERASE = 0, 1, 4, 8, 10, 11, 13, 14
OK, IOERR, UNSUPP = b"\0", b"\1", b"\2"
F_SEG_MAX, F_RO, F_BLK_SIZE, F_FLUSH, F_DISCARD, F_WRITE_ZEROES = (1 << bit for bit in (2, 5, 6, 9, 13, 14))
CONTENT = b"".join(bytes([n + 1]) * 512 for n in range(SECTORS))


def header(kind: int, sector: int = 0) -> bytes:
    return struct.pack("<IIQ", kind, 0, sector)


def a_range(sector: int, count: int, flags: int = 0) -> bytes:
    return struct.pack("<QII", sector, count, flags)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def insert(guest: Guest, path: Path) -> Iterator[Callable[..., Driver]]:
    images = []

    def insert(features: int | None = None, *, read_only: bool = False, serial: str = "minivmm") -> Driver:
        images.append(BlockFile(path, read_only=read_only))
        block = VirtioBlock(images[-1], serial=serial)
        driver = Driver(VirtioMmio(block, guest, d.BASE, lambda level: None), guest)
        driver.start(features)
        return driver

    yield insert
    for image in images:
        image.close()


@pytest.fixture
def disk(insert: Callable[..., Driver]) -> Driver:
    return insert()


# ---- what it is for ----


@pytest.mark.parametrize("indirect", [False, True])
def test_reading(disk: Driver, indirect: bool) -> None:
    expected = CONTENT[5 * 512 : 7 * 512]
    assert disk.request(header(IN, 5), 1024, 1, indirect=indirect) == (1025, expected + OK)


def test_writing(disk: Driver, path: Path) -> None:
    assert disk.request(header(OUT, 3), b"A" * 512, b"B" * 1024, 1) == (1, OK)
    assert path.read_bytes() == CONTENT[: 3 * 512] + b"A" * 512 + b"B" * 1024 + CONTENT[6 * 512 :]


def test_the_framing_does_not_matter(disk: Driver, path: Path) -> None:
    # 2.7.4.1: header in pieces, header with data, status behind the data in one buffer.
    both = header(OUT, 0) + b"C" * 512
    assert disk.request(both[:3], both[3:15], both[15:100], both[100:], 1) == (1, OK)
    assert path.read_bytes()[:512] == b"C" * 512
    assert disk.request(header(IN, 1), 100, 413) == (513, CONTENT[512:1024] + OK)


def test_the_last_sector_is_there_and_the_next_is_not(disk: Driver, path: Path) -> None:
    assert disk.request(header(IN, SECTORS - 1), 512, 1) == (513, CONTENT[-512:] + OK)
    assert disk.request(header(OUT, SECTORS - 1), b"Z" * 512, 1) == (1, OK)
    changed = path.read_bytes()
    for sector in (SECTORS - 1, SECTORS, 1 << 54, (1 << 55) - 1, (1 << 64) - 1):
        # Two sectors from here on, and not one byte of them is touched. `len` counts from the front: nothing.
        assert disk.request(header(IN, sector), 1024, 1) == (0, bytes(1024) + IOERR)
        assert disk.request(header(OUT, sector), b"!" * 1024, 1) == (1, IOERR)
    assert path.read_bytes() == changed
    assert path.stat().st_size == SECTORS * 512
    assert not disk.broken


@pytest.mark.parametrize("size", [1, 511, 513, 1000])
def test_parts_of_sectors_are_an_error(disk: Driver, path: Path, size: int) -> None:
    assert disk.request(header(IN), size, 1) == (0, bytes(size) + IOERR)
    assert disk.request(header(OUT), b"!" * size, 1) == (1, IOERR)
    assert path.read_bytes() == CONTENT


def test_data_in_the_wrong_direction_is_an_error(disk: Driver, path: Path) -> None:
    assert disk.request(header(IN), b"!" * 512, 1) == (1, IOERR)
    assert disk.request(header(OUT), 512, 1) == (0, bytes(512) + IOERR)
    assert disk.request(header(FLUSH), 512, 1) == (0, bytes(512) + IOERR)
    assert path.read_bytes() == CONTENT


def test_flush(disk: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fdatasync", flushed.append)
    disk.request(header(OUT), b"A" * 512, 1)
    assert flushed == []  # with FLUSH negotiated, a write may wait for it
    assert disk.request(header(FLUSH), 1) == (1, OK)
    assert len(flushed) == 1


def test_without_flush_every_write_is_stable_when_it_is_done(
    insert: Callable[..., Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, flushed = insert(F_WRITE_ZEROES), list[int]()
    monkeypatch.setattr(os, "fdatasync", flushed.append)
    assert disk.request(header(OUT), b"A" * 512, 1) == (1, OK)
    assert len(flushed) == 1
    assert disk.request(header(WRITE_ZEROES), a_range(0, 1), 1) == (1, OK)
    assert len(flushed) == 2


def test_get_id(insert: Callable[..., Driver]) -> None:
    assert insert().request(header(GET_ID), 20, 1) == (21, b"minivmm".ljust(20, b"\0") + OK)
    full = insert(serial="twenty characters it")
    assert full.request(header(GET_ID), 20, 1) == (21, b"twenty characters it" + OK)
    assert full.request(header(GET_ID), 19, 1) == (0, bytes(19) + IOERR)
    assert full.request(header(GET_ID), 32, 1) == (20, b"twenty characters it" + bytes(12) + OK)


@pytest.mark.parametrize("serial", ["twenty-one characters", "schön"])
def test_a_serial_that_does_not_fit(path: Path, serial: str) -> None:
    with BlockFile(path) as image, pytest.raises(ValueError, match="20 ASCII characters"):
        VirtioBlock(image, serial=serial)


@pytest.mark.parametrize("kind", [2, 3, 5, 9, GET_LIFETIME, SECURE_ERASE, 16, 0x8000_0000, 0xFFFF_FFFF])
def test_what_it_does_not_know_is_unsupported(disk: Driver, kind: int) -> None:
    assert disk.request(header(kind), 1) == (1, UNSUPP)
    assert disk.request(header(kind), b"x" * 16, 1) == (1, UNSUPP)


# ---- discard and write zeroes ----


def test_discard(disk: Driver, path: Path) -> None:
    assert disk.request(header(DISCARD), a_range(8, 8) + a_range(32, 8), 1) == (1, OK)
    left = path.read_bytes()
    assert left[: 8 * 512] == CONTENT[: 8 * 512]
    assert left[16 * 512 : 32 * 512] == CONTENT[16 * 512 : 32 * 512]
    assert left[40 * 512 :] == CONTENT[40 * 512 :]


@pytest.mark.parametrize("flags", [0, 1])
@pytest.mark.parametrize("by_hand", [False, True])
def test_write_zeroes(disk: Driver, path: Path, flags: int, by_hand: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_hand:
        monkeypatch.setattr(BlockFile, "_fallocate", lambda *_: False)
    assert disk.request(header(WRITE_ZEROES), a_range(2, 3, flags) + a_range(60, 4, flags), 1) == (1, OK)
    zeroes = {2, 3, 4, 60, 61, 62, 63}
    expected = b"".join(bytes(512) if n in zeroes else bytes([n + 1]) * 512 for n in range(SECTORS))
    assert path.read_bytes() == expected


def test_unknown_flags_are_unsupported_and_nothing_is_done(disk: Driver, path: Path) -> None:
    assert disk.request(header(DISCARD), a_range(0, 1, 1), 1) == (1, UNSUPP)  # 5.2.6.2: unmap is for write zeroes
    assert disk.request(header(DISCARD), a_range(0, 1, 2), 1) == (1, UNSUPP)
    assert disk.request(header(WRITE_ZEROES), a_range(0, 1) + a_range(0, 1, 2), 1) == (1, UNSUPP)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("kind", [DISCARD, WRITE_ZEROES])
@pytest.mark.parametrize(
    "ranges",
    [
        b"",
        a_range(0, 1)[:15],
        a_range(0, 1) + b"x",
        a_range(SECTORS, 1),
        a_range(1, SECTORS),
        a_range((1 << 64) - 1, 2),
        a_range(0, 0xFFFF_FFFF),
        a_range(0, 1) * 17,
        a_range(0, 1) + a_range(SECTORS, 1),
    ],
)
def test_ranges_that_cannot_be_are_an_error_and_nothing_is_done(
    disk: Driver, path: Path, kind: int, ranges: bytes
) -> None:
    parts = [header(kind), ranges] if ranges else [header(kind)]
    assert disk.request(*parts, 1) == (1, IOERR)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(("kind", "longest"), [(DISCARD, 1 << 22), (WRITE_ZEROES, 1 << 16)])
def test_a_range_longer_than_the_configuration_says_is_an_error(
    insert: Callable[..., Driver], path: Path, kind: int, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.truncate(path, (longest + 1) * 512)  # sparse: nothing is on the disk but the first sectors
    disk, done = insert(), list[int]()
    monkeypatch.setattr(BlockFile, "_fallocate", lambda self, mode, offset, size: done.append(size) or True)
    assert disk.request(header(kind), a_range(0, longest + 1), 1) == (1, IOERR)
    assert done == []
    assert disk.request(header(kind), a_range(1, longest), 1) == (1, OK)
    assert done == [longest * 512]


@pytest.mark.parametrize("kind", [DISCARD, WRITE_ZEROES])
def test_what_was_not_negotiated_is_unsupported(insert: Callable[..., Driver], kind: int) -> None:
    assert insert(F_FLUSH).request(header(kind), a_range(0, 1), 1) == (1, UNSUPP)


def test_a_range_of_no_sectors_is_nothing_to_do(disk: Driver, path: Path) -> None:
    assert disk.request(header(DISCARD), a_range(0, 0), 1) == (1, OK)
    assert disk.request(header(WRITE_ZEROES), a_range(0, 0), 1) == (1, OK)
    assert path.read_bytes() == CONTENT


# ---- a read-only disk ----


def test_a_read_only_disk(insert: Callable[..., Driver], path: Path) -> None:
    disk = insert(read_only=True)
    assert disk.offered & F_RO
    assert not disk.offered & (F_DISCARD | F_WRITE_ZEROES)
    assert disk.request(header(IN, 1), 512, 1) == (513, CONTENT[512:1024] + OK)
    assert disk.request(header(OUT), b"!" * 512, 1) == (1, IOERR)
    assert disk.request(header(FLUSH), 1) == (1, OK)
    assert disk.request(header(DISCARD), a_range(0, 1), 1) == (1, UNSUPP)
    assert path.read_bytes() == CONTENT


def test_a_driver_that_ignores_read_only_still_cannot_write(
    insert: Callable[..., Driver], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwritev", lambda *_: pytest.fail("the write went as far as the host's kernel"))
    assert insert(0, read_only=True).request(header(OUT), b"!" * 512, 1) == (1, IOERR)
    assert path.read_bytes() == CONTENT


# ---- no way to answer ----


@pytest.mark.parametrize(
    "parts", [(header(IN),), (header(IN)[:15], 513), (513,), (b"", 513), (header(OUT), b"x" * 512)]
)
def test_no_header_or_no_status_byte_breaks_the_device(disk: Driver, parts: tuple[bytes | int, ...]) -> None:
    disk.queues[0].add(*(part for part in parts if part != b""))
    disk.notify()
    assert disk.broken
    assert disk.queues[0].used_index == 0


# ---- the host's side ----


@pytest.mark.parametrize("call", ["preadv", "pwritev", "fdatasync"])
def test_a_failing_host_disk_is_an_error_to_the_guest(disk: Driver, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    status = {
        "preadv": lambda: disk.request(header(IN), 512, 1)[1][-1:],
        "pwritev": lambda: disk.request(header(OUT), b"A" * 512, 1)[1],
        "fdatasync": lambda: disk.request(header(FLUSH), 1)[1],
    }[call]
    assert status() == IOERR
    monkeypatch.undo()
    assert status() == OK
    assert not disk.broken


def test_an_image_that_became_shorter_is_an_error_to_the_guest(disk: Driver, path: Path) -> None:
    os.truncate(path, 512)
    assert disk.request(header(IN, 0), 512, 1)[1] == CONTENT[:512] + OK
    written, data = disk.request(header(IN, 0), 1024, 1)
    assert (written, data[-1:]) == (0, IOERR)


# ---- configuration ----


def test_the_configuration_space(disk: Driver) -> None:
    fields = {
        "capacity": (0, 8, SECTORS),
        "size_max": (8, 4, 0),
        "seg_max": (12, 4, 254),
        "geometry": (16, 4, 0),
        "blk_size": (20, 4, 512),
        "topology": (24, 8, 0),
        "writeback": (32, 1, 0),
        "unused0": (33, 1, 0),
        "num_queues": (34, 2, 0),
        "max_discard_sectors": (36, 4, 1 << 22),
        "max_discard_seg": (40, 4, 16),
        "discard_sector_alignment": (44, 4, 1),
        "max_write_zeroes_sectors": (48, 4, 1 << 16),
        "max_write_zeroes_seg": (52, 4, 16),
        "write_zeroes_may_unmap": (56, 1, 1),
        "unused1": (57, 3, 0),
    }
    for name, (offset, size, value) in fields.items():
        found = sum(disk.device.read(d.CONFIG + offset + i, 1) << 8 * i for i in range(size))
        assert found == value, name
    assert disk.device.read(d.CONFIG, 4) == SECTORS
    assert disk.device.read(d.CONFIG + 60, 4) == 0  # beyond its end
    assert disk.offered & 0xFFFFFF == F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_DISCARD | F_WRITE_ZEROES


def test_seg_max_fits_the_longest_chain(disk: Driver) -> None:
    parts = [1] * 253 + [512 - 253]
    written, data = disk.request(header(IN, 9), *parts, 1, indirect=True)
    assert (written, data) == (513, CONTENT[9 * 512 : 10 * 512] + OK)
