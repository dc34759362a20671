"""What an image is, told by its content and never by its name."""

from __future__ import annotations

from typing import Literal

from minivmm.boot import elf, multiboot, pvh
from minivmm.boot.bzimage import is_bzimage
from minivmm.boot.errors import BadImageError

Kind = Literal["flat", "elf", "multiboot", "pvh", "linux"]

COMPRESSED = (
    b"\x1f\x8b",
    b"BZh",
    b"PK\x03\x04",
    b"\xfd7zXZ\x00",
    b"\x28\xb5\x2f\xfd",
    b"\x02\x21\x4c\x18",
    b"\x04\x22\x4d\x18",
)


def recognise(image: bytes) -> Kind:
    """The kind of `image`. Raises BadImageError, with the reason, for one that is surely no guest.

    An ELF file with a PVH entry is a kernel that wants to be started by it; one with a multiboot header is a multiboot
    kernel; any other is a plain ELF guest. What nothing speaks for is flat.
    """
    if not image:
        raise BadImageError("The image is empty: there is nothing to run.")
    if is_bzimage(image):
        return "linux"
    if image.startswith(elf.MAGIC):
        if _has_pvh_entry(image):
            return "pvh"
        return "multiboot" if multiboot.find_header(image) else "elf"
    if multiboot.find_header(image):
        return "multiboot"
    if image[:2] == b"MZ":
        raise BadImageError("This is an EFI or DOS program, which needs a firmware that isn't here.")
    if image.startswith(COMPRESSED):
        raise BadImageError("The image is compressed: unpack it first.")
    if image[:2] == b"#!":
        raise BadImageError("This is a script, not a guest image.")
    return "flat"


def _has_pvh_entry(image: bytes) -> bool:
    try:
        return pvh.entry_of(elf.parse(image)) is not None
    except BadImageError:
        return False  # damaged: whoever loads it says how
