"""What a Linux kernel finds: itself, its zero page, its RAM disk, and the registers of the boot protocol."""

from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minivmm.boot import layout
from minivmm.boot.errors import BadImageError
from minivmm.boot.linux import ZERO_PAGE, load_linux
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine
from minivmm.x86 import modes
from minivmm.x86.gdt import read_descriptor
from minivmm.x86.paging.walker import translate

MIB = 1 << 20


def test_the_64_bit_entry(place, bzimage) -> None:
    load_linux(place.vcpu, place.memory, bzimage(b"\xf4" * 0x2000))
    regs, sregs = place.vcpu.regs, place.vcpu.sregs
    assert modes.mode_of(sregs) == modes.LONG
    assert (regs.rip, regs.rsi, regs.rflags) == (0x20_0000 + 0x200, ZERO_PAGE, 2)
    assert place.memory.read(regs.rip, 1) == b"\xf4"
    assert (sregs.cs.selector, sregs.ds.selector, sregs.es.selector, sregs.ss.selector) == (0x10, 0x18, 0x18, 0x18)
    assert (sregs.cs.base, sregs.cs.limit, sregs.cs.l) == (0, 0xFFFF_FFFF, 1)


def test_the_32_bit_entry_where_there_is_no_other(place, bzimage) -> None:
    load_linux(place.vcpu, place.memory, bzimage(xloadflags=0))
    regs, sregs = place.vcpu.regs, place.vcpu.sregs
    assert modes.mode_of(sregs) == modes.PROTECTED_32
    assert (regs.rip, regs.rsi) == (0x20_0000, ZERO_PAGE)
    assert (regs.rbp, regs.rdi, regs.rbx) == (0, 0, 0)
    assert (sregs.cs.selector, sregs.ss.selector) == (0x10, 0x18)


@pytest.mark.parametrize("flags", [0x7F, 0])
def test_the_selectors_are_in_the_gdt(place, bzimage, flags: int) -> None:
    """The kernel may load them again before it has a table of its own."""
    load_linux(place.vcpu, place.memory, bzimage(xloadflags=flags))
    gdt = place.vcpu.sregs.gdt
    code = read_descriptor(place.memory, gdt.base, gdt.limit, 0x10)
    data = read_descriptor(place.memory, gdt.base, gdt.limit, 0x18)
    assert (code.is_code, code.l, code.db) == (True, int(bool(flags)), int(not flags))
    assert (data.limit, data.base, data.is_code) == (0xFFFF_FFFF, 0, False)


def test_everything_is_mapped_to_itself(place, bzimage) -> None:
    load_linux(place.vcpu, place.memory, bzimage())
    for address in (ZERO_PAGE, layout.COMMAND_LINE.start, 0x20_0200, 0x30_0000, 0xFFFF_FFFF):
        assert translate(place.memory, place.vcpu.sregs, address).physical == address


def test_the_zero_page(make_place, bzimage) -> None:
    place = make_place(32 * MIB)
    kernel = bzimage(length=0x268)
    load_linux(place.vcpu, place.memory, kernel, command_line="quiet console=ttyS0", initrd=b"disk" * 3000)
    page = place.memory.read(ZERO_PAGE, 4096)
    assert page[0x1F1:0x1FA] == kernel[0x1F1:0x1FA]
    assert page[0x202:0x206] == b"HdrS"
    assert page[0x268:0x2D0] == bytes(0x68)  # behind the header: not what follows it in the file
    assert struct.unpack_from("<H", page, 0x1FA) == (0xFFFF,)
    assert page[0x210] == 0xFF
    assert page[0x211] & 1
    assert place.text(struct.unpack_from("<I", page, 0x228)[0]) == b"quiet console=ttyS0"
    start, size = struct.unpack_from("<II", page, 0x218)
    assert (start % 4096, size) == (0, 12000)
    assert start + size <= 32 * MIB < start + size + 4096 + 1
    assert place.memory.read(start, size) == b"disk" * 3000
    assert struct.unpack_from("<II", page, 0x0C0) == (0, 0)
    rsdp = struct.unpack_from("<Q", page, 0x070)[0]
    assert place.memory.read(rsdp, 8) == b"RSD PTR "
    assert page[0x1E8] == 4
    entries = list(struct.iter_unpack("<QQI", page[0x2D0 : 0x2D0 + 80]))
    assert entries[0] == (0, 0x9FC00, 1)
    assert entries[-1] == (MIB, 31 * MIB, 1)


def test_memory_above_4_gib_is_in_the_map(make_place, bzimage) -> None:
    place = make_place(3 * (1 << 30) + 64 * MIB)
    load_linux(place.vcpu, place.memory, bzimage(), initrd=b"x" * 5000)
    page = place.memory.read(ZERO_PAGE, 4096)
    entries = list(struct.iter_unpack("<QQI", page[0x2D0 : 0x2D0 + 20 * page[0x1E8]]))
    assert entries[-1] == (1 << 32, 64 * MIB, 1)
    assert struct.unpack_from("<I", page, 0x218)[0] == 0x8000_0000 - 8192  # under initrd_addr_max


