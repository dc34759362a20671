"""The words of the grader: what a check is, and what becomes of it.

A stage author writes this much (`autograder/stages/lab01.py`)::

    from autograder import judge
    from autograder.model import Case, Check, Finding, Hint, Lab
    from autograder.nonces import Nonces
    from autograder.observation import Observation

    def many_bytes(nonces: Nonces) -> list[Case]:
        text = nonces.bytes("text", nonces.range("length", 2, 40))
        return [Case({"size": 1, "data": text}, expected=text, label=f"one exit with {len(text)} bytes")]

    def all_of_them(case: Case, obs: Observation) -> Finding:
        return judge.same_bytes(case.expected, obs.bytes("value"), "what `bytes_of` returned")

    LAB = Lab("01", "The first exit", checks=(
        Check("01.4", "every byte of a string instruction", 2, exercise="bytes_of", driver="bytes_of_exit",
              cases=many_bytes, judge=all_of_them, guests=("rep-outsb",),
              hints=(Hint("rep-count", "The classic mistake: `size` bytes only. `count` says how often."),)),
    ))

and the driver that the check names (`autograder/drivers/lab01.py`, see `autograder.drivers.base`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from autograder.nonces import Nonces
from autograder.observation import Observation

Verdict = Literal["ok", "wrong", "timeout", "memory", "crash", "missing", "infra"]


@dataclass(frozen=True)
class Hint:
    """One sentence that names one classic mistake.

    `key` is how a judge asks for it (`Finding.hint`). `when` is a regular expression for failures that no judge sees:
    a crash or a time-out whose message matches gets this hint. So `Hint("slot-flags", "…", when="EINVAL")`.
    """

    key: str
    text: str
    when: str = ""


@dataclass(frozen=True)
class Limits:
    """What one check may use. `seconds` is processor time; on the clock a check may take four times that and one
    second more, so that a busy machine costs nobody marks. `memory_mib` counts from the size of an idle sandbox."""

    seconds: float = 2.0
    memory_mib: int = 256
    output_kib: int = 1024

    def as_dict(self) -> dict[str, float]:
        """For the sandbox."""
        return {
            "seconds": self.seconds,
            "wall": self.wall,
            "memory_mib": self.memory_mib,
            "output_kib": self.output_kib,
        }

    @property
    def wall(self) -> float:
        """Seconds on the clock after which the check has timed out, even if it only sleeps."""
        return 4 * self.seconds + 1


@dataclass(frozen=True)
class Case:
    """One call of the driver. `inputs` (JSON types and bytes) go to the sandbox; `expected` never does.

    `label` completes the sentence "with …" in the feedback, so it must not give the answer away.
    """

    inputs: dict[str, Any]
    expected: Any = None
    label: str = ""


@dataclass(frozen=True)
class Finding:
    """What a judge says of one observation. `hint` is the key of one of the check's hints; "" means the first."""

    ok: bool
    message: str = ""
    hint: str = ""


OK = Finding(True)


@dataclass(frozen=True)
class Check:
    """One thing that the student's code must do, worth `points`.

    `exercise` is the name that the student defines; `driver` the function in the lab's drivers that calls it; `needs`
    are other names of the student's that the driver asks for. All cases run in one sandboxed process, in order; the
    check passes if every case does. `task` is the number of the task in the notebook: "01.4" for "01.4" and "01.4b".
    """

    id: str
    title: str
    points: int
    exercise: str
    driver: str
    cases: Callable[[Nonces], list[Case]]
    judge: Callable[[Case, Observation], Finding]
    hints: tuple[Hint, ...] = ()
    guests: tuple[str, ...] = ()
    limits: Limits = Limits()
    needs: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        number = re.match(r"\d\d\.\d+", self.id)
        return number.group() if number else self.id

    def hint_text(self, key: str) -> str:
        """The text of the hint called `key`; of the first for ""; "" where there is none."""
        if not key:
            return self.hints[0].text if self.hints else ""
        return next((hint.text for hint in self.hints if hint.key == key), "")

    def hint_for_failure(self, message: str) -> str:
        """The hint whose `when` matches the message of a crash or time-out, else ""."""
        return next((hint.text for hint in self.hints if hint.when and re.search(hint.when, message)), "")


@dataclass(frozen=True)
class Lab:
    """All checks of one notebook, in the order of the report. `drivers` is the module that holds their drivers."""

    id: str
    title: str
    checks: tuple[Check, ...]
    drivers: str = ""

    @property
    def driver_module(self) -> str:
        return self.drivers or f"autograder.drivers.lab{self.id}"

    @property
    def max_score(self) -> int:
        return sum(check.points for check in self.checks)

    def check_for(self, name: str) -> tuple[Check, ...]:
        """All checks of the exercise that `name` means: a check's id, a task's number, or the exercise's own name."""
        exercises = {check.exercise for check in self.checks if name in (check.id, check.task, check.exercise)}
        return tuple(check for check in self.checks if check.exercise in exercises)


@dataclass(frozen=True)
class CheckResult:
    """What became of one check. `points` is what was earned: all of `max_points` or nothing."""

    id: str
    title: str
    points: int
    max_points: int
    verdict: Verdict
    message: str = ""
    hint: str = ""
    seconds: float = 0.0

    @property
    def status(self) -> str:
        return "passed" if self.verdict == "ok" else "failed"

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "title": self.title,
            "points": self.points,
            "max_points": self.max_points,
            "status": self.status,
            "verdict": self.verdict,
            "message": self.message,
            "hint": self.hint,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class LabResult:
    """The checks of one lab. `notes` are remarks on the notebook itself (a cell that does not parse, …)."""

    lab: str
    title: str
    checks: tuple[CheckResult, ...]
    notes: tuple[str, ...] = ()

    @property
    def score(self) -> int:
        return sum(check.points for check in self.checks)

    @property
    def max_score(self) -> int:
        return sum(check.max_points for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        checks = [check.as_json() for check in self.checks]
        return {"lab": self.lab, "score": self.score, "max_score": self.max_score, "checks": checks}


@dataclass(frozen=True)
class Report:
    """One graded submission. `reason` says why this backend; `times` where the seconds went, by name."""

    submission: str
    seed: int
    backend: str
    labs: tuple[LabResult, ...]
    reason: str = ""
    times: Mapping[str, float] = field(default_factory=dict)

    @property
    def score(self) -> int:
        return sum(lab.score for lab in self.labs)

    @property
    def max_score(self) -> int:
        return sum(lab.max_score for lab in self.labs)

    @property
    def infra(self) -> bool:
        """Whether a check could not be run for a reason that is not the student's."""
        return any(check.verdict == "infra" for lab in self.labs for check in lab.checks)

    def as_json(self) -> dict[str, Any]:
        """The contract of `autograder grade --json`: these keys and no others."""
        return {
            "schema": 1,
            "submission": self.submission,
            "seed": self.seed,
            "backend": self.backend,
            "score": self.score,
            "max_score": self.max_score,
            "labs": [lab.as_json() for lab in self.labs],
        }
