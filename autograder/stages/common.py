"""What stages of several labs share: a hint, the order of hints, the words of a case, a guest's console."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, TypeVar

from autograder import judge
from autograder.judge import fail
from autograder.model import Finding, Hint
from autograder.observation import Observation

T = TypeVar("T")

LOOP = Hint(
    "endless", "A loop of yours never ends: what should stop it, and does that ever come?", when="still running"
)


def led_by(first: str, hints: Iterable[Hint]) -> tuple[Hint, ...]:
    """The hints, the one with this key in front: it is shown where a judge names none."""
    return tuple(sorted(hints, key=lambda hint: hint.key != first))


def suited(draw: Callable[[str], T], label: str, good: Callable[[T], bool]) -> T:
    """The first of the draws named `label`, `label 1`, … that is good: for a mistake must show with every seed."""
    labels = (f"{label} {number}" if number else label for number in count())
    return next(drawn for drawn in map(draw, labels) if good(drawn))


def guest(name: str, **parameters: int) -> dict[str, Any]:
    """The inputs of a case that name its guest."""
    return {"guest": name, "parameters": parameters}


def console_lines(obs: Observation) -> list[str]:
    """What the guest printed; any byte may be among it."""
    return obs.bytes("console").decode(errors="backslashreplace").splitlines()


def on_console(obs: Observation, wanted: bytes, hint: str = "") -> Finding:
    """The guest printed what is expected; else the difference, and the last exits."""
    finding = judge.same_text(wanted, obs.bytes("console"), "the guest's console", hint)
    if finding.ok or not obs.exits:
        return finding
    return fail(f"{finding.message}\n{judge.show_exits(obs.exits)}", hint)
