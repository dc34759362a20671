"""labs/ from solutions/: the same source for lecturer and student, so that they can't drift apart.

A cell's header line says what it is: `# %% exercise="01.3"` holds what the student writes for task 01.3, and
`# %% check="01.3"` the locked check of that task with its points. The output is the same byte for byte in every run.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from autograder.model import Lab
from autograder.registry import Registry
from autograder.release_cells import (
    ReleaseError,
    answer_metadata,
    grade_metadata,
    name_of_exercise,
    student_version,
)

__all__ = ["ReleaseError", "differences", "render", "save_all"]

SOURCE = re.compile(r"lab(\d\d)\.py")
IMAGES = (".svg", ".png")
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def render(solutions: Path, registry: Registry) -> dict[str, bytes]:
    """Every file of labs/ by its path there: a notebook for each source, and the images. Raises ReleaseError."""
    sources = sorted(path for path in solutions.glob("lab??.py") if SOURCE.fullmatch(path.name))
    if not sources:
        raise ReleaseError(f"{solutions} holds no labNN.py; give the folder with the sources (--solutions).")
    made: dict[str, bytes] = {}
    for source in sources:
        lab_id = source.stem[3:]
        lab = registry.lab(lab_id) if lab_id in registry.stages else None
        made[f"{source.stem}.ipynb"] = notebook(source, lab_id, lab)
    images = solutions / "img"
    for image in sorted(images.rglob("*")):
        if image.suffix in IMAGES:
            made[image.relative_to(solutions).as_posix()] = image.read_bytes()
    return made


def notebook(path: Path, lab_id: str, lab: Lab | None) -> bytes:
    """The students' notebook of one source, as nbformat 4.5 JSON."""
    import jupytext  # 0.3 s, which `autograder grade` need not pay

    try:
        source = jupytext.read(path, fmt="py:percent")
    except Exception as error:  # jupytext, YAML and nbformat each raise their own
        reason = str(error).partition("\n")[0]
        raise ReleaseError(f"{path.name} can't be read as a py:percent notebook: {reason}.") from None
    taken: set[str] = set()
    cells = [
        release_cell(cell, f"{path.name}, cell {number}", lab_id, lab, number, taken)
        for number, cell in enumerate(source.cells, start=1)
    ]
    metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}, "minivmm": {"lab": lab_id}}
    made = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return (json.dumps(made, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()


def release_cell(cell: Any, place: str, lab_id: str, lab: Lab | None, number: int, taken: set[str]) -> dict[str, Any]:
    """One cell for students. Its id comes from the exercise, else from its place."""
    metadata = dict(cell.metadata)
    task, checks = str(metadata.pop("exercise", "")), str(metadata.pop("check", ""))
    points = metadata.pop("points", None)
    made: dict[str, Any] = {"cell_type": cell.cell_type, "id": f"lab{lab_id}-{number:03}", "metadata": metadata}
    source = cell.source
    if cell.cell_type == "code":
        made |= {"execution_count": None, "outputs": []}
        if task:
            made["id"] = fresh(f"lab{lab_id}-{name_of_exercise(source, task, lab)}", taken, place)
            metadata |= {"minivmm": {"exercise": task}, "nbgrader": answer_metadata(made["id"])}
        source = student_version(source, task, place)
        if checks:
            name = name_of_exercise("", checks, lab)
            made["id"] = fresh(f"lab{lab_id}-{name}-check", taken, place)
            worth = points_of(lab, checks, points, place)
            metadata |= {"minivmm": {"check": checks}, "nbgrader": grade_metadata(made["id"], worth, source)}
    made["source"] = source.splitlines(keepends=True)
    return made


def fresh(id: str, taken: set[str], place: str) -> str:
    """`id`, once. Raises ReleaseError for a second cell of the same name, which nbgrader would refuse."""
    if id in taken:
        raise ReleaseError(f"{place}: another cell already has the id {id!r}; give each task one cell and one check.")
    taken.add(id)
    return id


def points_of(lab: Lab | None, task: str, written: object, place: str) -> int:
    """What a task is worth: the sum of its checks. Raises ReleaseError where the header says something else."""
    worth = sum(check.points for check in lab.check_for(task)) if lab else written
    if not isinstance(worth, int) or (written is not None and written != worth):
        raise ReleaseError(f"{place}: points={written} but the checks of task {task} are worth {worth}; drop points=.")
    return worth


def differences(made: dict[str, bytes], target: Path) -> list[str]:
    """Names of files that are absent from `target`, differ there, or have no source any more."""
    wrong = [
        name for name, data in made.items() if not (target / name).is_file() or (target / name).read_bytes() != data
    ]
    present = [*target.glob("lab??.ipynb"), *(path for path in (target / "img").rglob("*") if path.is_file())]
    stale = [path.relative_to(target).as_posix() for path in present]
    return sorted({*wrong, *(name for name in stale if name not in made)})


def save_all(made: dict[str, bytes], target: Path) -> list[str]:
    """Writes what differs and removes what has no source any more. Returns the names, removed ones not included."""
    changed = []
    for name in differences(made, target):
        path = target / name
        if name in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(made[name])
            changed.append(name)
        else:
            path.unlink()
    return changed
