"""Drivers of the toy lab: sandbox side."""

from __future__ import annotations

from typing import Any

from autograder.drivers.base import Student, attempt


def call(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    return {"value": student.target(*inputs["args"])}


def try_call(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    return attempt(student.target, *inputs["args"])


def fill_and_sum(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    counter = student.target()
    for number in inputs["numbers"]:
        counter.add(number)
    return {"value": counter.total()}
