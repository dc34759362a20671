"""Percentiles against those of the sorted list."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from minivmm.trace.histogram import Histogram

VALUES = st.lists(st.integers(0, 1 << 40), min_size=1, max_size=200)


def filled(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(VALUES, st.sampled_from([1, 50, 90, 99, 100]))
def test_a_percentile_is_at_most_one_thirty_second_too_high(values: list[int], percent: int) -> None:
    exact = sorted(values)[max(1, math.ceil(len(values) * percent / 100)) - 1]
    assert exact <= filled(values).percentile(percent) <= exact + exact // 32


@given(VALUES, VALUES)
def test_merging_is_counting_both(some: list[int], others: list[int]) -> None:
    merged, whole = filled(some), filled(some + others)
    merged.merge(filled(others))
    assert (merged.count, merged.total, merged.largest) == (whole.count, whole.total, whole.largest)
    assert merged.microseconds() == whole.microseconds()


def test_small_values_are_exact() -> None:
    histogram = filled(list(range(64)))
    assert [histogram.percentile(percent) for percent in (50, 100)] == [31, 63]


def test_nothing_counted() -> None:
    assert Histogram().microseconds() == {"p50": 0, "p90": 0, "p99": 0, "max": 0}


def test_it_stays_small() -> None:
    histogram = filled([1_000_000 + 37 * n for n in range(100_000)])
    assert histogram.count == 100_000
    assert len(histogram._buckets) < 150
