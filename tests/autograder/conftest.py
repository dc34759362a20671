"""Grades the toy lab: plain Python, no device."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TOY = Path(__file__).parent / "toy"
sys.path.append(str(TOY))

from toy_lab import notebook  # noqa: E402

from autograder.grading import grade  # noqa: E402
from autograder.model import Report  # noqa: E402
from autograder.registry import Registry  # noqa: E402


@pytest.fixture
def registry() -> Registry:
    return Registry({"70": "toy_stage"}, (str(TOY),))


@pytest.fixture
def hand_in(tmp_path: Path) -> Callable[..., Path]:
    """Writes cells as a notebook and returns its path."""

    def write(*cells: dict[str, object], name: str = "lab70.ipynb") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(notebook(*cells)))
        return path

    return write


@pytest.fixture
def graded(hand_in: Callable[..., Path], registry: Registry) -> Callable[..., Report]:
    """Grades cells without a device. `jobs=1`, so that one zygote meets every check."""

    def run(*cells: dict[str, object], seed: int = 7, jobs: int = 1) -> Report:
        return grade(hand_in(*cells), registry, seed=seed, accel="none", jobs=jobs)

    return run


@pytest.fixture(scope="session")
def landlock() -> bool:
    """Whether this kernel can hide files from a process."""
    from autograder.sandbox.linux import syscall

    return syscall(444, None, 0, 1) > 0
