"""labs/ from solutions/: no answer left, the same bytes every time, and nothing that nbgrader refuses."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from click.testing import CliRunner
from nbgrader.api import Gradebook
from nbgrader.nbgraderformat.v3 import MetadataValidatorV3
from nbgrader.preprocessors import (
    CheckCellMetadata,
    ClearHiddenTests,
    ClearSolutions,
    ComputeChecksums,
    LockCells,
    SaveCells,
)
from nbgrader.utils import compute_checksum
from traitlets.config import Config

from autograder import cli
from autograder.registry import Registry
from autograder.release import ReleaseError, differences, render, save_all

SOURCE = '''# %% [markdown]
# # A toy
#
# ![a picture](img/lab70/toy.svg)

# %%
import math

# %% [markdown]
# <details><summary>Hint 1</summary>Add them.</details>

# %% exercise="70.1"
def add(a, b):
    """The sum of two numbers."""
    ### BEGIN SOLUTION
    return a + b
    ### END SOLUTION


# %% check="70.1"
check("70.1", add)
### BEGIN HIDDEN TESTS
assert add(1, 2) == 3
### END HIDDEN TESTS

# %% exercise="70.4"
def root(n):
    if n < 0:
        ### BEGIN SOLUTION
        raise ValueError("negative")
        ### END SOLUTION
    ### BEGIN SOLUTION
    return math.isqrt(n)
    ### END SOLUTION


check("70.4", root)
'''
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>"


@pytest.fixture
def solutions(tmp_path: Path) -> Path:
    folder = tmp_path / "solutions"
    (folder / "img" / "lab70").mkdir(parents=True)
    (folder / "lab70.py").write_text(SOURCE)
    (folder / "img" / "lab70" / "toy.svg").write_bytes(SVG)
    return folder


@pytest.fixture
def released(solutions: Path, registry: Registry) -> dict[str, Any]:
    return json.loads(render(solutions, registry)["lab70.ipynb"])  # type: ignore[no-any-return]


def test_answers_are_replaced_by_the_stub_at_their_indentation(released: dict[str, Any]) -> None:
    sources = ["".join(cell["source"]) for cell in released["cells"]]
    assert sources[3] == (
        'def add(a, b):\n    """The sum of two numbers."""\n    # YOUR CODE HERE\n'
        '    raise NotImplementedError("task 70.1")'
    )
    assert sources[4] == 'check("70.1", add)'
    assert '        # YOUR CODE HERE\n        raise NotImplementedError("task 70.4")\n' in sources[5]
    text = json.dumps(released)
    for word in ("SOLUTION", "HIDDEN", "isqrt", "a + b", "negative"):
        assert word not in text


def test_cells_carry_ids_and_metadata(released: dict[str, Any]) -> None:
    assert [cell["id"] for cell in released["cells"]] == [
        "lab70-001",
        "lab70-002",
        "lab70-003",
        "lab70-add",
        "lab70-add-check",
        "lab70-root",
    ]
    answer, grade = (released["cells"][index]["metadata"] for index in (3, 4))
    assert answer["minivmm"] == {"exercise": "70.1"}
    assert (answer["nbgrader"]["grade"], answer["nbgrader"]["solution"]) == (False, True)
    assert (grade["nbgrader"]["grade"], grade["nbgrader"]["locked"], grade["nbgrader"]["points"]) == (True, True, 2)
    assert released["metadata"]["minivmm"] == {"lab": "70"}
    assert "<details><summary>Hint 1</summary>Add them.</details>" in "".join(released["cells"][2]["source"])


def test_the_notebook_is_valid_and_nbgrader_accepts_it(released: dict[str, Any]) -> None:
    book = nbformat.reads(json.dumps(released), as_version=4)
    nbformat.validate(book)
    MetadataValidatorV3().validate_nb(book)
    for cell in book.cells:
        if "checksum" in cell.metadata.get("nbgrader", {}):
            assert cell.metadata.nbgrader.checksum == compute_checksum(cell)


def test_nbgrader_makes_the_same_from_the_source(
    released: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our notebook, with the answers put back, through the steps of `nbgrader generate_assignment`."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)  # SaveCells runs `alembic`
    book = nbformat.reads(json.dumps(released), as_version=4)
    book.cells[3].source = SOURCE.split('"70.1"\n')[1].split("\n\n\n")[0]
    book.cells[4].source = SOURCE.split('check="70.1"\n')[1].split("\n\n# %%")[0]
    book.cells[5].source = SOURCE.split('exercise="70.4"\n')[1].rstrip()
    config = Config()
    config.ClearSolutions.code_stub = {"python": '# YOUR CODE HERE\nraise NotImplementedError("task 70.1")'}
    resources = {
        "nbgrader": {"notebook": "lab70", "assignment": "lab70", "db_url": f"sqlite:///{tmp_path}/gradebook.db"}
    }
    with Gradebook(resources["nbgrader"]["db_url"]) as gradebook:
        gradebook.add_assignment("lab70")
    steps = (LockCells, ClearSolutions, CheckCellMetadata, ComputeChecksums, SaveCells, ClearHiddenTests)
    for step in (*steps, ComputeChecksums, CheckCellMetadata):
        book, resources = step(config=config).preprocess(book, resources)
    ours = ["".join(cell["source"]).replace("task 70.4", "task 70.1") for cell in released["cells"]]
    assert [cell.source.rstrip("\n") for cell in book.cells] == [source.rstrip("\n") for source in ours]


def test_the_output_is_the_same_byte_for_byte(solutions: Path, registry: Registry) -> None:
    assert render(solutions, registry) == render(solutions, registry)


def test_save_then_check_then_change(solutions: Path, registry: Registry, tmp_path: Path) -> None:
    labs = tmp_path / "labs"
    made = render(solutions, registry)
    assert differences(made, labs) == ["img/lab70/toy.svg", "lab70.ipynb"]
    assert save_all(made, labs) == ["img/lab70/toy.svg", "lab70.ipynb"]
    assert differences(made, labs) == []
    assert save_all(made, labs) == []
    (labs / "lab70.ipynb").write_text("{}")
    (labs / "lab69.ipynb").write_text("{}")
    shutil.rmtree(labs / "img")
    assert differences(made, labs) == ["img/lab70/toy.svg", "lab69.ipynb", "lab70.ipynb"]
    save_all(made, labs)
    assert not (labs / "lab69.ipynb").exists()
    assert (labs / "img/lab70/toy.svg").read_bytes() == SVG


def test_the_command(solutions: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autograder.registry.installed", lambda: registry)
    run = CliRunner()
    options = ["release", "--solutions", str(solutions)]
    result = run.invoke(cli.main, [*options, "--check"])
    assert result.exit_code == 1
    assert "lab70.ipynb differs from its source; run `autograder release`." in result.stderr
    assert run.invoke(cli.main, options).exit_code == 0
    result = run.invoke(cli.main, [*options, "--check"])
    assert (result.exit_code, result.output) == (0, "")
    (solutions / "lab70.py").unlink()
    result = run.invoke(cli.main, options)
    assert result.exit_code == 2
    assert "holds no labNN.py" in result.stderr


FAULTS = {
    "    ### END SOLUTION\n\n\n# %% check": ("    \n\n\n# %% check", "without `### END SOLUTION`"),
    "    ### BEGIN SOLUTION\n    return a": ("    return a", "`### END SOLUTION` without"),
    '# %% exercise="70.1"': ("# %%", "has a solution but no task"),
    '# %% exercise="70.4"': ('# %% exercise="70.1"', "already has the id 'lab70-add'"),
    '# %% check="70.1"': ('# %% check="70.1" points=3', "points=3 but the checks of task 70.1 are worth 2"),
    "import math": ("### BEGIN SOLUTION\n### BEGIN SOLUTION", "a second `### BEGIN SOLUTION`"),
}


@pytest.mark.parametrize("text", FAULTS)
def test_a_source_with_a_fault_is_refused_with_its_place(text: str, solutions: Path, registry: Registry) -> None:
    instead, words = FAULTS[text]
    assert SOURCE.count(text) == 1
    (solutions / "lab70.py").write_text(SOURCE.replace(text, instead))
    with pytest.raises(ReleaseError, match=words) as caught:
        render(solutions, registry)
    assert str(caught.value).startswith("lab70.py, cell ")


def test_a_task_without_a_solution_is_refused(solutions: Path, registry: Registry) -> None:
    (solutions / "lab70.py").write_text('# %% exercise="70.1"\nadd = 3\n')
    with pytest.raises(ReleaseError, match=r"cell 1: the cell of task 70\.1 has no `### BEGIN SOLUTION`"):
        render(solutions, registry)
