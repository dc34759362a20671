"""The parameter block: 64 bytes in a guest's image through which the host tells the guest its nonce and its options.

It is found by its magic, so flat and ELF images are patched alike. guests/include/params.inc is the guest's side of it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

MAGIC = b"mvparams"
SIZE = 64
ALIGNMENT = 16

# Name: offset in bytes, struct format (all little endian).
FIELDS = {
    "nonce": (8, "<Q"),
    "port": (16, "<H"),
    "width": (18, "<H"),
    "count": (20, "<I"),
    "address": (24, "<Q"),
    "size": (32, "<Q"),
    "value": (40, "<Q"),
    "option": (48, "<Q"),
}


class ParameterError(ValueError):
    """An image without exactly one parameter block, or a value that does not fit into its field."""


def find(image: bytes) -> int:
    """The offset of the parameter block in `image`. Raises ParameterError unless there is exactly one."""
    found = image.count(MAGIC)
    if found != 1:
        raise ParameterError(
            f"it has {found or 'no'} parameter block{'s' if found else ''}; there must be exactly one."
        )
    offset = image.index(MAGIC)
    if offset % ALIGNMENT or offset + SIZE > len(image):
        raise ParameterError(f"its parameter block at {offset:#x} is cut off or not aligned to {ALIGNMENT} bytes.")
    return offset


def read(image: bytes) -> dict[str, int]:
    """Every field of the block, by name. Raises ParameterError as `find` does."""
    block = find(image)
    return {name: struct.unpack_from(form, image, block + offset)[0] for name, (offset, form) in FIELDS.items()}


def write(image: bytes, values: Mapping[str, int]) -> bytes:
    """A copy of `image` with these fields set. Raises ParameterError for a value that does not fit."""
    block = find(image)
    patched = bytearray(image)
    for name, value in values.items():
        offset, form = FIELDS[name]
        most = (1 << 8 * struct.calcsize(form)) - 1
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            raise ParameterError(f"{name} must be a whole number from 0 to {most:#x}, not {value!r}.")
        struct.pack_into(form, patched, block + offset, value)
    return bytes(patched)
