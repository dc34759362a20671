"""Rows and columns, and bytes in hex."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from minivmm.notebook.view import View

CELL = "text-align:left;padding:2px 10px;font-family:monospace;white-space:pre"


class Table(View):
    """A table: `header` names the columns, `rows` holds anything that str() takes."""

    def __init__(self, rows: Iterable[Sequence[Any]], header: Sequence[str] = (), caption: str = "") -> None:
        self.rows = [[str(cell) for cell in row] for row in rows]
        self.header = list(header)
        self.caption = caption

    def text(self) -> str:
        lines = [self.header, *self.rows] if self.header else self.rows
        columns = max((len(line) for line in lines), default=0)
        widths = [max((len(line[i]) for line in lines if i < len(line)), default=0) for i in range(columns)]
        shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)) for line in lines]
        if self.header:
            shown.insert(1, "  ".join("─" * width for width in widths))
        return "\n".join(([self.caption] if self.caption else []) + [line.rstrip() for line in shown])

    def _repr_html_(self) -> str:
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        head = "".join(f'<th style="{CELL}">{escape(name)}</th>' for name in self.header)
        body = "".join(
            "<tr>" + "".join(f'<td style="{CELL}">{escape(cell)}</td>' for cell in row) + "</tr>" for row in self.rows
        )
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def table(rows: Iterable[Sequence[Any]], header: Sequence[str] = (), caption: str = "") -> Table:
    """A table of `rows`."""
    return Table(rows, header, caption)


def hexdump(data: bytes | bytearray | memoryview, start: int = 0) -> Table:
    """Sixteen bytes a line, with the address of the first and the characters beside them. At most 4096 bytes."""
    shown = bytes(data[:4096])
    rows = []
    for at in range(0, len(shown), 16):
        line = shown[at : at + 16]
        letters = "".join(chr(byte) if 0x20 <= byte < 0x7F else "·" for byte in line)
        rows.append((f"{start + at:#010x}", line.hex(" ").ljust(47), letters))
    more = f"the first {len(shown)} of {len(data)} bytes" if len(data) > len(shown) else ""
    return Table(rows, caption=more)
