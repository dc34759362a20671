"""Multiboot 1: how GRUB starts small kernels, and the quickest way to have a kernel of your own started.

Source: Multiboot Specification 0.6.96, "OS image format", "Machine state" and "Boot information format".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from minivmm.boot import elf, firmware, layout
from minivmm.boot.e820 import RAM, memory_map, ram_of
from minivmm.boot.errors import BadImageError
from minivmm.boot.linux import encoded
from minivmm.boot.placing import Notes, check_room, page_up, put
from minivmm.boot.platform import Platform
from minivmm.memory import GuestMemory
from minivmm.vcpu import Vcpu

HEADER_MAGIC = 0x1BAD_B002
LOADER_MAGIC = 0x2BAD_B002
SEARCHED = 8192

# Header flags: what the kernel asks for. Bits 0 to 15 must be granted, or the kernel not started.
PAGE_ALIGNED_MODULES, MEMORY_INFORMATION, VIDEO_MODE = 1 << 0, 1 << 1, 1 << 2
ADDRESSES = 1 << 16
GRANTED = PAGE_ALIGNED_MODULES | MEMORY_INFORMATION

# Information flags: which fields are valid.
HAS_MEMORY, HAS_COMMAND_LINE, HAS_MODULES, HAS_MAP, HAS_LOADER_NAME = 1 << 0, 1 << 2, 1 << 3, 1 << 6, 1 << 9


@dataclass(frozen=True)
class Header:
    """The header, found at `offset` in the file. `addresses` are header, load, load end, bss end and entry, or None."""

    offset: int
    flags: int
    addresses: tuple[int, int, int, int, int] | None


def find_header(image: bytes) -> Header | None:
    """The multiboot header in the first 8 KiB, or None. Its checksum tells it from a number that just looks like it."""
    window = image[:SEARCHED]
    for offset in range(0, len(window) - 11, 4):
        magic, flags, checksum = struct.unpack_from("<III", window, offset)
        if magic == HEADER_MAGIC and (magic + flags + checksum) & 0xFFFF_FFFF == 0:
            addresses = None
            if flags & ADDRESSES and offset + 32 <= len(window):
                addresses = struct.unpack_from("<5I", window, offset + 12)
            return Header(offset, flags, addresses)
    return None


def load_multiboot(
    vcpu: Vcpu,
    memory: GuestMemory,
    image: bytes,
    *,
    modules: Sequence[bytes] = (),
    command_line: str = "",
    platform: Platform | None = None,
) -> None:
    """Loads a multiboot kernel and its modules, and puts the vCPU at its entry. Raises BadImageError."""
    header = find_header(image)
    if header is None:
        raise BadImageError("There is no multiboot header in the first 8 KiB of this file.")
    if refused := header.flags & 0xFFFF & ~GRANTED:
        wish = "a video mode" if refused == VIDEO_MODE else f"features that nobody here knows (flags {refused:#x})"
        raise BadImageError(f"The multiboot header asks for {wish}: minivmm has no display, so take that out.")
    entry, segments = from_addresses(image, header) if header.flags & ADDRESSES else _from_elf(image)
    start, end = min(each.gpa for each in segments), max(each.end for each in segments)
    if not start <= entry < end:
        raise BadImageError(f"The multiboot entry {entry:#x} lies outside of what is loaded, {start:#x} to {end:#x}.")
    check_room(memory, start, end, "The multiboot kernel")
    elf.load(memory, segments, "the multiboot kernel")
    firmware.install(memory, platform or Platform())
    info = _information(memory, _place_modules(memory, modules, end), encoded(command_line))
    layout.enter(vcpu, memory, "protected", entry, rax=LOADER_MAGIC, rbx=info)


def from_addresses(image: bytes, header: Header) -> tuple[int, list[elf.Segment]]:
    """Entry and contents as the header's own addresses have it; they go before what an ELF header says."""
    if header.addresses is None:
        raise BadImageError("The multiboot header is truncated: it announces addresses, and ends before them.")
    header_address, load, load_end, bss_end, entry = header.addresses
    first = header.offset - (header_address - load)  # where in the file the byte for `load` is
    last = first + load_end - load if load_end else len(image)
    if not 0 <= first < last:
        raise BadImageError("The multiboot header is damaged: its addresses contradict each other.")
    if last > len(image):
        raise BadImageError(f"The multiboot kernel is truncated: {last - len(image):,} bytes are missing at its end.")
    size = last - first
    if bss_end:
        if bss_end < load + size:
            raise BadImageError("The multiboot header is damaged: its bss ends before it begins.")
        size = bss_end - load
    return entry, [elf.Segment(load, load, size, memoryview(image)[first:last])]


def _from_elf(image: bytes) -> tuple[int, list[elf.Segment]]:
    if not image.startswith(elf.MAGIC):
        raise BadImageError("The multiboot header gives no addresses (flag 16), and the file is no ELF file.")
    parsed = elf.parse(image)
    return parsed.physical_entry, list(parsed.segments)


def _place_modules(memory: GuestMemory, modules: Sequence[bytes], end: int) -> list[tuple[int, int]]:
    """Puts the modules behind the kernel, each on a page of its own; gives start and end of each."""
    placed = []
    for number, module in enumerate(modules):
        start = page_up(end)
        end = start + len(module)
        check_room(memory, start, end, f"Module {number} of the multiboot kernel")
        put(memory, start, module, "a multiboot module")
        placed.append((start, end))
    return placed


def _information(memory: GuestMemory, modules: list[tuple[int, int]], command_line: bytes) -> int:
    """Writes the multiboot information and what it points to; returns its address."""
    notes, strings = Notes(memory, layout.BOOT_INFO), Notes(memory, layout.COMMAND_LINE)
    regions = memory_map(ram_of(memory))
    text, loader = strings.add(command_line + b"\0"), strings.add(b"minivmm\0")
    no_name = loader + len(b"minivmm")
    list_at = notes.add(b"".join(struct.pack("<IIII", start, end, no_name, 0) for start, end in modules))
    entries = b"".join(struct.pack("<I", 20) + region.pack() for region in regions)  # the size doesn't count itself
    map_at = notes.add(entries)
    upper = next(region for region in regions if region.kind == RAM and region.start == layout.HIGH_MEMORY)
    flags = HAS_MEMORY | HAS_COMMAND_LINE | HAS_MODULES | HAS_MAP | HAS_LOADER_NAME
    fields = struct.pack("<III4xIII", flags, layout.EBDA >> 10, upper.size >> 10, text, len(modules), list_at)
    fields += struct.pack("<16xII12xI", len(entries), map_at, loader)
    return notes.add(fields.ljust(120, b"\0"))
