"""From nothing to the first exit of a guest, and what a whole process costs around it."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from rich.table import Table

from benchmarks.tables import new_table
from minivmm.boot.layout import Mode
from minivmm.machine import Machine

ROUNDS = 50
MODES: tuple[Mode, ...] = ("real", "protected", "long")


def first_exit(mode: Mode) -> float:
    """Seconds from Machine() to HLT with 1 MiB of memory; closing is not counted."""
    start = time.perf_counter()
    machine = Machine()
    machine.load(0x1000, b"\xf4")
    machine.enter(mode, 0x1000)
    machine.run()
    taken = time.perf_counter() - start
    machine.close()
    return taken


def process(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def measure() -> Table:
    table = new_table("VM create to first exit", ("what", "ms, median", "ms, least"))
    for mode in MODES:
        first_exit(mode)
        taken = [first_exit(mode) * 1e3 for _ in range(ROUNDS)]
        table.add_row(f"Machine to HLT, {mode} mode", f"{statistics.median(taken):.2f}", f"{min(taken):.2f}")
    programs = {
        "python -c pass": "pass",
        "python, import minivmm.machine": "import minivmm.machine",
        "python, import, machine, HLT": "from benchmarks.startup import first_exit; first_exit('real')",
    }
    for name, code in programs.items():
        taken = [process(code) * 1e3 for _ in range(7)]
        table.add_row(name, f"{statistics.median(taken):.1f}", f"{min(taken):.1f}")
    return table
