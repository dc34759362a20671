"""Linux from the start of the process to its first program, minivmm's against QEMU's microvm; and their memory there.

The same kernel (Debian's cloud kernel), initial RAM disk and command line, in turn, so that a busy machine is busy for
both. Wall-clock time is what a student waits; processor time is what a busy machine doesn't distort.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from rich.table import Table

from benchmarks.qemu import CannotMeasureError, Guest, contests
from benchmarks.tables import new_table
from benchmarks.watched import TICK, Watched, in_turn
from tools import initramfs

ROUNDS = 5
FIRST = "echo @init\n/bin/busybox sleep 1000\n"  # the folder /bin has nothing else yet
Sample = tuple[float, float, float]  # seconds, seconds of processor time, MiB


def measure() -> Table:
    table = new_table(
        "Linux to its first program",
        ("VMM", "s, median", "ratio", "processor s, median", "ratio", "MiB over guest memory"),
        busy=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        guest = make_guest(Path(folder), FIRST)
        for contest in contests():
            samples = in_turn(contest, guest, ROUNDS, boot)
            baseline = next(iter(samples.values()))
            for name, taken in samples.items():
                table.add_row(name, *cells(taken, baseline))
    return table


def make_guest(folder: Path, first: str, disk: Path | None = None) -> Guest:
    """A guest whose first program is the shell script `first`. Raises CannotMeasureError."""
    try:
        kernel = initramfs.newest_kernel()
        initrd = folder / "initrd"
        initrd.write_bytes(initramfs.build(kernel, first))
    except (initramfs.InitramfsError, OSError) as error:
        raise CannotMeasureError(str(error)) from None
    return Guest(kernel, initrd, disk)


def boot(vmm: Watched) -> Sample:
    moment = vmm.until("init")
    return moment.wall, moment.cpu, vmm.memory_over_guest()


def cells(taken: list[Sample], baseline: list[Sample]) -> list[str]:
    walls, cpus, memory = zip(*taken, strict=True)
    base_walls, base_cpus, _ = zip(*baseline, strict=True)
    return [
        f"{statistics.median(walls):.2f}",
        ratio(walls, base_walls),
        f"{statistics.median(cpus):.2f}",
        ratio(cpus, base_cpus),
        f"{statistics.median(memory):.1f}",
    ]


def ratio(ours: tuple[float, ...], theirs: tuple[float, ...]) -> str:
    """The median of the ratios of neighbours in time. What is nothing to the clock counts as half a tick of it."""
    return f"{statistics.median(a / max(b, 0.5 / TICK) for a, b in zip(ours, theirs, strict=True)):.2f}"
