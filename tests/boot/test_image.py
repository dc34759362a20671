"""Images: recognised by content, loaded where they belong, and refused with a sentence when they can't be."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minivmm import guests
from minivmm.boot.image import BadImageError, load_image
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine

ELF = guests.load("elf-segments").image
PHDR = struct.Struct("<IIQQQQQQ")


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine(2 << 20) as made:
        yield made


def load(machine: Machine, image: bytes, **options: object) -> None:
    load_image(machine.vcpu, machine.memory, image, **options)  # type: ignore[arg-type]


def test_flat_goes_to_0x1000_in_real_mode(machine: Machine) -> None:
    load(machine, b"\xf4flat")
    assert machine.memory.read(0x1000, 5) == b"\xf4flat"
    sregs, regs = machine.vcpu.get_sregs(), machine.vcpu.get_regs()
    assert (sregs.cs.base, sregs.cs.selector, regs.rip, sregs.cr0 & 1) == (0, 0, 0x1000, 0)


def test_flat_goes_where_it_is_told(machine: Machine) -> None:
    load(machine, b"\xf4", load=0x120000, mode="long", entry=0x120000)
    assert machine.vcpu.get_regs().rip == 0x120000
    assert machine.vcpu.get_sregs().cs.l == 1


def test_elf_zeroes_its_bss(backend: Backend) -> None:
    with Machine(2 << 20, backend) as machine:
        machine.load(0, b"\xa5" * (2 << 20))
        load(machine, ELF)
        assert machine.run(2).reason == "halted"
        assert b"bss 0000000000000000" in machine.console


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"", "empty"),
        (b"\x7fELF", "damaged"),
        (ELF[:200], "damaged|truncated"),
        (ELF[:-1500], "truncated|damaged"),
        (b"\x1f\x8b" + bytes(50), "compressed"),
        (b"MZ" + bytes(600), "an EFI or DOS program"),
        (b"#!/bin/sh\n", "script"),
        (bytes(0x10000), "below 64 KiB"),
        (ELF[:16] + struct.pack("<H", 3) + ELF[18:], "ET_DYN"),
        (ELF[:18] + struct.pack("<H", 183) + ELF[20:], "EM_AARCH64"),
        (ELF[:56] + struct.pack("<H", 0) + ELF[58:], "no PT_LOAD"),
    ],
)
def test_a_bad_image_gets_a_sentence(image: bytes, words: str, machine: Machine) -> None:
    with pytest.raises(BadImageError, match=words) as caught:
        load(machine, image)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_a_segment_beyond_memory_says_how_much_is_needed(machine: Machine) -> None:
    offset = struct.unpack_from("<Q", ELF, 32)[0]
    header = list(PHDR.unpack_from(ELF, offset))
    header[4] = 0x4000_0000  # p_paddr
    far = ELF[:offset] + PHDR.pack(*header) + ELF[offset + PHDR.size :]
    with pytest.raises(BadImageError, match=r"needs memory up to 0x4000.*--memory"):
        load(machine, far)
    header[6] = 1 << 60  # p_memsz
    with pytest.raises(BadImageError, match="--memory"):
        load(machine, ELF[:offset] + PHDR.pack(*header) + ELF[offset + PHDR.size :])


def test_too_little_memory_for_the_mode(backend: Backend) -> None:
    with Machine(0x10000, backend) as small, pytest.raises(BadImageError, match="protected mode needs a GDT"):
        load(small, b"\xf4", mode="protected")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=12))
def test_a_damaged_elf_never_ends_in_a_traceback(machine: Machine, changes: list[tuple[int, int]]) -> None:
    image = bytearray(ELF)
    for at, value in changes:
        image[at] = value
    with suppress(BadImageError):  # and nothing else
        load(machine, bytes(image))
