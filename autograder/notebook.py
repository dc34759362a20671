"""A notebook as the grader sees it: its code cells, each with the names it can be found by."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder import percent

LONGEST = 32 << 20  # bytes of a notebook; one without outputs has about 60 KiB, pictures in outputs make it larger


class NotebookError(ValueError):
    """A file is no notebook that we can read. The text is one sentence with the remedy."""


@dataclass(frozen=True)
class Cell:
    """One cell. `label` is what feedback calls it and what its code is compiled under; `ids` are its cell id, its
    nbgrader grade_id and the exercise that the notebook's metadata says it holds."""

    label: str
    source: str
    ids: frozenset[str]
    kind: str = "code"


@dataclass(frozen=True)
class Notebook:
    """The cells of one file in order, and the lab that its metadata names ("" where it names none)."""

    path: Path
    lab: str
    cells: tuple[Cell, ...]


def read(path: Path) -> Notebook:
    """Reads a .ipynb, or a .py in the percent format. Raises NotebookError."""
    try:
        if path.stat().st_size > LONGEST:
            raise NotebookError(f"{path} has more than {LONGEST >> 20} MiB; clear its outputs and save it again.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise NotebookError(f"{path} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise NotebookError(f"{path} is not a notebook: it is not text in UTF-8. Save it from Jupyter again.") from None
    data = percent.read(text) if path.suffix == ".py" else _from_json(text, path)
    metadata = _dict(_dict(data.get("metadata")).get("minivmm"))
    lab = metadata.get("lab")
    return Notebook(path, lab if isinstance(lab, str) else "", tuple(_cells(data.get("cells"))))


def _from_json(text: str, path: Path) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise NotebookError(f"{path} is not a notebook: it is not JSON. Save it from Jupyter again.") from None
    if not isinstance(data, dict) or not isinstance(data.get("cells"), list):
        raise NotebookError(f"{path} is not a notebook: it has no list of cells. Save it from Jupyter again.") from None
    return data


def _cells(cells: object) -> Iterable[Cell]:
    labels: Counter[str] = Counter()
    number = 0
    for cell in cells if isinstance(cells, list) else []:
        if not isinstance(cell, dict):
            continue
        kind = cell.get("cell_type")
        number += kind == "code"
        metadata = _dict(cell.get("metadata"))
        ours = _dict(metadata.get("minivmm"))
        exercise = ours.get("exercise") or metadata.get("exercise")
        names = (cell.get("id"), _dict(metadata.get("nbgrader")).get("grade_id"), exercise)
        label = f"cell {exercise}" if isinstance(exercise, str) else f"cell {number}"
        labels[label] += 1
        if labels[label] > 1:
            label = f"{label} (copy {labels[label]})"
        ids = frozenset(name for name in names if isinstance(name, str))
        yield Cell(label, _source(cell.get("source")), ids, kind if isinstance(kind, str) else "")


def _source(source: object) -> str:
    """nbformat 4 allows a string or a list of lines."""
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    return source if isinstance(source, str) else ""


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
