"""The base of everything that shows itself."""

from __future__ import annotations

from html import escape


class View:
    """Something to look at: `_repr_html_` for Jupyter, `text` for a terminal; by default the one wraps the other."""

    def text(self) -> str:
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return f'<pre style="font-family:monospace;line-height:1.35">{escape(self.text())}</pre>'

    def __repr__(self) -> str:
        return self.text()
