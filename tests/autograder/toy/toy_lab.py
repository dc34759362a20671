"""The right answers of the toy lab, and the means to put them into a notebook."""

from __future__ import annotations

from typing import Any

from autograder.model import CheckResult, Report

RIGHT = {
    "add": "def add(a, b):\n    return a + b",
    "flip": "def flip(data):\n    return data[::-1]",
    "Counter": (
        "class Counter:\n    def __init__(self):\n        self.sum = 0\n\n"
        "    def add(self, n):\n        self.sum = add(self.sum, n)\n\n    def total(self):\n        return self.sum"
    ),
    "root": "import math\n\ndef root(n):\n    return math.isqrt(n)",
}
TASKS = {"add": "70.1", "flip": "70.2", "Counter": "70.3", "root": "70.4"}


def cell(source: str, id: str = "", exercise: str = "", kind: str = "code") -> dict[str, Any]:
    metadata: dict[str, Any] = {"minivmm": {"exercise": exercise}} if exercise else {}
    return {"cell_type": kind, "id": id or "x", "metadata": metadata, "source": source, "outputs": []}


def notebook(*cells: dict[str, Any], lab: str = "70") -> dict[str, Any]:
    metadata = {"minivmm": {"lab": lab}} if lab else {}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": list(cells)}


def answers(**changed: str) -> list[dict[str, Any]]:
    """The right answers, one cell each, with some replaced."""
    return [cell({**RIGHT, **changed}[name], f"lab70-{name}", TASKS[name]) for name in RIGHT]


def by_id(report: Report) -> dict[str, CheckResult]:
    return {check.id: check for lab in report.labs for check in lab.checks}
