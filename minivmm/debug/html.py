"""The explanation as a table in a notebook. Guests write what they like, so every word is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_TABLE = "border-collapse:collapse;text-align:left"
_CELL = "text-align:left;vertical-align:top;padding:.3em .8em .3em 0"
_LINES = "margin:0;white-space:pre;font-family:monospace;font-size:.9em"


def page(facts: Iterable[tuple[str, str]], blocks: Iterable[tuple[str, Sequence[str]]]) -> str:
    """One table: a row for each fact (title, sentence), then one for each block of lines (title, lines)."""
    rows = [_row(title, escape(sentence)) for title, sentence in facts]
    for title, lines in blocks:
        text = escape("\n".join(lines))
        rows.append(_row(title, f'<pre style="{_LINES}">{text}</pre>'))
    return f'<table style="{_TABLE}"><tbody>{"".join(rows)}</tbody></table>'


def _row(title: str, content: str) -> str:
    return f'<tr><th style="{_CELL}">{escape(title)}</th><td style="{_CELL}">{content}</td></tr>'
