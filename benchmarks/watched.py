"""A VMM as a process that is looked at from outside: what its guest prints and when, its processor time, its memory.

Source: proc(5): /proc/PID/stat, fields 14 and 15; /proc/PID/smaps.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.qemu import MEMORY, CannotMeasureError, Contest, Guest

T = TypeVar("T")

TICK = os.sysconf("SC_CLK_TCK")
MARK = re.compile(rb"^@(\w+)\r*\n", re.MULTILINE)  # what guests print for us: @ and a word on a line
MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) ")


@dataclass(frozen=True)
class Moment:
    """When a mark came: seconds since the process started, and the processor time that it had used by then."""

    wall: float
    cpu: float

    def __sub__(self, other: Moment) -> Moment:
        return Moment(self.wall - other.wall, self.cpu - other.cpu)


class Watched:
    """A VMM at work, from `start` on. A context manager: at the end the process is gone."""

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        self._text = b""
        self._seen: dict[str, Moment] = {}
        self._start = time.monotonic()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=environment,
        )

    def until(self, mark: str, timeout: float = 300) -> Moment:
        """Reads on to the line `@mark`. Raises CannotMeasureError where the process ends before it, or after `timeout`
        seconds."""
        deadline = time.monotonic() + timeout
        stream = self._process.stdout
        assert stream is not None
        while mark not in self._seen:
            ready = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0]
            block = os.read(stream.fileno(), 1 << 16) if ready else b""
            moment = Moment(time.monotonic() - self._start, self._cpu())
            if not block:
                raise CannotMeasureError(self._why(mark, timeout if not ready else None))
            self._text += block
            for found in MARK.findall(self._text):
                self._seen.setdefault(found.decode(), moment)
        return self._seen[mark]

    def _why(self, mark: str, timeout: float | None) -> str:
        self._process.kill()
        _, errors = self._process.communicate()
        reason = "ended" if timeout is None else f"was killed after {timeout:g} s"
        said = (self._text + errors).decode(errors="replace").split("\n")[-15:]
        name = Path(str(self._process.args[0])).name  # type: ignore[index]
        return "\n  ".join([f"{name} {reason} before its guest printed @{mark}. The last that it said:", *said])

    def _cpu(self) -> float:
        """Processor time of all its threads in seconds, the guest's included."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory_over_guest(self) -> float:
        """MiB that the process holds (its share of what others hold too) besides the guest's RAM, as smaps has it.

        Its guest's RAM is the mapping that is nearest in size to what the guest was promised.
        """
        sizes: list[tuple[int, int, int]] = []  # how far from MEMORY, and PSS; KiB
        for line in Path(f"/proc/{self._process.pid}/smaps").read_text().splitlines():
            if found := MAPPING.match(line):
                size = int(found[2], 16) - int(found[1], 16) >> 10
                sizes.append((abs(size - (MEMORY << 10)), size, 0))
            elif line.startswith("Pss:"):
                sizes[-1] = (*sizes[-1][:2], int(line.split()[1]))
        sizes.sort()
        return sum(pss for _, _, pss in sizes[1:]) / 1024

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def in_turn(contest: Contest, guest: Guest, rounds: int, look: Callable[[Watched], T]) -> dict[str, list[T]]:
    """What `look` finds in each VMM of the contest, one after the other, so often; by name, QEMU first. Each finding is
    told on stderr, for all of it takes minutes.

    A round before the first one doesn't count: it fills the caches of the host, and of Python (.pyc files), as any
    program's second start has them.
    """
    found: dict[str, list[T]] = {name: [] for name in contest.vmms}
    with tempfile.TemporaryDirectory() as bytecode:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = bytecode
        for number in range(rounds + 1):
            for name, command in contest.vmms.items():
                with Watched(command(guest), environment) as vmm:
                    finding = look(vmm)
                print(f"round {number}, {name}: {finding}", file=sys.stderr, flush=True)
                if number:
                    found[name].append(finding)
    return found
