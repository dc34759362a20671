"""PVH: the note that announces it, the structure that it hands over, and the registers of its specification."""

from __future__ import annotations

import lzma
import struct
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minivmm.boot import elf
from minivmm.boot.errors import BadImageError
from minivmm.boot.platform import Platform
from minivmm.boot.pvh import entry_of, load_pvh
from minivmm.boot.recognise import recognise
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine
from minivmm.x86 import modes

MIB = 1 << 20
START = 0x10_0000


def note(contents: bytes, kind: int = 18, name: bytes = b"Xen\0") -> bytes:
    padded = contents.ljust(-(-len(contents) // 4) * 4, b"\0")
    return struct.pack("<III", len(name), len(contents), kind) + name.ljust(-(-len(name) // 4) * 4, b"\0") + padded


ENTRY = note(struct.pack("<Q", START + 16))
SEGMENT = (0xFFFF_FFFF_8010_0000, START, bytes(16) + b"\xf4" + bytes(15), 0x1000)


@pytest.fixture(name="kernel")
def _kernel(elf_file) -> bytes:
    return elf_file([SEGMENT], entry=SEGMENT[0], notes=note(b"GNU stuff", 3, b"GNU\0") + ENTRY)


def test_the_machine_state(place, kernel: bytes) -> None:
    load_pvh(place.vcpu, place.memory, kernel)
    regs, sregs = place.vcpu.regs, place.vcpu.sregs
    assert regs.rip == START + 16
    assert place.memory.read(regs.rip, 1) == b"\xf4"
    assert modes.mode_of(sregs) == modes.PROTECTED_32
    assert (sregs.cr0 & ~0x10, sregs.cr4) == (1, 0)  # PE alone; ET can't be cleared
    assert not regs.rflags & 0x20300  # VM, IF, TF
    for name in ("cs", "ds", "es", "ss"):
        segment = getattr(sregs, name)
        assert (segment.base, segment.limit, segment.db) == (0, 0xFFFF_FFFF, 1)
    assert (sregs.tr.base, sregs.tr.limit, sregs.tr.type) == (0, 0x67, 11)


def test_the_start_info(place, kernel: bytes) -> None:
    load_pvh(place.vcpu, place.memory, kernel, initrd=b"disk" * 2000, command_line="one two", platform=Platform(cpus=2))
    magic, version, flags, count, modules, text, rsdp, regions, entries, reserved = place.unpack(
        "<IIIIQQQQII", place.vcpu.regs.rbx
    )
    assert (magic, version, flags, reserved) == (0x336EC578, 1, 0, 0)
    assert place.text(text) == b"one two"
    assert place.memory.read(rsdp, 8) == b"RSD PTR "
    assert count == 1
    start, size, words, _ = place.unpack("<4Q", modules)
    assert place.memory.read(start, size) == b"disk" * 2000
    assert (start % 4096, words) == (0, 0)
    found = [place.unpack("<QQII", regions + 24 * number) for number in range(entries)]
    assert found[0] == (0, 0x9FC00, 1, 0)
    assert found[-1] == (MIB, 3 * MIB, 1, 0)
    assert place.memory.read(0x9FC00, 4) == b"_MP_"


def test_without_a_ram_disk_there_is_no_module(place, kernel: bytes) -> None:
    load_pvh(place.vcpu, place.memory, kernel)
    assert place.unpack("<IIIIQ", place.vcpu.regs.rbx)[3:] == (0, 0)


@pytest.mark.parametrize(
    ("notes", "entry"),
    [
        (b"", None),
        (ENTRY, START + 16),
        (note(struct.pack("<I", 0x1234)), 0x1234),  # a note of 32 bits
        (note(b"123"), None),
        (note(struct.pack("<Q", 5), 17), None),
        (note(struct.pack("<Q", 5), 18, b"GNU\0"), None),
        (note(b"abcde", 1, b"Linux\0") + ENTRY, START + 16),  # odd lengths before it
        (ENTRY[:-1], None),
        (struct.pack("<III", 0xFFFF_FFFF, 8, 18), None),
        (b"\xff" * 11, None),
    ],
)
def test_the_note(elf_file, notes: bytes, entry: int | None) -> None:
    assert entry_of(elf.parse(elf_file([SEGMENT], notes=notes))) == entry


def test_only_a_note_makes_a_kernel_of_an_elf_file(elf_file, kernel: bytes) -> None:
    assert recognise(kernel) == "pvh"
    assert recognise(elf_file([SEGMENT], notes=note(b"x", 3))) == "elf"


@pytest.mark.parametrize(
    ("segment", "notes", "words"),
    [
        (SEGMENT, b"", "no PVH entry"),
        (SEGMENT, note(struct.pack("<Q", START + 0x1000)), "lies outside"),
        ((0, 0x8000, bytes(32), 32), note(struct.pack("<Q", 0x8000)), "below 1 MiB"),
        ((0, START, bytes(32), 4 * MIB), ENTRY, "needs memory up to 0x500000 and the guest has 0x400000"),
        ((0, 0xFFFF_F000, bytes(32), 4 * MIB), note(struct.pack("<Q", 0xFFFF_F000)), "no kernel may be that high"),
    ],
)
def test_what_cannot_be_started_gets_a_sentence(place, elf_file, segment, notes: bytes, words: str) -> None:
    with pytest.raises(BadImageError, match=words) as caught:
        load_pvh(place.vcpu, place.memory, elf_file([segment], notes=notes))
    assert str(caught.value).endswith(".")


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 250), st.integers(0, 255)), max_size=8), st.integers(0, 300))
def test_a_damaged_kernel_is_loaded_or_refused(place, kernel: bytes, changes, length: int) -> None:
    image = bytearray(kernel)
    for at, value in changes:
        image[at % len(image)] = value
    with suppress(BadImageError):  # and nothing else
        load_pvh(place.vcpu, place.memory, bytes(image[: len(image) - length] or b"\x7fELF"))
        assert place.memory.read(place.vcpu.regs.rip, 1)


@pytest.fixture(scope="module", name="vmlinux")
def _vmlinux(debian_kernel) -> bytes:
    """The standard kernel, unpacked: its payload is xz, with four bytes of length behind."""
    image = debian_kernel("standard")
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (image[0x1F1] + 1) * 512 + offset
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ).decompress(image[start : start + length])


def test_debians_vmlinux(make_place, vmlinux: bytes) -> None:
    assert recognise(vmlinux) == "pvh"
    place = make_place(128 * MIB)
    load_pvh(place.vcpu, place.memory, vmlinux, command_line="console=ttyS0")
    assert place.vcpu.regs.rip == entry_of(elf.parse(vmlinux))
    # Linux's PVH entry begins with cld and lgdt.
    assert place.memory.read(place.vcpu.regs.rip, 3) == b"\xfc\x0f\x01"


def test_a_kernel_runs_from_its_pvh_entry(backend: Backend, elf_file) -> None:
    # mov eax, [ebx]; mov edx, 0x3f8; four times: out dx, al; shr eax, 8; then hlt
    code = bytes.fromhex("8b03 baf8030000" + "ee c1e808" * 4 + "f4")
    kernel = elf_file([(0xC010_0000, START, code, 0x100)], notes=note(struct.pack("<I", START)), bits=32)
    with Machine(2 * MIB, backend) as machine:
        load_pvh(machine.vcpu, machine.memory, kernel)
        assert machine.run(10).reason == "halted"
        assert machine.console == struct.pack("<I", 0x336EC578)
