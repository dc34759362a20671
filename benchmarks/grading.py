"""Grading one submission of all labs, interpreter start included, and where the time goes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.table import Table

from benchmarks.tables import new_table
from minivmm import resources

ROUNDS = 5


def timed(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def measure() -> Table:
    table = new_table("grading one submission", ("what", "seconds, median"))
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        grade = ("-m", "autograder.cli", "grade", str(resources.folder("solutions")), "--json", str(report))
        whole = [timed(*grade, "--seed", "1") for _ in range(ROUNDS)]
        one = [timed(*grade, "--seed", "1", "--jobs", "1") for _ in range(ROUNDS)]
        results = json.loads(report.read_text())
        start = [timed("-c", "pass") for _ in range(ROUNDS)]
        imports = [timed("-c", "import autograder.cli, autograder.grading, autograder.registry") for _ in range(ROUNDS)]
        zygote = [
            timed("-c", "import autograder.sandbox.zygote, minivmm.machine, minivmm.guests") for _ in range(ROUNDS)
        ]
    checks = [check for lab in results["labs"] for check in lab["checks"]]
    slowest = max(checks, key=lambda check: check["seconds"])
    table.add_row(
        f"whole process, {len(checks)} checks of {len(results['labs'])} labs", f"{statistics.median(whole):.2f}"
    )
    table.add_row("the same with --jobs 1", f"{statistics.median(one):.2f}")
    table.add_row("  of which: the checks themselves, one after the other", f"{sum(c['seconds'] for c in checks):.2f}")
    table.add_row(f"  of which: the slowest check, {slowest['id']}", f"{slowest['seconds']:.2f}")
    table.add_row("Python's own start", f"{statistics.median(start):.2f}")
    table.add_row("… and the grader's imports", f"{statistics.median(imports):.2f}")
    table.add_row("… and the sandbox's imports, beside it", f"{statistics.median(zygote):.2f}")
    return table
