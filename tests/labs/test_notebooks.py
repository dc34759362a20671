"""Every lab runs from top to bottom in a fresh kernel: with the answers, and as students get it."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

from autograder import registry
from autograder.release import notebook
from minivmm import resources

LABS = registry.installed()
SOLUTIONS = resources.folder("solutions")
SECONDS = 60  # for one cell, on a busy machine

pytestmark = pytest.mark.parametrize("lab", LABS.ids)


def solution_of(lab: str) -> Any:
    return jupytext.read(SOLUTIONS / f"lab{lab}.py", fmt="py:percent")


def student_version_of(lab: str) -> Any:
    return nbformat.reads(notebook(SOLUTIONS / f"lab{lab}.py", lab, LABS.lab(lab)).decode(), as_version=4)


@cache
def cells_of(lab: str) -> tuple[Any, ...]:
    """What a student reads."""
    return tuple(student_version_of(lab).cells)


def run(book: Any, folder: Path) -> list[Any]:
    """The code cells after a run; an exception in one is part of its outputs."""
    client = NotebookClient(
        book, timeout=SECONDS, kernel_name="python3", allow_errors=True, resources={"metadata": {"path": str(folder)}}
    )
    return [cell for cell in client.execute().cells if cell.cell_type == "code"]


def text_of(cell: Any) -> str:
    """What a terminal would show of a cell's outputs."""
    parts = [output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "\n".join(parts)


def errors_in(cells: list[Any]) -> list[str]:
    """Exceptions and tracebacks, with the cell that shows them."""
    found = []
    for cell in cells:
        raised = [f"{out.ename}: {out.evalue}" for out in cell.outputs if out.output_type == "error"]
        found += [f"{what} in\n{cell.source}" for what in raised]
        if "Traceback (most recent call last)" in text_of(cell):
            found.append(f"a traceback in\n{cell.source}")
    return found


def is_check(cell: Any) -> bool:
    return cell.cell_type == "code" and re.search(r"^check\(", cell.source, re.MULTILINE) is not None


# ---- running ----


def test_the_solution_runs_and_passes_its_checks(lab: str, tmp_path: Path) -> None:
    cells = run(solution_of(lab), tmp_path)
    assert errors_in(cells) == []
    checks = [cell for cell in cells if is_check(cell)]
    assert checks
    for cell in checks:
        lines = text_of(cell).splitlines()
        assert lines, cell.source
        assert all(line.startswith("✓") for line in lines), f"{cell.source}\n{text_of(cell)}"


def test_the_untouched_lab_fails_politely(lab: str, tmp_path: Path) -> None:
    cells = run(student_version_of(lab), tmp_path)
    assert errors_in(cells) == []
    checks = [cell for cell in cells if is_check(cell)]
    assert checks
    for cell in checks:
        assert "isn't written yet" in text_of(cell), f"{cell.source}\n{text_of(cell)}"
        assert "✓" not in text_of(cell), f"a stub passes:\n{cell.source}\n{text_of(cell)}"


# ---- the shape of a lab ----


def prose_of(cell: Any) -> list[str]:
    """The words that are on the page before a hint is opened; pictures are none."""
    text = re.sub(r"<details>.*?</details>", "", cell.source, flags=re.DOTALL)
    text = re.sub(r"!\[.*?\]\(.*?\)|<[^>]+>", "", text)
    return [word for word in text.split() if re.search(r"\w", word)]


def median(numbers: list[int]) -> int:
    return sorted(numbers)[len(numbers) // 2]


def test_prose_is_short(lab: str) -> None:
    words = [len(prose_of(cell)) for cell in cells_of(lab) if cell.cell_type == "markdown"]
    assert median([number for number in words if number]) < 65


def test_code_cells_are_short(lab: str) -> None:
    lines = [
        sum(bool(line.strip()) for line in cell.source.splitlines())
        for cell in cells_of(lab)
        if cell.cell_type == "code"
    ]
    assert sum(number < 10 for number in lines) >= 0.9 * len(lines), sorted(lines)[-8:]


def test_a_check_comes_at_least_every_six_cells(lab: str) -> None:
    places = [place for place, cell in enumerate(cells_of(lab)) if is_check(cell)]
    assert max(after - before for before, after in pairwise([-1, *places])) <= 6


def test_every_task_has_its_cell_and_its_check(lab: str) -> None:
    tasks = {check.task for check in LABS.lab(lab).checks}
    labelled = [cell.metadata.get("minivmm", {}) for cell in cells_of(lab)]
    assert sorted(each["exercise"] for each in labelled if "exercise" in each) == sorted(tasks)
    assert sorted(each["check"] for each in labelled if "check" in each) == sorted(tasks)


def test_every_prediction_is_revealed(lab: str) -> None:
    code = "\n".join(cell.source for cell in cells_of(lab) if cell.cell_type == "code")
    predicted = re.findall(r'\bpredict\("([^"]+)"', code)
    assert predicted
    assert len(set(predicted)) == len(predicted)
    assert sorted(predicted) == sorted(re.findall(r'\breveal\(\s*"([^"]+)"', code))


def test_pictures_exist_and_are_described(lab: str) -> None:
    text = "\n".join(cell.source for cell in cells_of(lab) if cell.cell_type == "markdown")
    pictures = re.findall(r"!\[(.*?)\]\((.*?)\)", text)
    assert pictures
    for words, path in pictures:
        assert words, f"{path} needs a text for those who can't see it"
        assert (SOLUTIONS / path).is_file(), path


def test_hints_are_collapsed_and_climb(lab: str) -> None:
    for cell in cells_of(lab):
        opened = re.findall(r"<details>\s*<summary>(.*?)</summary>", cell.source, re.DOTALL)
        assert len(opened) == cell.source.count("<details>") == cell.source.count("</details>"), cell.source
    text = "\n".join(cell.source for cell in cells_of(lab))
    tasks = {check.task for check in LABS.lab(lab).checks}
    assert text.count("<details>") >= 3 * len(tasks), "a nudge, the idea, nearly the answer: three for each task"


def test_hints_are_written_in_html(lab: str) -> None:
    """Inside of an HTML block Markdown is not read: backticks would be shown, and a bare < taken for a tag."""
    for cell in cells_of(lab):
        for hint in re.findall(r"<details>.*?</details>", cell.source, re.DOTALL):
            assert "`" not in hint, hint
            assert re.findall(r"<(?!/?(?:details|summary|code|em|i|b)>)", hint) == [], hint


def test_every_section_cites_a_source(lab: str) -> None:
    text = "\n".join(cell.source for cell in cells_of(lab) if cell.cell_type == "markdown")
    sections = [section for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:] if re.match(r"\d", section)]
    assert sections
    assert [section.partition("\n")[0] for section in sections if not re.search(r"Sources?:", section)] == []


# ---- the checks of a lab ----


def test_checks_guests_and_points(lab: str) -> None:
    checks = LABS.lab(lab).checks
    assert len(checks) >= 8
    assert len({guest for check in checks for guest in check.guests}) >= 4
    assert sum(check.points for check in checks) == 20
    assert all(check.hints for check in checks)
