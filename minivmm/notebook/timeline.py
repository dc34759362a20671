"""The exits of a run, one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from minivmm.notebook.table import Table

SHOWN = 60


def folded(lines: Iterable[str]) -> list[tuple[str, int]]:
    """Neighbours that are the same as one line with a count, as a loop in a guest makes them."""
    return [(line, len(list(same))) for line, same in groupby(lines)]


def timeline(exits: Iterable[Any]) -> Table:
    """The exits in order: number, what happened, how often in a row. Long runs keep their start and their end."""
    listed = [str(exit) for exit in exits]
    rows: list[tuple[str, str, str]] = []
    number = 1
    for line, times in folded(listed):
        rows.append((str(number), line, f"× {times}" if times > 1 else ""))
        number += times
    if len(rows) > SHOWN:
        half = SHOWN // 2
        rows = [*rows[:half], ("…", f"{len(rows) - SHOWN} more lines", ""), *rows[-half:]]
    return Table(rows, ("#", "exit", ""), caption=f"{len(listed)} exit{'s' if len(listed) != 1 else ''}")
