"""Kernels and a place to load them: guest memory and a vCPU's registers without any KVM behind them."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from minivmm.boot import layout
from minivmm.memory import GuestMemory
from minivmm.x86.rules import errors
from minivmm.x86.state import Regs, Sregs

MIB = 1 << 20


class NoKvm:
    """A backend that agrees to everything: memory slots need no more."""

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        return 0


class Registers:
    """The part of a vCPU that a loader needs; it refuses states that the architecture does not allow."""

    def __init__(self) -> None:
        self.regs, self.sregs = Regs(), Sregs()

    def get_sregs(self) -> Sregs:
        return self.sregs

    def set_sregs(self, sregs: Sregs) -> None:
        assert not errors(sregs)
        self.sregs = sregs

    def update(self, **values: int) -> None:
        for name, value in values.items():
            setattr(self.regs, name, value)


@dataclass
class Place:
    """Guest memory with RAM as a machine lays it out, and one vCPU."""

    size: int = 4 * MIB
    vcpu: Any = field(default_factory=Registers)
    memory: GuestMemory = field(default_factory=lambda: GuestMemory(NoKvm(), 0))  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        for ram in layout.ram_ranges(self.size):
            self.memory.add(ram.start, len(ram))

    def unpack(self, form: str, gpa: int) -> tuple[Any, ...]:
        return struct.unpack(form, self.memory.read(gpa, struct.calcsize(form)))

    def text(self, gpa: int) -> bytes:
        return self.memory.read(gpa, 4096).partition(b"\0")[0]


@pytest.fixture(name="place")
def _place() -> Place:
    return Place()


@pytest.fixture(name="make_place")
def _make_place() -> Callable[[int], Place]:
    return Place


@pytest.fixture(name="bzimage")
def _bzimage() -> Callable[..., bytes]:
    return make_bzimage


@pytest.fixture(name="elf_file")
def _elf_file() -> Callable[..., bytes]:
    return make_elf


@pytest.fixture(name="debian_kernel", scope="session")
def _debian_kernel() -> Callable[[str], bytes]:
    return debian_kernel


def make_bzimage(code: bytes = bytes(0x2000), length: int = 0x26C, **changes: int) -> bytes:
    """A bzImage with nothing in it but a header like that of Linux 6.1, and `code`; fields by the names of boot.rst."""
    fields = {
        "setup_sects": (0x1F1, "B", 1),
        "syssize": (0x1F4, "I", -(-len(code) // 16)),
        "boot_flag": (0x1FE, "H", 0xAA55),
        "jump": (0x200, "B", 0xEB),
        "header_length": (0x201, "B", length - 0x202),
        "header": (0x202, "I", int.from_bytes(b"HdrS", "little")),
        "version": (0x206, "H", 0x20F),
        "loadflags": (0x211, "B", 1),
        "code32_start": (0x214, "I", 0x10_0000),
        "initrd_addr_max": (0x22C, "I", 0x7FFF_FFFF),
        "kernel_alignment": (0x230, "I", 0x20_0000),
        "relocatable_kernel": (0x234, "B", 1),
        "xloadflags": (0x236, "H", 0x7F),
        "cmdline_size": (0x238, "I", 2047),
        "payload_offset": (0x248, "I", 0x2CC),
        "payload_length": (0x24C, "I", 0x100),
        "pref_address": (0x258, "Q", 0x20_0000),
        "init_size": (0x260, "I", 0x10_0000),
    }
    setup_sects = changes.get("setup_sects", 1) or 4
    image = bytearray((setup_sects + 1) * 512)
    for name, (at, form, value) in fields.items():
        struct.pack_into("<" + form, image, at, changes.pop(name, value))
    assert not changes
    return bytes(image) + code


def make_elf(
    segments: list[tuple[int, int, bytes, int]],
    *,
    entry: int = 0,
    notes: bytes = b"",
    bits: int = 64,
) -> bytes:
    """An executable with PT_LOAD segments (virtual address, physical address, contents, size in memory) and notes."""
    header, program = (64, 56) if bits == 64 else (52, 32)
    count = len(segments) + bool(notes)
    at = header + program * count
    headers, body = b"", b""
    for kind, (virtual, physical, data, size) in [
        *((1, each) for each in segments),
        *([(4, (0, 0, notes, len(notes)))] if notes else []),
    ]:
        offset = at + len(body)
        if bits == 64:
            headers += struct.pack("<IIQQQQQQ", kind, 7, offset, virtual, physical, len(data), size, 4)
        else:
            headers += struct.pack("<IIIIIIII", kind, offset, virtual, physical, len(data), size, 7, 4)
        body += data.ljust(-(-len(data) // 4) * 4, b"\0")
    ident = b"\x7fELF" + bytes((2 if bits == 64 else 1, 1, 1)) + bytes(9)
    word = "Q" if bits == 64 else "I"
    machine = 62 if bits == 64 else 3
    start = struct.pack(
        f"<16sHHI{word}{word}{word}IHHHHHH", ident, 2, machine, 1, entry, header, 0, 0, header, program, count, 0, 0, 0
    )
    return start + headers + body


def debian_kernel(kind: str) -> bytes:
    """Debian's newest "cloud" or "standard" kernel, as it lies in /boot; the test is skipped where there is none."""

    def number(file: Path) -> list[int]:
        return [int(each) for each in re.findall(r"\d+", file.name)]

    found = [file for file in Path("/boot").glob("vmlinuz-*-amd64") if ("-cloud-" in file.name) == (kind == "cloud")]
    if not found:
        if "MINIVMM_NO_SKIP" in os.environ:
            pytest.fail(f"no {kind} kernel in /boot")
        pytest.skip("no Debian kernel in /boot: apt install linux-image-cloud-amd64 linux-image-amd64")
    return max(found, key=number).read_bytes()
