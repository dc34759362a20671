"""check() in a notebook: the same verdicts on live objects, in a child, and never a traceback."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from autograder import live
from autograder.registry import Registry

Check = Callable[..., live.Outcome]


@pytest.fixture
def check(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.setattr("autograder.registry.installed", lambda: registry)
    return live.check


def cell(source: str, name: str) -> Any:
    """What a notebook's cell leaves: a name in the globals that its functions see."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, "/tmp/ipykernel_1/2.py", "exec"), namespace)
    return namespace[name]


def test_right(check: Check) -> None:
    outcome = check("70.1", lambda a, b: a + b)
    assert outcome.passed
    assert bool(outcome)
    assert repr(outcome) == "✓ 70.1 add works"
    assert "✓ 70.1" in outcome._repr_html_()


def test_wrong_shows_message_and_hint(check: Check) -> None:
    outcome = check("70.1", lambda a, b: a)
    assert not outcome.passed
    assert "is expected" in repr(outcome)
    assert "hint: The classic mistake is to return the first argument." in repr(outcome)
    assert "💡 The classic mistake" in outcome._repr_html_()


def test_a_crash_names_the_line(check: Check) -> None:
    outcome = check("70.1", cell("def add(a, b):\n    return a / 0", "add"))
    assert "line 2 of the cell that defines `add`: ZeroDivisionError: division by zero" in repr(outcome)


def test_all_checks_of_the_exercise_run(check: Check) -> None:
    outcome = check("70.4", lambda n: 7)
    assert [result.id for result in outcome.results] == ["70.4", "70.4b"]
    assert [result.verdict for result in outcome.results] == ["wrong", "ok"]


def stub(n: int) -> int:
    raise NotImplementedError("task 70.4")


def test_a_stub_is_one_friendly_line(check: Check) -> None:
    assert (
        repr(check("70.4", cell("def root(n):\n    raise NotImplementedError", "root")))
        == "… `root` isn't written yet."
    )
    assert "isn't written yet" in repr(check("70.4", stub))


def test_what_hangs_prints_or_dies_costs_the_kernel_nothing(check: Check) -> None:
    def forever(a: int, b: int) -> int:
        while True:
            pass

    def loud(a: int, b: int) -> int:
        while True:
            print("spam" * 1000)

    assert check("70.1", forever).results[0].verdict == "timeout"
    assert "printed more than" in check("70.1", loud).results[0].message
    assert "exit status 3" in check("70.1", lambda a, b: os._exit(3)).results[0].message
    assert "SystemExit" in check("70.1", lambda a, b: sys.exit()).results[0].message
    assert check("70.1", lambda a, b: bytearray(1 << 31)).results[0].verdict == "memory"


def test_what_the_child_changes_stays_in_the_child(check: Check) -> None:
    seen: list[int] = []

    def add(a: int, b: int) -> int:
        seen.append(a)
        return a + b

    assert check("70.1", add).passed
    assert seen == []


def test_other_names_come_from_the_arguments_or_the_notebook(check: Check) -> None:
    source = """
def add(a, b):
    return a + b

class Counter:
    def __init__(self): self.sum = 0
    def add(self, n): self.sum = add(self.sum, n)
    def total(self): return self.sum
"""
    counter = cell(source, "Counter")
    assert check("70.3", counter).passed
    assert check("70.3", counter, lambda a, b: a + b).passed


def test_a_name_that_was_never_run_is_missing(check: Check) -> None:
    assert repr(check("70.2")) == "… `flip` isn't defined yet: run its cell first."


def test_an_unknown_task_names_those_there_are(check: Check) -> None:
    with pytest.raises(KeyError, match=r"lab 70 has no task 70.9; its tasks are 70.1, 70.2, 70.3, 70.4"):
        check("70.9", print)


@pytest.mark.filterwarnings("error::DeprecationWarning")
def test_threads_of_the_kernel_do_not_matter(check: Check) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert check("70.1", lambda a, b: a + b).passed
    finally:
        stop.set()
        thread.join()


def test_other_children_of_the_kernel_survive(check: Check) -> None:
    import subprocess

    with subprocess.Popen(["sleep", "100"]) as other:
        check("70.1", lambda a, b: os._exit(1))
        assert other.poll() is None
        other.kill()