@pytest.mark.parametrize(
    ("options", "changes", "words"),
    [
        ({"initrd": b""}, {}, "RAM disk is empty"),
        ({"initrd": bytes(2 * MIB)}, {}, "RAM disk of 2,097,152 bytes doesn't fit"),
        ({"initrd": bytes(8192)}, {"initrd_addr_max": 0x30_0FFF}, "doesn't fit between the kernel's end at 0x300000"),
        ({"command_line": "x" * 2048}, {}, "has 2048 bytes; this kernel takes 2047"),
        ({"command_line": "a\0b"}, {}, "zero byte"),
        ({}, {"init_size": 0x40_0000}, "needs memory up to 0x600000 and the guest has 0x400000: give it more"),
        ({}, {"pref_address": 0xC000_0000, "init_size": 0x20_0000}, "no kernel may be that high"),
        ({}, {"pref_address": 0x8_0000, "kernel_alignment": 0x1000}, "below 1 MiB"),
        ({}, {"pref_address": 1 << 63}, "needs memory up to"),
    ],
)
def test_what_does_not_fit_gets_a_sentence(place, bzimage, options: dict, changes: dict, words: str) -> None:
    with pytest.raises(BadImageError, match=words) as caught:
        load_linux(place.vcpu, place.memory, bzimage(**changes), **options)
    assert str(caught.value).endswith(".")


def test_a_command_line_of_the_full_length(place, bzimage) -> None:
    place.memory.write(layout.COMMAND_LINE.start, b"\xa5" * 4096)
    load_linux(place.vcpu, place.memory, bzimage(), command_line="é" + "x" * 2045)
    assert place.text(layout.COMMAND_LINE.start) == "é".encode() + b"x" * 2045


def test_nothing_is_put_where_devices_are(make_place, bzimage) -> None:
    place = make_place(layout.HOLE.start)
    place.memory.add(layout.HOLE.start, MIB)  # RAM in the hole, from a machine that doesn't know better
    load_linux(place.vcpu, place.memory, bzimage(initrd_addr_max=0xFFFF_FFFF), initrd=b"x")
    assert place.unpack("<I", ZERO_PAGE + 0x218) == (layout.HOLE.start - 4096,)


@pytest.mark.parametrize("size", [0x1000, 0x8_0000, 0x10_0000])
def test_too_little_memory(make_place, bzimage, size: int) -> None:
    with pytest.raises(BadImageError, match="more than 1 MiB of memory"):
        load_linux((place := make_place(size)).vcpu, place.memory, bzimage())


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0x1F1, 0x26C), st.integers(0, 255)), max_size=8),
    st.one_of(st.none(), st.integers(0, 3 * MIB)),
    st.text(max_size=40),
)
def test_a_damaged_kernel_is_loaded_or_refused(
    place, bzimage, changes: list[tuple[int, int]], initrd: int | None, command_line: str
) -> None:
    image = bytearray(bzimage())
    for at, value in changes:
        image[at] = value
    try:
        load_linux(
            place.vcpu, place.memory, bytes(image),
            initrd=None if initrd is None else bytes(initrd), command_line=command_line,
        )  # fmt: skip
    except BadImageError:  # and nothing else
        pass
    else:
        assert place.memory.read(place.vcpu.regs.rip, 1)


@pytest.mark.parametrize("kind", ["cloud", "standard"])
def test_debians_kernels_are_loaded(make_place, debian_kernel, kind: str) -> None:
    kernel = debian_kernel(kind)
    place = make_place(128 * MIB)
    load_linux(place.vcpu, place.memory, kernel, command_line="console=ttyS0", initrd=bytes(MIB))
    start = (kernel[0x1F1] + 1) * 512
    assert place.vcpu.regs.rip == 0x100_0200
    assert place.memory.read(0x100_0200, 64) == kernel[start + 0x200 : start + 0x240]
    small = make_place(32 * MIB)
    with pytest.raises(BadImageError, match="give it more with --memory"):
        load_linux(small.vcpu, small.memory, kernel)


@pytest.mark.parametrize("flags", [0x7F, 0], ids=["64-bit", "32-bit"])
def test_a_kernel_runs_and_reads_its_command_line(backend: Backend, bzimage, flags: int) -> None:
    # mov ax, 0x18; mov ds, ax; mov ss, ax; mov esi, [rsi+0x228]; mov edx, 0x3f8; then lodsb and out up to the zero
    # byte; hlt. The same bytes in 32-bit code, and the segments are loaded anew from our GDT.
    code = bytes.fromhex("66b81800 8ed8 8ed0 8bb628020000 baf8030000 ac 84c0 7403 ee ebf8 f4")
    kernel = bzimage((bytes(0x200) if flags else b"") + code + bytes(0x2000), xloadflags=flags)
    with Machine(4 * MIB, backend) as machine:
        load_linux(machine.vcpu, machine.memory, kernel, command_line="quiet splash")
        assert machine.run(10).reason == "halted"
        assert machine.console == b"quiet splash"
