"""An explanation, as a person reads it: the cause first, then what it was drawn from."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from minivmm.debug.html import page

WIDTH = 100


@dataclass(frozen=True)
class Section:
    """A titled block of lines."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """Why a guest died. `cause` is one sentence, `remedy` what to do, `source` where the rule behind it stands.

    `str()` and `text()` are for a terminal; a notebook shows a table.
    """

    exit: str
    cause: str
    remedy: str = ""
    source: str = ""
    sections: tuple[Section, ...] = ()

    def facts(self) -> list[tuple[str, str]]:
        """Title and sentence of what is known, the exit and the cause first."""
        facts = [("The guest died", self.exit), ("Likely cause", self.cause)]
        facts += [("What to do", self.remedy)] if self.remedy else []
        return facts + ([("Source", self.source)] if self.source else [])

    def text(self) -> str:
        """The whole explanation in lines of at most 100 columns."""
        lines = []
        for title, sentence in self.facts():
            lines += _wrap(f"{title}: {sentence.removesuffix('.')}.")
        for section in self.sections:
            lines += ["", section.title]
            for line in section.lines:
                lines += _wrap(f"  {line}")
        return "\n".join(lines)

    __str__ = text

    def _repr_html_(self) -> str:
        return page(self.facts(), ((section.title, section.lines) for section in self.sections))


def _wrap(line: str) -> list[str]:
    # Columns are aligned with blanks, so a line that fits is left as it is.
    if len(line) <= WIDTH:
        return [line]
    indent = len(line) - len(line.lstrip()) + 4
    return textwrap.wrap(line, WIDTH, subsequent_indent=" " * indent, drop_whitespace=True, break_on_hyphens=False)
