"""What the process holds beyond the guest's own memory, when the guest has touched all of it."""

from __future__ import annotations

import statistics
import subprocess
import sys

from rich.table import Table

from benchmarks.tables import new_table

GUEST_MIB = 64
ROUNDS = 5

# The guest writes one byte to each of its pages from 1 MiB up; the process then reports its peak resident size.
# VmHWM, not ru_maxrss: the latter survives exec, and would show what the benchmark itself held when it forked.
PEAK = "next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM'))"

PROGRAM = f"""
from minivmm.machine import Machine
machine = Machine({GUEST_MIB} << 20)
# mov ebx, 0x100000 / mov [ebx], al / add ebx, 0x1000 / cmp ebx, end / jb -16 / hlt
code = bytes.fromhex("bb00001000 8803 81c300100000 81fb") + ({GUEST_MIB} << 20).to_bytes(4, "little")
machine.load(0x1000, code + bytes.fromhex("72f0 f4"))
machine.enter("protected", 0x1000)
assert machine.run(20).reason == "halted"
touched = sum(1 for page in range(0, {GUEST_MIB} << 20, 4096) if machine.memory.slots[0].data[page] or page >= 1 << 20)
print({PEAK}, touched * 4)
"""


def peak(code: str) -> list[int]:
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return [int(word) for word in out.split()]


def measure() -> Table:
    table = new_table(f"memory, guest of {GUEST_MIB} MiB that touches its pages", ("what", "MiB, median"))
    bare = peak(f"print({PEAK})")[0]
    runs = [peak(PROGRAM) for _ in range(ROUNDS)]
    table.add_row("bare Python", f"{bare / 1024:.1f}")
    table.add_row("whole process", f"{statistics.median(rss for rss, _ in runs) / 1024:.1f}")
    table.add_row("over guest memory", f"{statistics.median(rss - guest for rss, guest in runs) / 1024:.1f}")
    return table
