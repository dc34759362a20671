"""What a student handed in: which file is which lab."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autograder import notebook
from autograder.notebook import Notebook, NotebookError

LAB_NAME = re.compile(r"lab[ _-]?(\d\d)(?!\d)", re.IGNORECASE)


class SubmissionError(ValueError):
    """There is nothing here that can be graded. The text is one sentence with the remedy."""


@dataclass(frozen=True)
class Submission:
    """The notebooks by lab id. `notes` say what was left out and why, by lab id."""

    name: str
    notebooks: dict[str, Notebook]
    notes: dict[str, list[str]] = field(default_factory=dict)


def find(path: Path, labs: Sequence[str]) -> Submission:
    """The submission at `path`: one notebook, or a folder of them (folders inside included). Raises SubmissionError.

    A notebook says in its metadata which lab it is; without that, its name must hold labNN. Of several for one lab, the
    one called labNN.ipynb counts; where none is called so, that is an error, since a guess could cost the marks.
    """
    if not path.exists():
        raise SubmissionError(f"{path} doesn't exist; give a notebook or a folder of notebooks.")
    files = sorted(notebooks_in(path)) if path.is_dir() else [path]
    if not files:
        raise SubmissionError(f"{path} holds no notebook (.ipynb); give the folder that the labs are in.")
    if path.is_file() and path.suffix not in (".ipynb", ".py"):
        raise SubmissionError(f"{path} is not a notebook; give a .ipynb file or a folder of them.")
    candidates: dict[str, list[Notebook]] = {}
    for file in files:
        try:
            book = notebook.read(file)
        except NotebookError as error:
            if path.is_dir() and file.suffix == ".py":
                continue  # a helper module among the notebooks
            raise SubmissionError(str(error)) from None
        lab = which_lab(book, labs)
        if lab:
            candidates.setdefault(lab, []).append(book)
    if not candidates:
        raise SubmissionError(f"no lab was recognised in {path}: a notebook's name must hold its number (lab01.ipynb).")
    notes: dict[str, list[str]] = {}
    chosen = {lab: choose(lab, books, notes.setdefault(lab, [])) for lab, books in sorted(candidates.items())}
    return Submission(str(path) if path.name else path.resolve().name, chosen, notes)


def notebooks_in(folder: Path) -> Iterable[Path]:
    """Notebooks in a folder and below, without Jupyter's checkpoints and other hidden places."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        for name in names:
            if name.startswith("."):
                continue
            if name.endswith(".ipynb") or (name.endswith(".py") and LAB_NAME.match(name)):
                yield Path(place, name)


def which_lab(book: Notebook, labs: Sequence[str]) -> str:
    """The lab of a notebook, "" where it is none of `labs`."""
    if book.lab in labs:
        return book.lab
    match = LAB_NAME.search(book.path.name)
    return match[1] if match and match[1] in labs else ""


def choose(lab: str, books: Sequence[Notebook], notes: list[str]) -> Notebook:
    """The one that counts. Raises SubmissionError where nothing tells which."""
    if len(books) == 1:
        return books[0]
    for suffix in (".ipynb", ".py"):
        named = [book for book in books if book.path.name.lower() == f"lab{lab}{suffix}"]
        if len(named) == 1:
            others = ", ".join(book.path.name for book in books if book is not named[0])
            notes.append(f"{named[0].path.name} was graded; {others} was left out.")
            return named[0]
    names = " and ".join(str(book.path) for book in books)
    raise SubmissionError(f"lab {lab} is there more than once ({names}): name the one that counts lab{lab}.ipynb.")
