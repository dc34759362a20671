"""Canonical addresses: the 64-bit addresses that long mode accepts.

A processor with 4-level paging translates 48 bits. It insists that the other 16 copy bit 47, so that nobody can hide
data in them and be surprised by a later processor. That leaves two halves with a huge hole between.

Source: SDM vol. 1, "Canonical Addressing"; APM vol. 2, "Canonical Address Form".
"""

from __future__ import annotations

ADDRESS_BITS_4_LEVEL = 48
ADDRESS_BITS_5_LEVEL = 57


def sign_extend(address: int, bits: int = ADDRESS_BITS_4_LEVEL) -> int:
    """The canonical address (unsigned, 64 bits) that has the low `bits` bits of `address`."""
    low = address & (1 << bits) - 1
    if low >> bits - 1:
        low |= (1 << 64) - (1 << bits)
    return low


def is_canonical(address: int, bits: int = ADDRESS_BITS_4_LEVEL) -> bool:
    """True where bits 63 … `bits`-1 of the unsigned 64-bit `address` are all the same."""
    return 0 <= address < 1 << 64 and sign_extend(address, bits) == address
