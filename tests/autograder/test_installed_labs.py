"""Every lab that ships: its stage, its drivers and its notebook fit together."""

from __future__ import annotations

import ast
import importlib
import json

import nbformat
import pytest
from nbgrader.nbgraderformat.v3 import MetadataValidatorV3

from autograder import registry
from autograder.nonces import Nonces
from autograder.release import render
from autograder.sandbox import wire
from minivmm.resources import folder

INSTALLED = registry.installed()
IDS = INSTALLED.ids


def test_the_labs_are_found() -> None:
    assert IDS[:4] == ["00", "01", "02", "03"]


@pytest.mark.parametrize("id", IDS)
def test_stage_and_drivers(id: str) -> None:
    lab = INSTALLED.lab(id)
    assert len(lab.checks) >= 8
    assert len({guest for check in lab.checks for guest in check.guests}) >= 4
    drivers = importlib.import_module(lab.driver_module)
    for check in lab.checks:
        assert callable(getattr(drivers, check.driver)), check.id
        assert check.hints, f"{check.id} has no hint"


@pytest.mark.parametrize("id", IDS)
def test_cases_are_repeatable_and_fit_through_the_channel(id: str) -> None:
    for check in INSTALLED.lab(id).checks:
        first, again = (wire.encode([case.inputs for case in check.cases(Nonces(1, id, check.id))]) for _ in range(2))
        assert first == again, check.id
        assert len(first) < 16 << 20


@pytest.fixture(scope="module")
def released() -> dict[str, bytes]:
    return render(folder("solutions"), INSTALLED)


@pytest.mark.parametrize("id", IDS)
def test_the_notebook_is_what_nbgrader_wants(id: str, released: dict[str, bytes]) -> None:
    book = nbformat.reads(released[f"lab{id}.ipynb"].decode(), as_version=4)
    nbformat.validate(book)
    MetadataValidatorV3().validate_nb(book)


@pytest.mark.parametrize("id", IDS)
def test_every_exercise_has_its_cell_and_every_code_cell_parses(id: str, released: dict[str, bytes]) -> None:
    cells = json.loads(released[f"lab{id}.ipynb"])["cells"]
    ids = {cell["id"] for cell in cells}
    assert {f"lab{id}-{check.exercise}" for check in INSTALLED.lab(id).checks} <= ids
    for cell in cells:
        if cell["cell_type"] == "code":
            ast.parse("".join(cell["source"]))
