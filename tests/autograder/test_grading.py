"""A whole run: marks, hints, replay, the zygote's loss, and what is no student's fault."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest
from toy_lab import answers, by_id

from autograder import supervisor, zygotes
from autograder.grading import grade
from autograder.model import Report
from autograder.registry import Registry
from autograder.submission import SubmissionError
from autograder.zygotes import InfrastructureError, LostError, UsageError, Zygote

Graded = Callable[..., Report]
KEYS = ["schema", "submission", "seed", "backend", "score", "max_score", "labs"]
CHECK_KEYS = ["id", "title", "points", "max_points", "status", "verdict", "message", "hint", "seconds"]


def without_times(report: Report) -> dict[str, Any]:
    data = report.as_json()
    for lab in data["labs"]:
        for check in lab["checks"]:
            del check["seconds"]
    return data


def test_full_marks(graded: Graded) -> None:
    report = graded(*answers())
    assert (report.score, report.max_score) == (10, 10)
    assert {(check.verdict, check.status, check.message) for check in by_id(report).values()} == {("ok", "passed", "")}


def test_the_json_has_the_keys_of_the_contract_and_no_others(graded: Graded) -> None:
    data = json.loads(json.dumps(graded(*answers()).as_json()))
    assert list(data) == KEYS
    assert list(data["labs"][0]) == ["lab", "score", "max_score", "checks"]
    assert all(list(check) == CHECK_KEYS for check in data["labs"][0]["checks"])


WRONG = {"add": "def add(a, b):\n    return a", "flip": "import random\ndef flip(d):\n    return random.randbytes(9)"}


def test_the_same_seed_gives_the_same_report(graded: Graded) -> None:
    first = without_times(graded(*answers(**WRONG), seed=1))
    assert without_times(graded(*answers(**WRONG), seed=1, jobs=2)) == first
    assert without_times(graded(*answers(**WRONG), seed=2)) != first


def test_a_wrong_answer_gets_the_hint_that_names_it(graded: Graded) -> None:
    result = by_id(graded(*answers(add="def add(a, b):\n    return a")))["70.1"]
    assert result.message.startswith("With ")
    assert "is expected" in result.message
    assert result.hint == "The classic mistake is to return the first argument."
    result = by_id(graded(*answers(add="def add(a, b):\n    return a - b")))["70.1"]
    assert result.hint == "Add, don't subtract."


def test_a_crash_gets_the_hint_whose_pattern_it_matches(graded: Graded) -> None:
    result = by_id(graded(*answers(add="def add(pair):\n    return sum(pair)")))["70.1"]
    assert (result.verdict, result.hint) == ("crash", "Arguments come one by one.")


def test_a_failure_shows_what_the_code_printed(graded: Graded) -> None:
    result = by_id(graded(*answers(root="def root(n):\n    print('n is', n)\n    return 8")))["70.4b"]
    assert result.message == "the sum: 8 where 7 is expected\nyour code printed:\n  n is 49"


def test_results_keep_the_order_of_the_lab(graded: Graded) -> None:
    slow = "import time\ndef add(a, b):\n    time.sleep(0.05)\n    return a + b"
    assert list(by_id(graded(*answers(add=slow), jobs=3))) == ["70.1", "70.2", "70.3", "70.4", "70.4b"]


def test_an_asked_for_lab_that_was_not_handed_in_is_missing(
    hand_in: Callable[..., Path], registry: Registry, tmp_path: Path
) -> None:
    hand_in(*answers())
    registry.stages["69"] = "toy_stage"
    registry._loaded["69"] = registry.lab("70")
    report = grade(tmp_path, registry, seed=1, labs=["69"], accel="none", jobs=1)
    assert {check.verdict for check in report.labs[0].checks} == {"ok"}  # lab 69 is lab 70 here, by another id
    os.rename(tmp_path / "lab70.ipynb", tmp_path / "lab70.txt")
    with pytest.raises(SubmissionError, match="no notebook"):
        grade(tmp_path, registry, seed=1, accel="none", jobs=1)


def test_an_unknown_lab_is_bad_usage(hand_in: Callable[..., Path], registry: Registry) -> None:
    with pytest.raises(UsageError, match="there is no lab 42; the labs are 70"):
        grade(hand_in(*answers()), registry, seed=1, labs=["42"], accel="none")


class Saboteur(Zygote):
    """A zygote that a check brings down, as often as `times` says."""

    times = 1
    number = signal.SIGKILL

    def ask(self, request: dict[str, Any]) -> zygotes.Answer:
        if request["exercise"] == "flip" and Saboteur.times > 0:
            Saboteur.times -= 1
            os.kill(self.process.pid, self.number)
        return super().ask(request)


@pytest.mark.parametrize(
    ("times", "number", "verdict"),
    [(1, signal.SIGKILL, "ok"), (9, signal.SIGKILL, "crash"), (9, signal.SIGSTOP, "crash")],
)
def test_a_zygote_that_goes_down_is_replaced(
    times: int, number: signal.Signals, verdict: str, graded: Graded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once may be the machine's fault, so the check runs again; twice is the student's doing, and only this check's."""
    monkeypatch.setattr(supervisor, "Zygote", Saboteur)
    monkeypatch.setattr(zygotes, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(Saboteur, "times", times)
    monkeypatch.setattr(Saboteur, "number", number)
    results = by_id(graded(*answers()))
    assert results["70.2"].verdict == verdict
    assert [results[id].verdict for id in ("70.1", "70.3", "70.4", "70.4b")] == ["ok"] * 4


def test_a_zygote_that_can_not_be_replaced_is_no_mark(graded: Graded, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Zygote, *args: object) -> None:
        raise InfrastructureError("the host is full")

    def lose(self: Zygote, request: object) -> None:
        monkeypatch.setattr(Zygote, "wait_until_ready", refuse)
        raise LostError("gone")

    monkeypatch.setattr(Zygote, "ask", lose)
    report = graded(*answers())
    assert report.infra
    assert {check.verdict for check in by_id(report).values()} == {"infra"}


def test_a_sandbox_that_does_not_start_is_infrastructure(hand_in: Callable[..., Path]) -> None:
    broken = Registry({"70": "toy_stage"}, ("/nowhere",))
    with pytest.raises(InfrastructureError, match="toy_drivers"):
        grade(hand_in(*answers()), broken, seed=1, accel="none", jobs=1)


def test_a_backend_that_nobody_knows_is_bad_usage(hand_in: Callable[..., Path], registry: Registry) -> None:
    with pytest.raises(UsageError, match="sgx"):
        grade(hand_in(*answers()), registry, seed=1, accel="sgx", jobs=1)


def test_nothing_is_left_behind(graded: Graded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    graded(*answers(root="def root(n):\n    open('left', 'w')\n    return 8"))
    assert list((tmp_path / "scratch").iterdir()) == []


INTERRUPTED = """
import sys
from pathlib import Path
sys.path.append({toy!r})
from click.testing import CliRunner
from autograder import cli, grading, registry
from autograder.registry import Registry
real = grading.grade
registry.installed = lambda: Registry({{"70": "toy_stage"}}, ({toy!r},))
def grade(*args, **more):
    return real(*args, **(more | {{"accel": "none", "on_start": lambda *_: print("started", flush=True)}}))
grading.grade = grade
cli.main(["grade", {path!r}])
"""


def test_ctrl_c_ends_everything(hand_in: Callable[..., Path], spawn: Callable[..., Popen[str]]) -> None:
    path = hand_in(*answers(add="import time\ndef add(a, b):\n    time.sleep(1000)"))
    toy = str(Path(__file__).parent / "toy")
    source = INTERRUPTED.format(toy=toy, path=str(path))
    process = spawn([sys.executable, "-c", source], stdout=PIPE, stderr=PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said == "autograder: Stopped; nothing was written.\n"
