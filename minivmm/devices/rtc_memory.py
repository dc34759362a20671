"""What the CMOS memory of a PC says of its RAM. Source: Ralf Brown's Interrupt List, CMOS.LST; above 4 GiB, SeaBIOS."""

from __future__ import annotations

KIB, MIB = 1 << 10, 1 << 20


def cmos_memory(low: int, high: int) -> bytearray:
    """The 128 bytes, with `low` bytes of RAM below 4 GiB and `high` above. A size that doesn't fit is the largest."""
    extended = max(low - MIB, 0) // KIB
    cmos = bytearray(128)
    for register, size, value in (
        (0x15, 2, 640),  # base memory, in KiB
        (0x17, 2, extended),  # from 1 MiB, in KiB: what was asked for …
        (0x30, 2, extended),  # … and what was found
        (0x34, 2, max(low - 16 * MIB, 0) // (64 * KIB)),  # from 16 MiB, in 64 KiB
        (0x5B, 3, high // (64 * KIB)),  # from 4 GiB, in 64 KiB
    ):
        cmos[register : register + size] = min(value, (1 << 8 * size) - 1).to_bytes(size, "little")
    return cmos
