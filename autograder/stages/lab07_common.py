"""What the stages of lab 07 share: the judge of one answer, which knows the classic mistakes by what they answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autograder import judge
from autograder.judge import fail
from autograder.model import OK, Case, Finding
from autograder.observation import Observation
from autograder.odd import describe


def one_value(case: Case, obs: Observation, hints: Mapping[str, Any], otherwise: str, what: str) -> Finding:
    """`called_with` was asked once. `hints`: what a classic mistake would have answered, by the key of its hint."""
    values = obs.list("values")
    if len(values) != 1:
        return fail(f"{what}: nothing", otherwise)
    actual = values[0]
    wanted = judge.plain(case.expected)
    if (finding := judge.same_value(wanted, actual, what)).ok:
        return OK
    if isinstance(wanted, list) and not (isinstance(actual, list) and len(actual) == len(wanted)):
        return fail(f"{describe(actual)} where a tuple of {len(wanted)} is expected", "tuple")
    key = next((key for key, value in hints.items() if judge.same_value(value, actual).ok), otherwise)
    return fail(finding.message, key)
