"""Numbers that a student cannot guess and a lecturer can reproduce: the seed is in the report."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Nonces:
    """The random numbers of one check in one run: HMAC-SHA256 of (lab, check, run, label), keyed by the seed.

    The same arguments always give the same numbers, on every machine and Python, so a seed replays a run exactly.
    Two labels are independent of each other, so adding a number to a check does not change the others.
    Source: RFC 2104 (HMAC); numbers are read from the digest big end first.
    """

    seed: int
    lab: str
    check: str
    run: int = 0

    def bytes(self, label: str, n: int) -> bytes:
        """`n` bytes. Longer strings come from further digests, counted."""
        key = str(self.seed).encode()
        name = f"{self.lab}\0{self.check}\0{self.run}\0{label}\0"
        blocks = range((n + 31) // 32)
        return b"".join(hmac.digest(key, f"{name}{block}".encode(), hashlib.sha256) for block in blocks)[:n]

    def u64(self, label: str) -> int:
        """A number from 0 to 2**64 - 1."""
        return int.from_bytes(self.bytes(label, 8), "big")

    def range(self, label: str, lo: int, hi: int) -> int:
        """A number from `lo` to `hi - 1`, like `range`. Raises ValueError where there is none."""
        if hi <= lo:
            raise ValueError(f"no number lies from {lo} up to {hi}; give a range with hi > lo")
        # 128 bits, so that the remainder favours no value by more than 2**-64.
        return lo + int.from_bytes(self.bytes(label, 16), "big") % (hi - lo)

    def choice(self, label: str, seq: Sequence[T]) -> T:
        """One of `seq`. Raises ValueError where it is empty."""
        return seq[self.range(label, 0, len(seq))]

    def shuffled(self, label: str, items: Iterable[T]) -> list[T]:
        """All of `items`, in an order that comes from their own numbers: each must have a `str` of its own."""
        return sorted(items, key=lambda item: self.u64(f"{label} {item}"))
