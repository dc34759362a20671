"""The benchmarks still run. What they find is for `make bench`; a test asserts no time."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.kvm
@pytest.mark.parametrize(("name", "rows"), [("exits", 6), ("startup", 6), ("memory", 3)])
def test_a_benchmark_runs(name: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    module = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(module, "ROUNDS", 1)
    assert module.measure().row_count >= rows


def test_an_unknown_benchmark_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module("benchmarks.__main__").main
    assert main(["speed"]) == 2
    assert "'speed'" in capsys.readouterr().out
    assert "benchmarks.exits" in sys.modules
