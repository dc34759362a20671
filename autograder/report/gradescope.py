"""The report as Gradescope reads it from /autograder/results/results.json.

Source: Gradescope's "Autograder Specifications", section on the output format.
"""

from __future__ import annotations

from typing import Any

from autograder.model import CheckResult, Report


def render(report: Report) -> dict[str, Any]:
    notes = [f"lab {lab.lab}: {note}" for lab in report.labs for note in lab.notes]
    told = [f"Graded on {report.backend} with seed {report.seed}.", *notes]
    return {
        "score": report.score,
        "execution_time": round(report.times.get("total", 0.0)),
        "output": "\n".join(told),
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "extra_data": {"seed": report.seed, "backend": report.backend},
        "tests": [test(lab.lab, lab.title, check) for lab in report.labs for check in lab.checks],
    }


def test(lab: str, title: str, check: CheckResult) -> dict[str, Any]:
    return {
        "name": f"{check.id} {check.title}",
        "number": check.id,
        "score": check.points,
        "max_score": check.max_points,
        "status": check.status,
        "output": "\n".join(filter(None, (check.message, check.hint and f"hint: {check.hint}"))),
        "output_format": "text",
        "tags": [f"lab{lab}", check.verdict],
        "visibility": "visible",
        "extra_data": {"lab": title},
    }
