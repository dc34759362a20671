"""Multiboot: the header, believed or not; the state that the specification asks for; and a guest that looks."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autograder.stages import models
from minivmm import guests
from minivmm.boot import layout
from minivmm.boot.errors import BadImageError
from minivmm.boot.image import load_image
from minivmm.boot.multiboot import find_header, load_multiboot
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine
from minivmm.x86 import modes

MIB = 1 << 20
LOAD = 0x10_0000


def header(flags: int = 3, *addresses: int) -> bytes:
    return struct.pack("<III", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFF_FFFF) + struct.pack(
        f"<{len(addresses)}I", *addresses
    )


def kernel(
    before: int = 0, *, load: int = LOAD, load_end: int = 0, bss_end: int = 0, entry: int | None = None
) -> bytes:
    start = load + before
    addresses = (start, load, load_end, bss_end, start + 32 if entry is None else entry)
    return bytes(before) + header(0x10003, *addresses) + b"\xf4code"


def test_the_machine_state(place) -> None:
    load_multiboot(place.vcpu, place.memory, kernel(64))
    regs, sregs = place.vcpu.regs, place.vcpu.sregs
    assert (regs.rax, regs.rip) == (0x2BADB002, LOAD + 64 + 32)
    assert modes.mode_of(sregs) == modes.PROTECTED_32
    assert not regs.rflags & 0x20200  # VM, IF
    for name in ("cs", "ds", "es", "fs", "gs", "ss"):
        segment = getattr(sregs, name)
        assert (segment.base, segment.limit, segment.db) == (0, 0xFFFF_FFFF, 1)
    assert place.memory.read(regs.rip, 5) == b"\xf4code"


def test_the_information(place) -> None:
    load_multiboot(place.vcpu, place.memory, kernel(), modules=[b"one", b"", b"three" * 1000], command_line="a b")
    info = place.vcpu.regs.rbx
    flags, lower, upper, _, text, count, modules = place.unpack("<7I", info)
    assert flags == 0b10_0100_1101
    assert (lower, upper) == (639, 3 * 1024)
    assert place.text(text) == b"a b"
    assert count == 3
    contents = []
    for number in range(count):
        start, end, name, reserved = place.unpack("<4I", modules + 16 * number)
        assert start % 4096 == 0
        assert start >= LOAD + len(kernel())
        assert (place.text(name), reserved) == (b"", 0)
        contents.append(place.memory.read(start, end - start))
    assert contents == [b"one", b"", b"three" * 1000]
    length, at = place.unpack("<II", info + 44)
    entries, end = [], at + length
    while at < end:
        size, base, length, kind = place.unpack("<IQQI", at)
        entries.append((base, length, kind))
        at += size + 4
    assert at == end
    assert (MIB, 3 * MIB, 1) in entries
    assert (0, 0x9FC00, 1) in entries
    (loader,) = place.unpack("<I", info + 64)
    assert place.text(loader) == b"minivmm"


def test_addresses_choose_a_part_of_the_file_and_clear_the_bss(place) -> None:
    place.memory.write(LOAD, b"\xa5" * 0x3000)
    # The header stands 128 bytes into the file and 64 behind `load`, so the first 64 bytes of the file are not loaded.
    load, end, bss_end = LOAD + 64, LOAD + 64 + 100, LOAD + 0x2000
    image = bytes(64) + b"b" * 64 + header(0x10003, LOAD + 128, load, end, bss_end, load) + b"c" * 100
    load_multiboot(place.vcpu, place.memory, image)
    assert place.memory.read(LOAD, 0x3000) == (b"\xa5" * 64 + image[64:164] + bytes(0x2000 - 164) + b"\xa5" * 0x1000)


@pytest.mark.parametrize("bits", [32, 64])
def test_an_elf_file_is_entered_at_its_physical_address(place, elf_file, bits: int) -> None:
    body = header(3) + b"\x90\xf4"
    image = elf_file([(0x8010_0000, LOAD, body, 0x1000)], entry=0x8010_000C, bits=bits)
    load_multiboot(place.vcpu, place.memory, image)
    assert place.vcpu.regs.rip == LOAD + 12
    assert place.memory.read(LOAD + 12, 2) == b"\x90\xf4"


def test_the_header_is_searched_in_8_kib_on_4_byte_boundaries() -> None:
    assert find_header(bytes(8180) + header(3))
    assert find_header(bytes(8184) + header(3)) is None
    assert find_header(bytes(6) + header(3)) is None
    assert find_header(bytes(8) + header(3)[:8] + b"\1\2\3\4") is None
    found = find_header(header(3)[:8] + bytes(8) + header(2))
    assert found
    assert (found.offset, found.flags) == (16, 2)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"nothing", "no multiboot header"),
        (header(7) + bytes(100), "a video mode"),
        (header(0x13) + bytes(100), r"flags 0x10"),
        (header(3) + bytes(100), "no ELF file"),
        (header(0x10003, LOAD), "truncated: it announces addresses"),
        (kernel(load=0x10_0000, entry=0x20_0000), "entry 0x200000 lies outside"),
        (kernel(load=0x1000), "below 1 MiB"),
        (kernel(load_end=LOAD + 0x1000), "truncated: 4,059 bytes"),
        (kernel(load_end=LOAD - 5), "contradict"),
        (kernel(bss_end=LOAD + 2), "bss ends before"),
        (header(0x10003, LOAD, LOAD + 0x1000, 0, 0, LOAD) + bytes(9), "truncated|contradict|outside"),
        (header(0x10003, LOAD + 0x1000, LOAD, 0, 0, LOAD) + bytes(9), "contradict"),
        (kernel(bss_end=0xF000_0000), "no kernel may be that high"),
        (kernel(bss_end=0x80_0000), "give it more with --memory"),
    ],
)
def test_a_kernel_that_cannot_be_started_gets_a_sentence(place, image: bytes, words: str) -> None:
    with pytest.raises(BadImageError, match=words) as caught:
        load_multiboot(place.vcpu, place.memory, image)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"modules": [bytes(3 * MIB)]}, "Module 0 .* needs memory up to 0x401000"),
        ({"modules": [b"x"] * 3000}, "needs memory up to|too long"),
        ({"command_line": "x" * (1 << 16)}, "too long: 65,536 bytes"),
    ],
)
def test_too_much_to_hand_over(place, options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadImageError, match=words):
        load_multiboot(place.vcpu, place.memory, kernel(), **options)


def test_a_list_of_modules_that_is_too_long(make_place) -> None:
    place = make_place(32 * MIB)
    with pytest.raises(BadImageError, match="list of modules is too long"):
        load_multiboot(place.vcpu, place.memory, kernel(), modules=[b"x"] * (len(layout.BOOT_INFO) // 16))


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(0, 0xFFFF_FFFF) | st.integers(LOAD - 64, LOAD + 4096), min_size=5, max_size=5),
    st.integers(0, 80),
)
def test_any_addresses_are_loaded_or_refused(place, addresses: list[int], length: int) -> None:
    with suppress(BadImageError):  # and nothing else
        load_multiboot(place.vcpu, place.memory, header(0x10003, *addresses) + bytes(length))
        assert place.memory.read(place.vcpu.regs.rip, 1)


@pytest.mark.parametrize("nonce", [0, 0xFEDC_BA98_0123_4567])
@pytest.mark.parametrize("modules", [(), (b"abc" * 1000, b"", b"last")])
def test_a_guest_sees_it_all(backend: Backend, nonce: int, modules: tuple[bytes, ...]) -> None:
    guest = guests.load("multiboot-hello")
    with Machine(4 * MIB, backend) as machine:
        image = guest.patched(nonce=nonce)
        load_multiboot(machine.vcpu, machine.memory, image, modules=modules, command_line="one two=3")
        assert machine.run(10).reason == "halted"
        told = {"upper": 3 * 1024, "ram": 3 * MIB + 0x9FC00, "modules": modules, "command_line": b"one two=3"}
        assert machine.console == models.expected_console("multiboot-hello", {"nonce": nonce}, **told)


def test_a_guest_is_loaded_as_its_manifest_says(backend: Backend) -> None:
    with Machine(2 * MIB, backend) as machine:
        machine.load_guest(guests.load("multiboot-hello"), nonce=5)
        assert machine.run(10).reason == "halted"
        told = {"upper": 1024, "ram": MIB + 0x9FC00}
        assert machine.console == models.expected_console("multiboot-hello", {"nonce": 5}, **told)


def test_an_initial_ram_disk_is_the_first_module(place) -> None:
    assert load_image(place.vcpu, place.memory, kernel(), initrd=b"module") == "multiboot"
    count, modules = place.unpack("<II", place.vcpu.regs.rbx + 20)
    start, end = place.unpack("<II", modules)
    assert (count, place.memory.read(start, end - start)) == (1, b"module")
