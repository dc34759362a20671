"""A Linux kernel as distributions ship it: bzImage, with a setup header that says how it wants to be started.

Source: Linux, Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header" and "Details of Header Fields". The fields
have the names that they have there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from minivmm.boot.errors import BadImageError

SECTOR = 512
HEADER = 0x1F1  # where the setup header begins, in the file as in the zero page
SHORTEST = 0x264  # a header up to and including init_size
FIELDS = {
    "setup_sects": (0x1F1, "B"),
    "syssize": (0x1F4, "I"),
    "boot_flag": (0x1FE, "H"),
    "header_length": (0x201, "B"),  # the second byte of a jump over the header: its end, from 0x202
    "version": (0x206, "H"),
    "loadflags": (0x211, "B"),
    "code32_start": (0x214, "I"),
    "initrd_addr_max": (0x22C, "I"),
    "kernel_alignment": (0x230, "I"),
    "relocatable_kernel": (0x234, "B"),
    "xloadflags": (0x236, "H"),
    "cmdline_size": (0x238, "I"),
    "payload_offset": (0x248, "I"),
    "payload_length": (0x24C, "I"),
    "pref_address": (0x258, "Q"),
    "init_size": (0x260, "I"),
}
LOADED_HIGH = 1
XLF_KERNEL_64 = 1
ENTRY_64 = 0x200
OLDEST = 0x20A  # 2.10, Linux 2.6.31: the first to say where it wants to be, and how much room it needs
FIRST_WITH_64 = 0x20C


@dataclass(frozen=True)
class BzImage:
    """A kernel that was found sound. `code` goes to guest-physical `load_address`; `room` bytes from there are its own.

    `header` is the setup header, to be copied into the zero page at 0x1F1. `initrd_end` and `command_line_size` are
    limits in bytes.
    """

    header: bytes
    code: memoryview
    version: int
    load_address: int
    room: int
    has_64_bit_entry: bool
    initrd_end: int
    command_line_size: int

    @property
    def end(self) -> int:
        return self.load_address + self.room


def is_bzimage(image: bytes) -> bool:
    """Whether `image` has the signature of the setup header."""
    return image[0x202:0x206] == b"HdrS"


def parse(image: bytes) -> BzImage:
    """Reads and checks the setup header. Raises BadImageError, in a sentence, for a kernel that can't be started."""
    if not is_bzimage(image):
        raise BadImageError("This is no Linux kernel: the signature HdrS is missing at 0x202.")
    if len(image) < SHORTEST:
        raise BadImageError("The Linux kernel is truncated: it ends within its setup header.")
    fields = {name: struct.unpack_from("<" + form, image, at)[0] for name, (at, form) in FIELDS.items()}
    version = fields["version"]
    if fields["boot_flag"] != 0xAA55:
        raise BadImageError(f"The Linux kernel is damaged: its boot flag is {fields['boot_flag']:#x}, not 0xaa55.")
    if version < OLDEST:
        raise BadImageError(
            f"The Linux kernel speaks boot protocol {_dotted(version)}; 2.10 (Linux 2.6.31) is the oldest that works."
        )
    if not fields["loadflags"] & LOADED_HIGH:
        raise BadImageError("This is a zImage, which wants to lie below 1 MiB: build a bzImage.")
    header_end = 0x202 + fields["header_length"]
    start = ((fields["setup_sects"] or 4) + 1) * SECTOR
    if header_end < SHORTEST or header_end > start:
        raise BadImageError("The Linux kernel is damaged: the length of its setup header can't be right.")
    return BzImage(
        header=image[HEADER:header_end],
        code=_code(image, start, fields),
        version=version,
        load_address=_load_address(fields),
        room=max(fields["init_size"], len(image) - start),
        has_64_bit_entry=version >= FIRST_WITH_64 and bool(fields["xloadflags"] & XLF_KERNEL_64),
        initrd_end=fields["initrd_addr_max"] + 1,
        command_line_size=fields["cmdline_size"],
    )


def _code(image: bytes, start: int, fields: dict[str, int]) -> memoryview:
    """The protected-mode part. A signature may follow it in the file; loading that as well does no harm."""
    code = memoryview(image)[start:]
    missing = fields["syssize"] * 16 - len(code)
    if missing >= 16:  # syssize counts paragraphs of 16 bytes, rounded up
        raise BadImageError(f"The Linux kernel is truncated: {missing:,} bytes are missing at its end.")
    if len(code) <= ENTRY_64:
        raise BadImageError("The Linux kernel is truncated: it ends before its code begins.")
    if fields["payload_offset"] + fields["payload_length"] > len(code):
        raise BadImageError("The Linux kernel is damaged: its payload ends behind the end of the file.")
    return code


def _load_address(fields: dict[str, int]) -> int:
    # A relocatable kernel could go elsewhere, but gains nothing: it moves itself to pref_address to unpack.
    address = fields["pref_address"] if fields["relocatable_kernel"] else fields["code32_start"]
    alignment = fields["kernel_alignment"]
    if fields["relocatable_kernel"] and (alignment & alignment - 1 or not alignment or address % alignment):
        raise BadImageError(
            f"The Linux kernel is damaged: {address:#x} is no address for an alignment of {alignment:#x}."
        )
    return address


def _dotted(version: int) -> str:
    return f"{version >> 8}.{version & 0xFF:02}"
