"""Binary-coded decimal: four bits a digit, as the chips of the first PCs like to count. Numbers have up to 16 bits."""

from __future__ import annotations

DIGITS = 4


def from_bcd(value: int) -> int:
    """The number that the digits of `value` make; a "digit" above 9 counts for what it is, as in the chips."""
    return sum((value >> 4 * place & 0xF) * 10**place for place in range(DIGITS))


def to_bcd(number: int) -> int:
    """The last four digits of `number`."""
    return sum(number // 10**place % 10 << 4 * place for place in range(DIGITS))
