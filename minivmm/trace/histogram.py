"""A histogram of durations that costs a few hundred numbers however many it has counted.

Buckets grow with the value: each power of two has 32 of them, so a percentile is at most 1/32 too high. That is the
idea of HdrHistogram (hdrhistogram.org), with one fixed precision.
"""

from __future__ import annotations

SUB_BITS = 5  # 2^5 buckets a power of two
PERCENTILES = (50, 90, 99)


class Histogram:
    """Counts values ≥ 0, here nanoseconds. `largest` and `total` are exact."""

    __slots__ = ("_buckets", "count", "largest", "total")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.total = 0
        self.largest = 0

    def add(self, value: int) -> None:
        shift = value.bit_length() - SUB_BITS - 1
        # Below 64 a bucket is one value; above, the highest six bits name it.
        bucket = value if shift <= 0 else (shift << SUB_BITS) + (value >> shift)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.count += 1
        self.total += value
        if value > self.largest:
            self.largest = value

    def percentile(self, percent: float) -> int:
        """A value that `percent` % of those counted don't exceed: the top of its bucket. 0 where none was counted."""
        buckets = sorted(self._buckets.copy().items())  # copied in one step: another thread may be adding
        wanted = max(1.0, sum(count for _, count in buckets) * percent / 100)
        seen = 0
        for bucket, count in buckets:
            seen += count
            if seen >= wanted:
                return min(_top(bucket), self.largest)
        return self.largest

    def merge(self, other: Histogram) -> None:
        """Adds all that `other` has counted."""
        for bucket, count in other._buckets.copy().items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count
        self.count += other.count
        self.total += other.total
        self.largest = max(self.largest, other.largest)

    def microseconds(self) -> dict[str, float]:
        """p50, p90, p99 and max in µs, for a summary."""
        shown = {f"p{percent}": self.percentile(percent) / 1000 for percent in PERCENTILES}
        return {**shown, "max": self.largest / 1000}


def _top(bucket: int) -> int:
    """The largest value that falls into a bucket."""
    if bucket < 2 << SUB_BITS:
        return bucket
    shift = (bucket >> SUB_BITS) - 1
    head = bucket - (shift << SUB_BITS)
    return (head + 1 << shift) - 1
