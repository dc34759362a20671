"""Grades sources of labs in one process after another, with sandboxes that stay up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autograder import notebook, registry
from autograder.grading import slices_of
from autograder.model import CheckResult, Lab
from autograder.submission import Submission
from autograder.supervisor import Job, Supervisor
from autograder.zygotes import InfrastructureError
from minivmm import resources

Grade = Callable[[str, Path], tuple[CheckResult, ...]]
Change = tuple[str, str]  # a piece of a solution that stands there once, and what stands there instead
LABS = registry.installed()


@pytest.fixture(scope="session")
def supervisor() -> Iterator[Supervisor]:
    """Two sandboxes with every lab's drivers; skips where no backend serves."""
    modules = [LABS.lab(lab).driver_module for lab in LABS.ids]
    with Supervisor("auto", modules, jobs=2, seed=2) as running:
        try:
            running.wait_until_ready()
        except InfrastructureError as error:
            pytest.skip(f"no backend: {error}")
        yield running


@pytest.fixture(scope="session")
def grade(supervisor: Supervisor) -> Grade:
    """The results of one lab for the notebook at a path, in the order of the lab's checks."""

    def run(lab_id: str, path: Path, seed: int = 2) -> tuple[CheckResult, ...]:
        lab: Lab = LABS.lab(lab_id)
        slices, _ = slices_of(lab, Submission(path.name, {lab_id: notebook.read(path)}))
        supervisor.seed = seed
        jobs = [Job((0, place), lab, check, slices[place]) for place, check in enumerate(lab.checks)]
        done = supervisor.run(jobs, lambda lab, result: None)
        return tuple(done[0, place] for place in range(len(lab.checks)))

    return run


@pytest.fixture
def marks_lost(grade: Grade, tmp_path: Path) -> Callable[[str, Change], list[str]]:
    """What a lab's solution loses with one change: the checks with their messages."""

    def run(lab: str, change: Change) -> list[str]:
        source = (resources.folder("solutions") / f"lab{lab}.py").read_text(encoding="utf-8")
        assert source.count(change[0]) == 1
        path = tmp_path / f"lab{lab}.py"
        path.write_text(source.replace(*change), encoding="utf-8")
        return [f"{each.id}: {each.message}" for each in grade(lab, path) if each.verdict != "ok"]

    return run
