"""What an image is: told by its content, and the same whatever else it looks like."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivmm import guests
from minivmm.boot.errors import BadImageError
from minivmm.boot.image import load_image
from minivmm.boot.recognise import recognise

MULTIBOOT = struct.pack("<III", 0x1BADB002, 3, -(0x1BADB002 + 3) & 0xFFFF_FFFF)


def test_reference_guests() -> None:
    kinds = {name: recognise(guests.load(name).image) for name in guests.names()}
    assert kinds == {name: guests.load(name).format for name in guests.names()}


def test_kernels(bzimage, elf_file) -> None:
    assert recognise(bzimage()) == "linux"
    assert recognise(b"MZ" + bzimage()[2:]) == "linux"  # with an EFI stub
    assert recognise(bytes(400) + MULTIBOOT) == "multiboot"
    assert recognise(elf_file([(0, 0x10_0000, MULTIBOOT, 0x100)])) == "multiboot"
    assert recognise(elf_file([(0, 0x10_0000, b"plain", 0x100)])) == "elf"
    assert recognise(b"\xf4") == "flat"


@pytest.mark.parametrize("magic", [b"\x1f\x8b\x08", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"BZh9", b"\x02\x21\x4c\x18"])
def test_what_is_compressed_is_no_guest(magic: bytes) -> None:
    with pytest.raises(BadImageError, match="compressed: unpack it first"):
        recognise(magic + bytes(100))


@given(st.binary(max_size=1000))
def test_anything_has_a_kind_or_a_reason(image: bytes) -> None:
    with suppress(BadImageError):  # and nothing else
        assert recognise(image) in ("flat", "elf", "multiboot", "pvh", "linux")


@given(st.binary(max_size=300))
def test_a_damaged_elf_file_is_an_elf_file(rest: bytes) -> None:
    assert recognise(b"\x7fELF" + rest) in ("elf", "multiboot")


@pytest.mark.parametrize("options", [{"mode": "long"}, {"load": 0x10_0000}, {"entry": 0x10_0000}])
def test_a_kernel_is_not_told_where_it_goes(place, bzimage, options: dict) -> None:
    with pytest.raises(BadImageError, match="A Linux kernel says itself where it goes"):
        load_image(place.vcpu, place.memory, bzimage(), **options)


@pytest.mark.parametrize("options", [{"initrd": b"x"}, {"command_line": "x"}])
def test_a_flat_guest_is_handed_nothing(place, options: dict) -> None:
    with pytest.raises(BadImageError, match="A flat guest has no use for"):
        load_image(place.vcpu, place.memory, b"\xf4", **options)


def test_the_kind_comes_back(place, bzimage) -> None:
    assert load_image(place.vcpu, place.memory, bzimage(), command_line="x") == "linux"
    assert load_image(place.vcpu, place.memory, b"\xf4") == "flat"
