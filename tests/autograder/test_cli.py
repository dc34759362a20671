"""The command: exit codes, one sentence for an error, and a report for every reader."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from toy_lab import RIGHT, answers

from autograder import cli, grading
from autograder.registry import Registry
from autograder.zygotes import InfrastructureError

Run = Callable[..., Result]
EVIL = "def root(n):\n    raise ValueError('[bold]<script>&\\x07]]>')"


@pytest.fixture
def run(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command on the toy lab, which needs no device."""
    real = grading.grade
    monkeypatch.setattr("autograder.registry.installed", lambda: registry)
    monkeypatch.setattr("autograder.grading.grade", lambda *args, **more: real(*args, **(more | {"accel": "none"})))
    return lambda *arguments: CliRunner().invoke(cli.main, list(map(str, arguments)))


def test_grade_prints_marks_backend_seed_and_how_to_replay(run: Run, hand_in: Callable[..., Path]) -> None:
    result = run("grade", hand_in(*answers(add="def add(a, b):\n    return a")), "--seed", 5)
    assert result.exit_code == 0
    for words in (
        "Lab 70 · A toy    6/10",
        "70.1",
        "✗ wrong",
        "✓ passed",
        "hint: The classic mistake",
        "score   6 of 10",
    ):
        assert words in result.output
    assert "backend none" in result.output
    assert "seed    5 (--seed 5 gives the same guests again)" in result.output
    assert "\x1b" not in result.output


def test_json_to_standard_output_is_nothing_but_json(run: Run, hand_in: Callable[..., Path]) -> None:
    result = run("grade", hand_in(*answers()), "--json", "-")
    assert json.loads(result.stdout)["score"] == 10
    assert "score   10 of 10" in result.stderr


def test_every_format_carries_hostile_text_safely(run: Run, hand_in: Callable[..., Path], tmp_path: Path) -> None:
    names = ("r.json", "r.xml", "results.json", "r.html")
    files = [tmp_path / "out" / name for name in names]
    files[0].parent.mkdir()
    options = [
        part for pair in zip(("--json", "--junit", "--gradescope", "--html"), files, strict=True) for part in pair
    ]
    result = run("grade", hand_in(*answers(root=EVIL)), *options)
    assert result.exit_code == 0, result.output
    words = "[bold]<script>&\\x07]]>"
    assert words in result.output
    data = json.loads(files[0].read_text())
    assert words in data["labs"][0]["checks"][4]["message"]
    case = ET.fromstring(files[1].read_text()).findall("testsuite/testcase")[4]
    failure = case.find("failure")
    assert failure is not None
    assert words in (failure.text or "")
    assert case.find("properties/property[@name='max_points']").get("value") == "2"  # type: ignore[union-attr]
    scope = json.loads(files[2].read_text())
    assert [test["status"] for test in scope["tests"]] == ["passed"] * 4 + ["failed"]
    assert sum(test["score"] for test in scope["tests"]) == scope["score"] == 8
    page = files[3].read_text()
    assert "<script>" not in page
    assert "[bold]&lt;script&gt;&amp;" in page


def test_bad_usage_is_one_sentence_and_exit_code_2(run: Run, hand_in: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.ipynb").write_text("not json")
    good = hand_in(*answers())
    for arguments in (
        ("grade", tmp_path / "nowhere"),
        ("grade", tmp_path / "empty"),
        ("grade", tmp_path / "bad.ipynb"),
        ("grade", good, "--lab", "42"),
        ("grade", good, "--json", tmp_path / "no" / "folder.json"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2, arguments
        assert result.stderr.startswith("autograder: ")
        assert result.stderr.count("\n") == 1
    for arguments in (("grade",), ("grade", good, "--jobs", "0"), ("grade", good, "--seed", "x"), ("nonsense",)):
        assert run(*arguments).exit_code == 2


def test_infrastructure_failures_are_exit_code_3(
    run: Run, hand_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **more: object) -> None:
        raise InfrastructureError("there is no /dev/kvm")

    monkeypatch.setattr("autograder.grading.grade", fail)
    result = run("grade", hand_in(*answers()))
    assert result.exit_code == 3
    assert result.stderr == "autograder: Nothing was graded: there is no /dev/kvm\n"


def test_unwritten_checks_share_a_line(run: Run, hand_in: Callable[..., Path]) -> None:
    stub = "def root(n):\n    raise NotImplementedError('task 70.4')"
    result = run("grade", hand_in(*answers(root=stub)))
    assert "70.4, 70.4b: `root` isn't written yet." in result.output


def test_the_sources_grade_like_the_notebooks(run: Run, tmp_path: Path) -> None:
    cells = "\n\n".join(f'# %% exercise="70.{n}"\n{source}' for n, source in enumerate(RIGHT.values(), 1))
    (tmp_path / "lab70.py").write_text(cells)
    assert "score   10 of 10" in run("grade", tmp_path).output
