"""Random bytes as guest code, in a process of their own: python -m rig.random_code BACKEND MODE SEED COUNT [FIRST]

Prints one JSON object a line: {"n", "ended"} for each byte string, and {"rss"} (in KiB) every hundred. The parent knows
by the last line which string took the process down, and `bytes_of(mode, seed, n)` gives it back.
"""

from __future__ import annotations

import json
import os
import random
import sys
from typing import Any

import capstone  # noqa: F401 (soft loads it for the first guest that needs it: memory is to be compared with like)

from minivmm import exits
from minivmm.accel import choose
from minivmm.kvm.errors import KvmError
from minivmm.watch import Watch
from rig import LONG, Guest
from rig.cpu import IN_BOX
from rig.events import events_of, is_trap

BUDGET = 0.5 if IN_BOX else 0.02  # seconds for each string
MOST_EXITS = 50


def bytes_of(mode: str, seed: int, n: int) -> tuple[bytes, int]:
    """The n-th byte string, and the ring that it runs in: in long mode every second one is user code."""
    source = random.Random(f"{mode} {seed} {n}")
    return source.randbytes(source.randint(1, 64)), 3 if mode == LONG and n % 2 else 0


def run(backend: Any, mode: str, code: bytes, ring: int, source: random.Random) -> str:
    """Runs a byte string from random registers until it can't go on, or time or patience is over; says how it ended."""
    regs = {name: source.getrandbits(64 if mode == LONG else 16) for name in ("rax", "rbx", "rcx", "rdx", "rsi", "rdi")}
    guest = Guest(backend, mode, code, ring=ring, **regs)
    answers = iter(lambda: source.getrandbits(32), None)
    try:
        with Watch(guest.cpu.kick, BUDGET) as watch:
            for _ in range(MOST_EXITS):
                try:
                    exit = guest.cpu._run(watch)
                except AssertionError:  # HangError: still running when its time was over
                    return "time-out"
                list(events_of(exit, answers))
                if is_trap(exit):
                    return "trap"
                if not isinstance(exit, exits.PortOut | exits.PortIn | exits.MmioRead | exits.MmioWrite):
                    return exit.name
        return "many exits"
    except KvmError as error:
        return f"refused: {error}"
    finally:
        guest.close()


def resident() -> int:
    """This process's memory in RAM, in KiB."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def main() -> None:
    name, mode, seed, count, first = (*sys.argv[1:3], *map(int, [*sys.argv[3:], "0"][:3]))
    backend = choose(name).backend
    for n in range(first, first + count):
        code, ring = bytes_of(mode, seed, n)
        print(json.dumps({"n": n}), flush=True)
        ended = run(backend, mode, code, ring, random.Random(n))
        print(json.dumps({"n": n, "ended": ended}), flush=True)
        if n % 100 == 99:
            print(json.dumps({"rss": resident()}), flush=True)


if __name__ == "__main__":
    main()
