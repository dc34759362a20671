"""The last exits in lines, repeats folded: sixty-four polls of one port say no more than "× 64"."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

LONGEST_PERIOD = 4  # exits; a polling loop rarely has more


def fold(lines: Sequence[str]) -> list[str]:
    """Oldest first. A line, or a group of up to four lines, that repeats is shown once, with the number of times."""
    folded: list[str] = []
    at = 0
    while at < len(lines):
        period, times = _repeat(lines, at)
        if times == 1:
            folded.append(lines[at])
        elif period == 1:
            folded.append(f"{lines[at]}  × {times}")
        else:
            group = list(lines[at : at + period])
            folded += [*group[:-1], f"{group[-1]}  (these {period}) × {times}"]
        at += period * times
    return folded


def _repeat(lines: Sequence[str], at: int) -> tuple[int, int]:
    """The period and the number of repeats at `at` that cover most lines; (1, 1) where nothing repeats."""
    best = (1, 1)
    for period in range(1, LONGEST_PERIOD + 1):
        group, times = lines[at : at + period], 1
        while len(group) == period and lines[at + period * times : at + period * (times + 1)] == group:
            times += 1
        if times > 1 and period * times > best[0] * best[1]:
            best = (period, times)
    return best


def last(exits: Iterable[object], count: int = 64) -> list[str]:
    """The last `count` exits, most recent last, folded."""
    everything = list(exits)
    return fold([str(exit) for exit in islice(everything, max(0, len(everything) - count), None)])
