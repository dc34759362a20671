"""The report as one page of HTML that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from pathlib import Path

from autograder.model import Report

TEMPLATE = Path(__file__).with_name("page.html")


def render(report: Report) -> str:
    """The page. Everything from the student is escaped."""
    import jinja2  # 50 ms that only this format costs

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(report=report)
