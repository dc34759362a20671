"""What a check may use: memory, processor time, files. Set in the child, before any student code."""

from __future__ import annotations

import math
import resource
from contextlib import suppress
from pathlib import Path

MIB = 1 << 20
SPARE_MIB = 64  # kept back, so that a child out of memory can still say so
FILE_MIB = 16
FILES = 256
THREADS = 64  # beyond those that run already


def set_limits(cpu_seconds: float, memory_mib: int) -> None:
    """Sets the limits of this process and what it forks. Memory counts from the process as it is now."""
    now = virtual_size()
    limit(resource.RLIMIT_AS, now + memory_mib * MIB, now + (memory_mib + SPARE_MIB) * MIB)
    # SIGXCPU first; a child that catches it meets SIGKILL a second later.
    seconds = math.ceil(cpu_seconds) + 1
    limit(resource.RLIMIT_CPU, seconds, seconds + 1)
    limit(resource.RLIMIT_CORE, 0, 0)
    limit(resource.RLIMIT_FSIZE, FILE_MIB * MIB, FILE_MIB * MIB)
    limit(resource.RLIMIT_NOFILE, FILES, FILES)
    with suppress(OSError, ValueError, IndexError):
        # Counted per user, not per process, so it must lie above all that the user runs elsewhere.
        running = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
        limit(resource.RLIMIT_NPROC, running + THREADS, running + THREADS)


def spend_the_spare() -> None:
    """Raises the memory limit to its hard value: called when student code has failed and the child must report."""
    with suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def limit(what: int, soft: int, hard: int) -> None:
    """Sets one limit, never above what the process was given."""
    ceiling = resource.getrlimit(what)[1]
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    with suppress(OSError, ValueError):
        resource.setrlimit(what, (soft, hard))


def virtual_size() -> int:
    """Bytes of address space in use (source: proc(5), statm, first field in pages)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 1 << 30
