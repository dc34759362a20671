"""A driver with the recorder: the student makes the system calls, KVM answers them."""

from __future__ import annotations

from typing import Any

from autograder.drivers.base import Student, recording


def console(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    with recording() as rec:
        value = student.target(inputs["image"])
    return {"value": value, "exits": rec.exits, "counts": dict(rec.counts), "calls": rec.calls}
