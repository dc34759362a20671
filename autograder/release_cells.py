"""One cell on its way to the students: the answer cut out, the metadata that nbgrader reads put in.

Source: nbgrader's metadata schema 3 (nbgrader/nbgraderformat/v3.py) and its ClearSolutions and ClearHiddenTests.
"""

from __future__ import annotations

import ast
import hashlib
import re
from typing import Any

from autograder.model import Lab

SOLUTION = ("### BEGIN SOLUTION", "### END SOLUTION")
HIDDEN = ("### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS")


class ReleaseError(ValueError):
    """A source can't be released as it is. The text is one sentence with the place and the remedy."""


def cut(source: str, markers: tuple[str, str], stub: tuple[str, ...], place: str) -> tuple[str, bool]:
    """`source` with every region between `markers` replaced by the lines of `stub`, indented as the region was.

    Returns the new source and whether there was a region. Raises ReleaseError where markers don't pair up.
    """
    begin, end = markers
    lines: list[str] = []
    inside = found = False
    for line in source.split("\n"):
        if begin in line:
            if inside:
                raise ReleaseError(f"{place}: a second `{begin}` comes before `{end}`; close the first region.")
            inside = found = True
            indent = line[: len(line) - len(line.lstrip())]
            lines += [indent + text for text in stub]
        elif end in line:
            if not inside:
                raise ReleaseError(f"{place}: `{end}` without `{begin}`; add the line that begins the region.")
            inside = False
        elif not inside:
            lines.append(line)
    if inside:
        raise ReleaseError(f"{place}: `{begin}` without `{end}`; add the line that ends the region.")
    return "\n".join(lines), found


def student_version(source: str, task: str, place: str) -> str:
    """A code cell without its answer. Raises ReleaseError where answer and task do not go together."""
    stub = ("# YOUR CODE HERE", f'raise NotImplementedError("task {task}")')
    source, found = cut(source, SOLUTION, stub, place)
    if found and not task:
        raise ReleaseError(f'{place}: the cell has a solution but no task; write `# %% exercise="01.3"` above it.')
    if task and not found:
        raise ReleaseError(f"{place}: the cell of task {task} has no `{SOLUTION[0]}`; mark what students must write.")
    return cut(source, HIDDEN, (), place)[0]


def name_of_exercise(source: str, task: str, lab: Lab | None) -> str:
    """What the cell of a task defines: the exercise that the stage names, else its last definition, else the task."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        body = []
    defined = [node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    exercises = [check.exercise for check in lab.check_for(task)] if lab else []
    known = [name for name in exercises if name in defined] or exercises[:1]
    return (known or defined[-1:] or [re.sub(r"\W", "-", task)])[0]


def answer_metadata(grade_id: str) -> dict[str, Any]:
    """An autograded answer: the student writes it, a grade cell holds its points."""
    return {"schema_version": 3, "grade": False, "grade_id": grade_id, "locked": False, "solution": True, "task": False}


def grade_metadata(grade_id: str, points: int, source: str) -> dict[str, Any]:
    """A locked cell with tests and points. The checksum lets nbgrader see that a student changed it."""
    kind = {"grade": True, "locked": True, "solution": False}
    # nbgrader.utils.compute_checksum: source, type, grade, solution, locked, id and points, in this order.
    parts = (source, "code", "True", "False", "True", grade_id, str(float(points)))
    checksum = hashlib.md5("".join(parts).encode(), usedforsecurity=False).hexdigest()
    return {
        "schema_version": 3,
        **kind,
        "grade_id": grade_id,
        "points": points,
        "task": False,
        "cell_type": "code",
        "checksum": checksum,
    }
