"""The tables that the benchmarks print."""

from __future__ import annotations

import os
from collections.abc import Iterable

from rich.table import Table


def new_table(title: str, columns: Iterable[str], *, busy: bool = False) -> Table:
    """An empty one. With `busy` it says how busy the machine was when it was begun."""
    table = Table(title=title, title_justify="left", caption=load() if busy else None, caption_justify="left")
    for column in columns:
        table.add_column(column)
    return table


def load() -> str:
    """How busy the machine is."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
