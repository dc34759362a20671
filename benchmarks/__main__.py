"""Runs the benchmarks and prints their tables: python -m benchmarks [exits|startup|memory|grading …]."""

from __future__ import annotations

import platform
import sys

from rich.console import Console

from benchmarks import exits, grading, memory, startup
from minivmm.accel import NoBackendError, choose
from minivmm.kvm import MODE

ALL = {"exits": exits, "startup": startup, "memory": memory, "grading": grading}


def main(names: list[str]) -> int:
    console = Console()
    if unknown := [name for name in names if name not in ALL]:
        console.print(f"No benchmark is called {unknown[0]!r}: there are {', '.join(ALL)}.")
        return 2
    try:
        choice = choose()
    except NoBackendError as error:
        console.print(f"Nothing to measure on: {error}")
        return 3
    console.print(
        f"backend {choice.backend.name}, {MODE} mode, Python {platform.python_version()}, {platform.machine()}"
    )
    for name in names or ALL:
        console.print(ALL[name].measure())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
