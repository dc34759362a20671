"""The setup header: read from real kernels, and refused with a sentence where it can't be right."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minivmm.boot import bzimage as bz
from minivmm.boot.errors import BadImageError


def test_what_the_header_says_is_kept(bzimage) -> None:
    image = bz.parse(bzimage(bytes(range(256)) * 20, pref_address=0x100_0000, init_size=0x300_0000, cmdline_size=99))
    assert (image.load_address, image.room, image.end) == (0x100_0000, 0x300_0000, 0x400_0000)
    assert bytes(image.code[:4]) == b"\0\1\2\3"
    assert (image.command_line_size, image.initrd_end, image.has_64_bit_entry) == (99, 0x8000_0000, True)
    assert image.header[0x202 - bz.HEADER :][:4] == b"HdrS"


def test_no_setup_sectors_means_four(bzimage) -> None:
    assert bytes(bz.parse(bzimage(b"begin" + bytes(0x2000), setup_sects=0)).code[:5]) == b"begin"


def test_a_kernel_that_does_not_move_goes_where_code32_start_says(bzimage) -> None:
    image = bz.parse(bzimage(relocatable_kernel=0, code32_start=0x10_0000, pref_address=0x900_0000, kernel_alignment=0))
    assert image.load_address == 0x10_0000


def test_a_kernel_never_has_less_room_than_its_own_size(bzimage) -> None:
    assert bz.parse(bzimage(bytes(0x9000), init_size=0)).room == 0x9000


@pytest.mark.parametrize(
    ("changes", "has"),
    [({}, True), ({"xloadflags": 0x7E}, False), ({"version": 0x20B}, False), ({"version": 0x20C}, True)],
)
def test_which_entry_it_has(bzimage, changes: dict[str, int], has: bool) -> None:
    assert bz.parse(bzimage(**changes)).has_64_bit_entry is has


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"header": 0}, "no Linux kernel"),
        ({"boot_flag": 0x1234}, "boot flag is 0x1234"),
        ({"version": 0x209}, r"protocol 2\.09; 2\.10"),
        ({"loadflags": 0}, "zImage"),
        ({"header_length": 0x10}, "length of its setup header"),
        ({"header_length": 0xFF, "setup_sects": 0}, ""),
        ({"syssize": 0x1000}, r"truncated: 57,344 bytes are missing"),
        ({"syssize": 0xFFFF_FFFF}, "truncated"),
        ({"payload_offset": 0xFFFF_FFFF}, "payload ends behind"),
        ({"payload_length": 0x2000}, "payload ends behind"),
        ({"kernel_alignment": 0}, "no address for an alignment of 0x0"),
        ({"kernel_alignment": 0x300000}, "no address"),
        ({"pref_address": 0x1001}, "0x1001 is no address"),
    ],
)
def test_a_header_that_cannot_be_right(bzimage, changes: dict[str, int], words: str) -> None:
    if not words:  # a long header is fine where there is room for it
        assert bz.parse(bzimage(**changes))
        return
    with pytest.raises(BadImageError, match=words) as caught:
        bz.parse(bzimage(**changes))
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("length", [0, 0x206, 0x263, 0x264, 0x400, 0x401, 0x600, 0x601])
def test_truncated_anywhere_is_refused(bzimage, length: int) -> None:
    with pytest.raises(BadImageError, match=r"truncated|no Linux kernel"):
        bz.parse(bzimage()[:length])


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0x1F1, 0x26C), st.integers(0, 255)), min_size=1, max_size=12), st.integers(0, 9000)
)
def test_a_damaged_header_gives_a_kernel_or_a_sentence(bzimage, changes: list[tuple[int, int]], cut: int) -> None:
    image = bytearray(bzimage())
    for at, value in changes:
        image[at] = value
    data = bytes(image[: len(image) - cut] if cut < len(image) else image)
    try:
        parsed = bz.parse(data)
    except BadImageError:  # and nothing else
        pass
    else:
        assert len(parsed.code) > bz.ENTRY_64
        assert parsed.room >= len(parsed.code)
        assert len(parsed.header) <= 0x202 + 255 - bz.HEADER


@pytest.mark.parametrize("kind", ["cloud", "standard"])
def test_debians_kernels(debian_kernel, kind: str) -> None:
    kernel = debian_kernel(kind)
    image = bz.parse(kernel)
    assert image.has_64_bit_entry
    assert image.load_address == 0x100_0000
    assert image.room > len(image.code)
    assert image.command_line_size == 2047
    assert image.version >= 0x20F
    with pytest.raises(BadImageError, match=r"truncated: [\d,]+ bytes"):
        bz.parse(kernel[:-10_000])


@pytest.mark.parametrize(("name", "bits_64"), [("memtest86+x64.bin", True), ("memtest86+ia32.bin", False)])
def test_memtest(name: str, bits_64: bool) -> None:
    file = Path("/boot") / name
    if not file.exists():
        pytest.skip(f"{file} is not here: apt install memtest86+")
    image = bz.parse(file.read_bytes())
    assert (image.load_address, image.has_64_bit_entry) == (0x10_0000, bits_64)
    assert struct.unpack_from("<I", image.header, 0x202 - bz.HEADER) == (int.from_bytes(b"HdrS", "little"),)
