"""What all ACPI tables have in common: the header of a System Description Table, and a checksum.

Source: ACPI specification, "System Description Table Header".
"""

from __future__ import annotations

import struct

HEADER = struct.Struct("<4sIBB6s8sI4sI")


def sdt(signature: str, revision: int, body: bytes) -> bytes:
    """A whole table: the 36 bytes of the header, its checksum right, then `body`."""
    header = HEADER.pack(
        signature.encode("ascii"), HEADER.size + len(body), revision, 0, b"MINVMM", b"MINIVMM ", 1, b"MVMM", 1
    )
    return with_checksum(header + body, 9)


def with_checksum(table: bytes, at: int) -> bytes:
    """The table with its byte at offset `at`, now 0, set such that all bytes add up to 0."""
    return table[:at] + bytes((-sum(table) & 0xFF,)) + table[at + 1 :]
