"""AML, the byte code of ACPI: as much of it as names devices and their resources. No methods, nothing to execute.

Each function returns the bytes of one term, and terms nest: `device("COM1", name("_UID", integer(1)), …)`.

Source: ACPI specification, "ACPI Machine Language (AML) Specification" and "Resource Data Types for ACPI".
"""

from __future__ import annotations

import struct

NAME_OP, STRING_PREFIX, SCOPE_OP, BUFFER_OP, PACKAGE_OP, DEVICE_OP = 0x08, 0x0D, 0x10, 0x11, 0x12, b"\x5b\x82"


def integer(value: int) -> bytes:
    """The shortest encoding of an unsigned number of up to 64 bits."""
    if value in (0, 1):
        return bytes((value,))  # ZeroOp, OneOp
    for prefix, size in ((0x0A, 1), (0x0B, 2), (0x0C, 4), (0x0E, 8)):
        if value < 1 << 8 * size:
            return bytes((prefix,)) + value.to_bytes(size, "little")
    raise ValueError(f"AML has no integer above 64 bits: {value:#x}")


def string(text: str) -> bytes:
    """An ASCII string."""
    return bytes((STRING_PREFIX,)) + text.encode("ascii") + b"\0"


def eisa_id(text: str) -> bytes:
    """A plug-and-play ID such as "PNP0501", packed into a number: three letters of 5 bits, four hex digits."""
    letters = 0
    for letter in text[:3]:
        letters = letters << 5 | ord(letter) - ord("A") + 1
    return integer(int.from_bytes(struct.pack(">HH", letters, int(text[3:], 16)), "little"))


def name_string(path: str) -> bytes:
    """A name of one segment: "_HID", or "\\_SB" from the root."""
    segment = path.removeprefix("\\")
    return (b"\\" if segment != path else b"") + segment.ljust(4, "_").encode("ascii")


def name(path: str, value: bytes) -> bytes:
    """Name(path, value)."""
    return bytes((NAME_OP,)) + name_string(path) + value


def package(*elements: bytes) -> bytes:
    """Package () { elements }."""
    return bytes((PACKAGE_OP,)) + _sized(bytes((len(elements),)) + b"".join(elements))


def buffer(data: bytes) -> bytes:
    """Buffer () { data }."""
    return bytes((BUFFER_OP,)) + _sized(integer(len(data)) + data)


def scope(path: str, *terms: bytes) -> bytes:
    """Scope (path) { terms }."""
    return bytes((SCOPE_OP,)) + _sized(name_string(path) + b"".join(terms))


def device(path: str, *terms: bytes) -> bytes:
    """Device (path) { terms }."""
    return DEVICE_OP + _sized(name_string(path) + b"".join(terms))


def _sized(body: bytes) -> bytes:
    """`body` behind a PkgLength that counts itself: up to 63 in one byte, else a nibble and 1 to 3 bytes more."""
    if len(body) + 1 < 1 << 6:
        return bytes((len(body) + 1,)) + body
    for more in (1, 2, 3):
        length = len(body) + 1 + more
        if length < 1 << 4 + 8 * more:
            return bytes((more << 6 | length & 0xF,)) + (length >> 4).to_bytes(more, "little") + body
    raise ValueError(f"an AML term of {len(body)} bytes is too long")


# ---- resources: what goes into _CRS ----


def resources(*descriptors: bytes) -> bytes:
    """ResourceTemplate () { descriptors }. The checksum of the end tag may be 0, "not given"."""
    return buffer(b"".join(descriptors) + b"\x79\0")


def memory32(address: int, size: int) -> bytes:
    """Memory32Fixed (ReadWrite, address, size)."""
    return struct.pack("<BHBII", 0x86, 9, 1, address, size)


def interrupt(gsi: int, *, level: bool = False) -> bytes:
    """Interrupt (ResourceConsumer, Edge or Level, ActiveHigh, Exclusive) { gsi }."""
    consumer, edge = 1, 0 if level else 2
    return struct.pack("<BHBBI", 0x89, 6, consumer | edge, 1, gsi)


def ports(first: int, count: int) -> bytes:
    """IO (Decode16, first, first, 1, count)."""
    return struct.pack("<BBHHBB", 0x47, 1, first, first, 1, count)


def irq(number: int) -> bytes:
    """IRQNoFlags () { number }: edge, active high, as ISA has it."""
    return struct.pack("<BH", 0x22, 1 << number)
