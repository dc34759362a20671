"""Reads py:percent files, as far as grading needs: the cells, their kinds and the options in their header lines.

jupytext, which writes and fully reads the format, takes 2.5 s to import (through nbformat, jsonschema and a grammar
that is compiled at every start); a whole submission is graded in less. `tests/autograder/test_percent.py` holds the two
against each other. Source: jupytext's documentation, "Notebooks as scripts: the percent format".
"""

from __future__ import annotations

import re
from typing import Any

MARKER = re.compile(r"^# %%(?P<title>[^\[\n=]*?)(?:\[(?P<kind>\w+)\])?(?P<options>(?:\s+[\w.]+=.*)?)\s*$")
OPTION = re.compile(r"""([\w.]+)=(?:"([^"]*)"|'([^']*)'|(\S+))""")
FRONT_MATTER = re.compile(r"\A# ---\n(?:#.*\n)*?# ---\n")
LAB = re.compile(r"""^#\s+lab: *["']?(\w+)["']?\s*$""", re.MULTILINE)


def read(text: str) -> dict[str, Any]:
    """The notebook in a py:percent text, in the shape of a .ipynb."""
    front = FRONT_MATTER.match(text)
    lab = LAB.search(front.group()) if front else None
    cells: list[dict[str, Any]] = []
    lines: list[str] = []
    header = None
    for line in text[front.end() if front else 0 :].split("\n"):
        marker = MARKER.match(line)
        if marker is None:
            lines.append(line)
            continue
        _add(cells, header, lines)
        header, lines = marker, []
    _add(cells, header, lines)
    return {"cells": cells, "metadata": {"minivmm": {"lab": lab[1]}} if lab else {}}


def _add(cells: list[dict[str, Any]], header: re.Match[str] | None, lines: list[str]) -> None:
    source = "\n".join(lines).strip("\n")
    if header is None and not source:
        return  # nothing before the first marker
    kind = {"markdown": "markdown", "md": "markdown", "raw": "raw"}.get(header["kind"] or "" if header else "", "code")
    if kind != "code":
        source = re.sub(r"^# ?", "", source, flags=re.MULTILINE)
    options = OPTION.findall(header["options"]) if header else []
    cells.append({"cell_type": kind, "metadata": {name: a or b or c for name, a, b, c in options}, "source": source})
