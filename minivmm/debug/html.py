"""The explanation as a table in a notebook. Guests write what they like, so every word is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minivmm.debug.explanation import Explanation

_TABLE = "border-collapse:collapse;text-align:left"
_CELL = "text-align:left;vertical-align:top;padding:.3em .8em .3em 0"
_LINES = "margin:0;white-space:pre;font-size:.9em"


def page(explanation: Explanation) -> str:
    """One table: a row for the cause, one for each section."""
    rows = [
        _row("The guest died", escape(explanation.exit)),
        _row("Likely cause", f"<strong>{escape(explanation.cause)}</strong>"),
    ]
    rows += [_row("What to do", escape(explanation.remedy))] if explanation.remedy else []
    rows += [_row("Source", f"<em>{escape(explanation.source)}</em>")] if explanation.source else []
    for section in explanation.sections:
        lines = escape("\n".join(section.lines))
        rows.append(_row(section.title, f'<pre style="{_LINES}">{lines}</pre>'))
    return f'<table style="{_TABLE}"><tbody>{"".join(rows)}</tbody></table>'


def _row(title: str, content: str) -> str:
    return f'<tr><th style="{_CELL}">{escape(title)}</th><td style="{_CELL}">{content}</td></tr>'
