"""The few Linux calls that Python has no word for. Each says whether it worked; where one is absent, we do without."""

from __future__ import annotations

import ctypes
import os
import time
from contextlib import suppress
from pathlib import Path

# <linux/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, argument: int) -> bool:
    """prctl(2), where there is one."""
    return hasattr(libc, "prctl") and libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) == 0


def syscall(number: int, *arguments: object) -> int:
    """A raw system call: the result, or -errno."""
    result: int = libc.syscall(ctypes.c_long(number), *arguments)
    return -ctypes.get_errno() if result < 0 else result


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, guests it runs included; 0 when it is gone.

    Source: the kernel's encoding of a process's CPU clock, include/linux/posix-timers.h (CPUCLOCK_SCHED = 2).
    """
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return 0.0


def children(pid: int) -> list[int]:
    """Direct children of a process, from procfs; empty where it can't say."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError, ValueError):
                found += map(int, (thread / "children").read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    """Every process below `pid`, the nearest first."""
    found = children(pid)
    for child in found:  # grows as it goes
        found += children(child)
    return found


def kill_descendants(pid: int) -> None:
    """Kills everything below `pid`, also what forks while we look: first stop all, then kill all, until none is left.

    `pid` must be the caller, and a subreaper: then orphans of orphans are its children too.
    """
    import signal

    for _ in range(50):
        below = descendants(pid)
        if not below:
            return
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for child in below:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(child, number)
            if number is signal.SIGSTOP:
                below += [late for late in descendants(pid) if late not in below]
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.002)
