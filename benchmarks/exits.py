"""What an exit costs: raw C, bare cffi, and the full run loop with bus and device. Interleaved in one run.

The three drive the same vCPU of the same VM, which executes one OUT (or one store to a hole) after the other, so they
differ in nothing but the loop around KVM_RUN. Ratios are of neighbours in time, for a shared machine's speed drifts.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cffi import FFI
from rich.table import Table

from benchmarks.tables import new_table
from minivmm.kvm import ffi
from minivmm.machine import Machine

EXITS = 10_000
ROUNDS = 15
PORT = 0x0510
HOLE = 0xA0000

# In protected mode, so that each loop is an instruction or two and a jump. The second is the worst case for a run loop
# that knows exits again: `inc eax` makes every one of them new.
LOOPS = {
    "PIO": bytes.fromhex("66ba1005 ee ebfd"),  # out dx, al
    "PIO, data never the same": bytes.fromhex("66ba1005 ef 40 ebfc"),  # out dx, eax; inc eax
    "MMIO": bytes.fromhex("bb00000a00 8803 ebfc"),  # mov [ebx], al
}


class Counter:
    """A device that calls `full` when `left` accesses are over, and before, at each of them, `each`."""

    name = "counter"

    def __init__(self, claim: range, full: Callable[[], object], *, each: Callable[[], object] | None = None) -> None:
        self.claim = claim
        self.left = 0
        self._full = full
        self._each = each

    def read(self, offset: int, size: int) -> int:
        self.write(offset, size, 0)
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        if self._each is not None:
            self._each()
        self.left -= 1
        if not self.left:
            self._full()

    def save(self) -> dict[str, Any]:
        return {}

    def load(self, state: dict[str, Any]) -> None:
        pass


def raw_loop(folder: Path) -> Callable[[Machine], None] | None:
    """The loop in C, or None where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library = folder / "raw.so"
    source = Path(__file__).with_name("raw.c")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    c = FFI()
    c.cdef("long run_exits(int vcpu, void *run, long exits);")
    run_exits = c.dlopen(str(library)).run_exits

    def loop(machine: Machine) -> None:
        page = c.cast("void *", int(ffi.cast("uintptr_t", machine.vcpu.run_page.c)))
        if run_exits(int(machine.vcpu.fd), page, EXITS) < 0:
            raise RuntimeError("the baseline met an exit that it did not expect")

    return loop


def bare_loop(machine: Machine) -> None:
    """KVM_RUN and a look at the reason, nothing else: the least that Python can do."""
    run, fd, page = machine.vm.backend.run, int(machine.vcpu.fd), machine.vcpu.run_page.c
    for _ in range(EXITS):
        run(fd, page)
        page.exit_reason  # noqa: B018


def full_loop(machine: Machine) -> None:
    device = next(device for device in (*machine.ports.devices, *machine.mmio.devices) if device.name == "counter")
    assert isinstance(device, Counter)
    device.left = EXITS
    machine.run()
    machine.vcpu.finish_io()  # takes back the kick of stop(), which the other loops don't expect


def prepared(kind: str) -> Machine:
    machine = Machine(0)
    machine.memory.add(0, HOLE)
    machine.load(0x1000, LOOPS[kind])
    machine.enter("protected", 0x1000)
    bus, start = (machine.mmio, HOLE) if kind == "MMIO" else (machine.ports, PORT)
    bus.attach(Counter(range(start, start + 4), machine.stop))
    return machine


def measure() -> Table:
    table = new_table(f"one exit ({ROUNDS} rounds of {EXITS})", ("exit", "loop", "ns, median", "ratio to raw C"))
    with tempfile.TemporaryDirectory() as folder:
        raw = raw_loop(Path(folder))
        loops = {"bare cffi": bare_loop, "full run loop": full_loop}
        if raw is not None:
            loops = {"raw C": raw, **loops}
        for kind in LOOPS:
            with prepared(kind) as machine:
                times: dict[str, list[float]] = {name: [] for name in loops}
                for _ in range(ROUNDS):
                    for name, loop in loops.items():
                        start = time.perf_counter()
                        loop(machine)
                        times[name].append((time.perf_counter() - start) / EXITS * 1e9)
            for name, taken in times.items():
                ratio = "no C compiler here"
                if raw is not None:
                    ratio = f"{statistics.median(a / b for a, b in zip(taken, times['raw C'], strict=True)):.3f}"
                table.add_row(kind, name, f"{statistics.median(taken):.0f}", ratio)
    return table
