"""Each realistic mistake loses exactly the checks that should catch it, and gets the hint that names it.

The mistakes are data, tests/mutants/labNN.toml: a text that occurs once in the solution, and what a student writes
there instead. A mutant that survives is a check that is too weak.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from autograder import registry
from autograder.model import CheckResult
from minivmm import resources

MUTANTS = Path(__file__).parents[1] / "mutants"
LABS = registry.installed()
FEWEST = 10  # mutants of a lab
SOLUTIONS = resources.folder("solutions")


@dataclass(frozen=True)
class Mutant:
    lab: str
    name: str
    find: str
    replace: str
    loses: list[str]
    hint: str


def mutants_of(lab: str) -> list[Mutant]:
    file = MUTANTS / f"lab{lab}.toml"
    data = tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return [Mutant(lab, **each) for each in data.get("mutant", [])]


ALL = [mutant for lab in LABS.ids for mutant in mutants_of(lab)]


def source(lab: str) -> str:
    return (SOLUTIONS / f"lab{lab}.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("lab", LABS.ids)
def test_a_lab_has_mutants_enough(lab: str) -> None:
    names = [mutant.name for mutant in mutants_of(lab)]
    assert len(names) >= FEWEST
    assert len(set(names)) == len(names), "two mutants have the same name"


@pytest.mark.parametrize("lab", LABS.ids)
def test_every_check_is_lost_by_some_mutant(lab: str) -> None:
    lost = {check for mutant in mutants_of(lab) for check in mutant.loses}
    assert {check.id for check in LABS.lab(lab).checks} - lost == set()


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: f"{mutant.lab}: {mutant.name}")
def test_a_mutant_is_one_change_that_still_parses(mutant: Mutant) -> None:
    assert source(mutant.lab).count(mutant.find) == 1, "`find` must occur exactly once in the solution"
    assert mutant.find != mutant.replace
    assert mutant.loses, "a mutant that loses nothing shows nothing"


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: f"{mutant.lab}: {mutant.name}")
def test_a_mutant_loses_what_it_should(
    mutant: Mutant, grade: Callable[[str, Path], tuple[CheckResult, ...]], tmp_path: Path
) -> None:
    mutated = tmp_path / f"lab{mutant.lab}.py"
    mutated.write_text(source(mutant.lab).replace(mutant.find, mutant.replace), encoding="utf-8")
    results = grade(mutant.lab, mutated)
    failed = [result for result in results if result.verdict != "ok"]
    assert sorted(result.id for result in failed) == sorted(mutant.loses), "\n".join(map(shown, failed))
    first = failed[0]
    assert first.verdict in ("wrong", "crash", "timeout", "memory"), shown(first)
    check = next(check for check in LABS.lab(mutant.lab).checks if check.id == first.id)
    wanted = next((hint.text for hint in check.hints if hint.key == mutant.hint), None)
    assert wanted, f"check {check.id} has no hint {mutant.hint!r}"
    assert first.hint == wanted, shown(first)


def shown(result: CheckResult) -> str:
    return f"{result.id} {result.verdict}: {result.message} [hint: {result.hint}]"


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("lab", LABS.ids)
def test_the_solution_has_full_marks(lab: str, seed: int, grade: Callable[..., tuple[CheckResult, ...]]) -> None:
    results = grade(lab, SOLUTIONS / f"lab{lab}.py", seed)
    assert [shown(result) for result in results if result.verdict != "ok"] == []
