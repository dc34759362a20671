"""Runs benchmarks and prints their tables: python -m benchmarks [--box] [NAME …].

Without a name the quick ones run: exits, startup, memory, soft, grading. The others take minutes: linux and block boot
Linux beside QEMU, rates counts exits by kind. With --box they run inside QEMU on an upstream KVM (tools/box.py), for
machines that have none.
"""

from __future__ import annotations

import importlib
import os
import platform
import signal
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.qemu import CannotMeasureError
from minivmm.accel import NoBackendError, choose
from minivmm.kvm import MODE

QUICK = "exits", "startup", "memory", "soft", "grading"
LONG = "linux", "block", "rates"
BOX_SECONDS = 3600
WIDTH = 110  # where the output is no terminal


def main(arguments: list[str]) -> int:
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    names = [word for word in arguments if word != "--box"]
    if unknown := [name for name in names if name not in QUICK + LONG]:
        console.print(f"No benchmark is called {unknown[0]!r}: there are {', '.join(QUICK + LONG)}.")
        return 2
    if "--box" in arguments:
        return in_box(console, names)
    try:
        choice = choose()
    except NoBackendError as error:
        console.print(f"Nothing to measure on: {error}")
        return 3
    where = " in the box" if "MINIVMM_BOX" in os.environ else ""
    console.print(
        f"backend {choice.backend.name}{where}, {MODE} mode, Python {platform.python_version()}, {platform.machine()}"
    )
    for name in names or QUICK:
        try:
            console.print(importlib.import_module(f"benchmarks.{name}").measure())
            sys.stdout.flush()  # a table took minutes: let nothing that happens to the next one take it away
        except CannotMeasureError as error:
            console.print(f"Can't measure {name}: {error}", markup=False)
            return 3
    return 0


def in_box(console: Console, names: list[str]) -> int:
    """The same inside a box."""
    sys.path.append(str(Path(__file__).parents[1] / "tools"))  # a folder of scripts, which import one another so
    from box import CANNOT, Box, BoxError

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the box goes too
    try:
        return Box().run([sys.executable, "-m", "benchmarks", *names], BOX_SECONDS)
    except BoxError as error:
        console.print(str(error), markup=False)
        return CANNOT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
