"""Starting a Linux kernel: the zero page that it reads, and the state in which it is entered.

Source: Linux, Documentation/arch/x86/boot.rst, "64-bit Boot Protocol" and "32-bit Boot Protocol";
Documentation/arch/x86/zero-page.rst.
"""

from __future__ import annotations

import os
import struct

from minivmm.boot import bzimage, firmware, layout
from minivmm.boot.bzimage import BzImage
from minivmm.boot.e820 import Region, memory_map, ram_of
from minivmm.boot.errors import BadImageError
from minivmm.boot.placing import check_room, put, put_high
from minivmm.boot.platform import Platform
from minivmm.memory import GuestMemory
from minivmm.vcpu import Vcpu
from minivmm.x86.gdt import FLAT_CODE32, FLAT_CODE64, FLAT_DATA, Gdt

ZERO_PAGE = layout.BOOT_INFO.start

# Offsets in the zero page. Those from 0x1F1 on are the setup header's.
ACPI_RSDP_ADDR = 0x070
EXT_RAMDISK_IMAGE = 0x0C0
E820_ENTRIES = 0x1E8
VID_MODE = 0x1FA
TYPE_OF_LOADER = 0x210
RAMDISK_IMAGE = 0x218
CMD_LINE_PTR = 0x228
E820_TABLE = 0x2D0

VIDEO_NORMAL = 0xFFFF
UNREGISTERED_LOADER = 0xFF


def load_linux(
    vcpu: Vcpu,
    memory: GuestMemory,
    kernel: bytes,
    *,
    initrd: bytes | None = None,
    command_line: str = "",
    platform: Platform | None = None,
) -> None:
    """Loads a bzImage with what belongs to it, and puts the vCPU, the first of its machine, at its entry.

    That is the 64-bit entry where the kernel has one, else the 32-bit one. Raises BadImageError, in a sentence, where
    the kernel is damaged, or where it, its initial RAM disk or its command line is too large.
    """
    image = bzimage.parse(kernel)
    text = encoded(command_line)
    if len(text) > min(image.command_line_size, len(layout.COMMAND_LINE) - 1):
        raise BadImageError(
            f"The command line has {len(text)} bytes; this kernel takes {image.command_line_size}: shorten --append."
        )
    check_room(memory, image.load_address, image.end, "The Linux kernel")
    put(memory, image.load_address, image.code, "the Linux kernel")
    ramdisk = (0, 0)
    if initrd is not None:
        ramdisk = (place_initrd(memory, initrd, above=image.end, below=image.initrd_end), len(initrd))
    firmware.install(memory, platform or Platform())
    put(memory, layout.COMMAND_LINE.start, text + b"\0", "the command line")
    put(memory, ZERO_PAGE, zero_page(image, memory_map(ram_of(memory)), ramdisk), "the zero page")
    _enter(vcpu, memory, image)


def place_initrd(memory: GuestMemory, initrd: bytes, *, above: int, below: int) -> int:
    """Puts the initial RAM disk in RAM between two addresses, and returns where. Raises BadImageError."""
    if not initrd:
        raise BadImageError("The initial RAM disk is empty: leave --initrd away to have none.")
    return put_high(memory, initrd, above=above, below=below, what="The initial RAM disk")


def zero_page(image: BzImage, regions: list[Region], ramdisk: tuple[int, int]) -> bytes:
    """struct boot_params, 4096 bytes: all zeros but for what the protocol asks of a loader.

    `ramdisk` is address and size in bytes. The screen stays 0: there is no display, and the kernel looks for none.
    """
    page = bytearray(4096)
    page[bzimage.HEADER : bzimage.HEADER + len(image.header)] = image.header
    struct.pack_into("<Q", page, ACPI_RSDP_ADDR, firmware.RSDP)  # since 2.14; older kernels search for it
    struct.pack_into("<H", page, VID_MODE, VIDEO_NORMAL)
    page[TYPE_OF_LOADER] = UNREGISTERED_LOADER
    struct.pack_into("<II", page, RAMDISK_IMAGE, *(value & 0xFFFF_FFFF for value in ramdisk))
    struct.pack_into("<II", page, EXT_RAMDISK_IMAGE, *(value >> 32 for value in ramdisk))
    struct.pack_into("<I", page, CMD_LINE_PTR, layout.COMMAND_LINE.start)
    page[E820_ENTRIES] = len(regions)
    for number, region in enumerate(regions):
        page[E820_TABLE + 20 * number : E820_TABLE + 20 * (number + 1)] = region.pack()
    return bytes(page)


def encoded(command_line: str) -> bytes:
    """The bytes of a command line as it was typed. Raises BadImageError for a zero byte, which would end it."""
    text = os.fsencode(command_line)
    if b"\0" in text:
        raise BadImageError("The command line has a zero byte in it, which would end it: leave it out.")
    return text


def _enter(vcpu: Vcpu, memory: GuestMemory, image: BzImage) -> None:
    """Either protocol wants __BOOT_CS to be selector 0x10, __BOOT_DS 0x18, both flat, and RSI to be the zero page."""
    gdt = Gdt()
    gdt.add("unused", FLAT_DATA)  # 0x08
    gdt.add("boot code", FLAT_CODE64 if image.has_64_bit_entry else FLAT_CODE32)
    gdt.add("boot data", FLAT_DATA)
    mode: layout.Mode = "long" if image.has_64_bit_entry else "protected"
    entry = image.load_address + (bzimage.ENTRY_64 if image.has_64_bit_entry else 0)
    layout.enter(vcpu, memory, mode, entry, gdt=gdt, code="boot code", data="boot data", rsi=ZERO_PAGE)
