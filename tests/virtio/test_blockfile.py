"""Raw disk images: what the host's file does behind the block device."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minivmm.virtio import blockfile
from minivmm.virtio.blockfile import BlockFile
from minivmm.virtio.errors import DiskImageError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"x" * (1 << 20))
    return path


@pytest.mark.parametrize(("size", "says"), [(0, "0 bytes"), (511, "511 bytes"), (513, "truncate -s %512")])
def test_an_image_that_is_not_whole_sectors_is_refused(path: Path, size: int, says: str) -> None:
    path.write_bytes(bytes(size))
    with pytest.raises(DiskImageError, match=says):
        BlockFile(path)


def test_an_image_that_is_not_there_or_not_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DiskImageError, match="No such file"):
        BlockFile(tmp_path / "missing.img")
    with pytest.raises(DiskImageError, match="neither a file nor a block device"):
        BlockFile(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DiskImageError, match="neither a file nor a block device"):
        BlockFile(tmp_path / "pipe", read_only=True)


def test_a_read_only_image_is_opened_so(path: Path) -> None:
    with BlockFile(path, read_only=True) as image, pytest.raises(OSError, match="Bad file descriptor"):
        image.write(0, [memoryview(bytes(512))])


def test_short_transfers_are_carried_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv
    sizes: list[int] = []

    def little_by_little(fd: int, views: list[memoryview], offset: int) -> int:
        done = real(fd, [views[0][:7]], offset)
        sizes.append(done)
        return done

    path.write_bytes(bytes(range(256)) * 4)
    buffers = [bytearray(10), bytearray(500), bytearray(2)]
    monkeypatch.setattr(os, "preadv", little_by_little)
    with BlockFile(path) as image:
        image.read(256, [memoryview(buffer) for buffer in buffers])
    assert b"".join(buffers) == bytes(range(256)) * 2
    assert len(sizes) > 70


def test_more_buffers_than_one_call_takes(path: Path) -> None:
    buffers = [memoryview(bytearray(1)) for _ in range(2500)]
    with BlockFile(path) as image:
        image.read(0, buffers)
        assert b"".join(buffers) == b"x" * 2500
        image.write(100, [memoryview(b"y")] * 2500)
    assert path.read_bytes()[:2700] == b"x" * 100 + b"y" * 2500 + b"x" * 100


def test_discard_gives_the_space_back(path: Path) -> None:
    with BlockFile(path) as image:
        image.flush()
        before = path.stat().st_blocks
        image.discard(1 << 18, 1 << 19)
    assert path.stat().st_size == 1 << 20
    if path.stat().st_blocks == before:
        pytest.skip("this file system can't punch holes")
    assert path.read_bytes()[1 << 18 : 3 << 18] == bytes(1 << 19)


@pytest.mark.parametrize("may_unmap", [False, True])
def test_zeroes_where_the_file_system_cannot_help(path: Path, may_unmap: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BlockFile, "_fallocate", lambda *_: False)
    with BlockFile(path) as image:
        image.write_zeroes(100, 200_000, may_unmap=may_unmap)
    assert path.read_bytes() == b"x" * 100 + bytes(200_000) + b"x" * ((1 << 20) - 200_100)


def test_zeroes_without_unmap_keep_their_space(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    monkeypatch.setattr(BlockFile, "_fallocate", lambda self, mode, *_: modes.append(mode) or True)
    with BlockFile(path) as image:
        image.write_zeroes(0, 512, may_unmap=False)
        image.write_zeroes(0, 512, may_unmap=True)
    assert modes == [blockfile.ZERO_RANGE | blockfile.KEEP_SIZE, blockfile.PUNCH_HOLE | blockfile.KEEP_SIZE]


def test_a_host_error_in_fallocate_is_told(path: Path) -> None:
    with BlockFile(path, read_only=True) as image, pytest.raises(OSError, match="Bad file descriptor"):
        image.discard(0, 512)


def test_a_closed_image_fails_as_a_closed_file_does(path: Path) -> None:
    image = BlockFile(path)
    image.close()
    image.close()
    calls = (image.flush, lambda: image.discard(0, 512), lambda: image.read(0, [memoryview(bytearray(512))]))
    for call in calls:
        with pytest.raises(OSError, match="Bad file descriptor"):
            call()
