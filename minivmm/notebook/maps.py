"""Pictures of guest memory: where the slots lie, and which pages were written how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from minivmm.notebook.view import View

SHADES = " ░▒▓█"
COLUMNS = 32


class MemoryMap(View):
    """Slots and holes from address 0 up, one line each."""

    def __init__(self, slots: Iterable[Any], end: int | None = None) -> None:
        self.rows: list[tuple[int, int, str]] = []
        at = 0
        for slot in sorted(slots, key=lambda each: each.gpa):
            if slot.gpa > at:
                self.rows.append((at, slot.gpa, ""))
            self.rows.append((slot.gpa, slot.gpa + slot.size, str(slot)))
            at = slot.gpa + slot.size
        if end is not None and end > at:
            self.rows.append((at, end, ""))

    def text(self) -> str:
        if not self.rows:
            return "no memory slots"
        return "\n".join(
            f"{start:#012x}  {'█' if what else '·'}  {_size(stop - start):>9}  {what or 'hole: access exits as MMIO'}"
            for start, stop, what in self.rows
        )


def memory_map(slots: Iterable[Any], end: int | None = None) -> MemoryMap:
    """Slots (anything with `gpa` and `size` in bytes) and the holes between them, up to `end`."""
    return MemoryMap(slots, end)


class HeatMap(View):
    """One square a page, darker for more writes."""

    def __init__(self, counts: Mapping[int, int], pages: int) -> None:
        self.counts = dict(counts)
        self.pages = pages
        self.most = max(self.counts.values(), default=0)

    def _shade(self, page: int) -> int:
        count = self.counts.get(page, 0)
        return 0 if not count else max(1, round(4 * count / self.most))

    def text(self) -> str:
        lines = []
        for first in range(0, self.pages, COLUMNS):
            row = "".join(SHADES[self._shade(page)] for page in range(first, min(first + COLUMNS, self.pages)))
            lines.append(f"page {first:>5} │{row}│")
        hottest = f", the hottest {self.most} times" if self.most > 1 else ""
        return "\n".join([*lines, f"{len(self.counts)} of {self.pages} pages written{hottest}"])

    def _repr_html_(self) -> str:
        colours = ("#eef1f4", "#fdd49e", "#fc8d59", "#d7301f", "#7f0000")
        side, squares = 14, []
        for page in range(self.pages):
            x, y = page % COLUMNS * side, page // COLUMNS * side
            title = f"page {page}: {self.counts.get(page, 0)} writes"
            squares.append(
                f'<rect x="{x}" y="{y}" width="{side - 2}" height="{side - 2}" fill="{colours[self._shade(page)]}">'
                f"<title>{escape(title)}</title></rect>"
            )
        width, height = COLUMNS * side, -(-self.pages // COLUMNS) * side
        caption = escape(self.text().rsplit("\n", 1)[-1])
        return f'<svg width="{width}" height="{height}" role="img">{"".join(squares)}</svg><br><small>{caption}</small>'


def heat_map(pages: Mapping[int, int] | Iterable[int], total: int) -> HeatMap:
    """Page numbers (or a mapping of page number to count) out of `total` pages, drawn as a grid."""
    return HeatMap(pages if isinstance(pages, Mapping) else Counter(pages), total)


def _size(size: int) -> str:
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << shift:
            return (
                f"{size / (1 << shift):g} {unit}" if size % (1 << shift) == 0 else f"{size / (1 << shift):.1f} {unit}"
            )
    return f"{size} B"
