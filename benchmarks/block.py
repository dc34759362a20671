"""A virtio disk under direct I/O: one big request after the other, and one small one; minivmm's against QEMU's.

The guest says when each part ends, and the clock is the host's, so that a guest whose time is wrong can't cheat. The
image is in memory (tmpfs): what is measured is the way to it.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path

from rich.table import Table

from benchmarks.linux import make_guest, ratio
from benchmarks.qemu import contests
from benchmarks.tables import new_table
from benchmarks.watched import Moment, Watched, in_turn

ROUNDS = 3
MIB = 1 << 20
DISK = 64  # MiB
PASSES = 4  # through the whole disk
REQUESTS = 4000  # of 4 KiB
IN_MEMORY = Path("/dev/shm")

WORK = {  # mark → what is shown, how it is counted, and the work
    "read": ("MiB/s read", DISK * PASSES, "dd if=/dev/vda of=/dev/null bs=1M iflag=direct"),
    "write": ("MiB/s written", DISK * PASSES, "dd if=/dev/zero of=/dev/vda bs=1M count={disk} oflag=direct"),
    "small_read": ("4 KiB reads/s", REQUESTS, "dd if=/dev/vda of=/dev/null bs=4k count={requests} iflag=direct"),
    "small_write": ("4 KiB writes/s", REQUESTS, "dd if=/dev/zero of=/dev/vda bs=4k count={requests} oflag=direct"),
}
PREPARE = """\
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
for module in $(cat /lib/order); do insmod /lib/$module; done
exec 2>/dev/null
dd if=/dev/vda of=/dev/null bs=1M iflag=direct
echo @ready
"""


def script() -> str:
    """The guest's first program: all the work, with a mark behind each part."""
    lines = [PREPARE]
    for mark, (_, amount, work) in WORK.items():
        times = PASSES if amount == DISK * PASSES else 1
        lines += [work.format(disk=DISK, requests=REQUESTS)] * times + [f"echo @{mark}"]
    return "\n".join([*lines, "sleep 1000", ""])


def measure() -> Table:
    table = new_table(
        "a virtio disk, direct I/O", ("VMM", "what", "median", "ratio", "processor ms each", "ratio"), busy=True
    )
    place = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        disk = Path(folder) / "disk"
        disk.write_bytes(os.urandom(MIB) * DISK)
        guest = make_guest(Path(folder), script(), disk)
        for contest in contests():
            samples = in_turn(contest, guest, ROUNDS, at_work)
            baseline = next(iter(samples.values()))
            for mark, (what, amount, _) in WORK.items():
                for name, taken in samples.items():
                    table.add_row(
                        name, what, *cells([each[mark] for each in taken], [each[mark] for each in baseline], amount)
                    )
    return table


def at_work(vmm: Watched) -> dict[str, Moment]:
    """How long each part took."""
    found, before = {}, vmm.until("ready")
    for mark in WORK:
        now = vmm.until(mark)
        found[mark], before = now - before, now
    return found


def cells(taken: list[Moment], baseline: list[Moment], amount: int) -> list[str]:
    """Rates: a ratio above 1 is faster than QEMU. Of processor time: below 1 is less than QEMU's."""
    rates = tuple(amount / each.wall for each in taken)
    costs = tuple(each.cpu for each in taken)
    return [
        f"{statistics.median(rates):.0f}",
        ratio(rates, tuple(amount / each.wall for each in baseline)),
        f"{statistics.median(costs) / amount * 1e3:.3f}",
        ratio(costs, tuple(each.cpu for each in baseline)),
    ]
