"""The time of a soft VM: the host's, or one that counts instructions and is therefore the same in every run.

The TSC runs at 1 GHz in both: a nanosecond of the clock, or an instruction.
"""

from __future__ import annotations

import time
from typing import Protocol

from minivmm.soft.engine import Engine

TSC_KHZ = 1_000_000
SLICE = 20_000  # basic blocks, or instructions: how long the engine runs before timers are looked at
LONG_SLICE = 1_000_000  # … where there is no timer to look at
WALL_START = 1_700_000_000_000_000_000  # the time of day, in ns since 1970, where counting VMs begin


class Clock(Protocol):
    """Time in ns from when the VM was made. `counting` says that it comes from the engines."""

    counting: bool

    def now(self) -> int: ...

    def wall(self) -> int:
        """The time of day, in ns since 1970."""
        ...

    def before_run(self, engine: Engine) -> None:
        """From now on `engine` has its turn: only it runs, and what it retires is what passes."""
        ...

    def after_run(self, engine: Engine) -> None:
        """Its turn is over."""
        ...

    def slice_to(self, due: int | None) -> int:
        """How long an engine may run, where the next timer is due at `due`: blocks, or instructions if counting."""
        ...

    def skip_to(self, moment: int) -> bool:
        """All vCPUs sleep until `moment`: a counting clock jumps there. False: wait for it."""
        ...


class WallClock:
    """Follows the host's monotonic clock."""

    counting = False

    def __init__(self) -> None:
        self._start = time.monotonic_ns()

    def now(self) -> int:
        return time.monotonic_ns() - self._start

    def wall(self) -> int:
        return time.time_ns()

    def before_run(self, engine: Engine) -> None:
        pass  # the engine asks the host's clock itself

    def after_run(self, engine: Engine) -> None:
        pass

    def slice_to(self, due: int | None) -> int:
        return LONG_SLICE if due is None else SLICE

    def skip_to(self, moment: int) -> bool:
        return False

    @property
    def engine_offset(self) -> int:
        """What the engine's own reading must be corrected by."""
        return -self._start


class CountingClock:
    """One ns for each instruction that any vCPU retires."""

    counting = True
    engine_offset = 0

    def __init__(self) -> None:
        self._past = 0  # ns before the turn in progress
        self._running: Engine | None = None

    def now(self) -> int:
        return int(self._running.cpu.retired) if self._running else self._past

    def wall(self) -> int:
        return WALL_START + self.now()

    def before_run(self, engine: Engine) -> None:
        if engine is not self._running:
            engine.cpu.retired = self.now()
            self._running = engine

    def after_run(self, engine: Engine) -> None:
        if engine is self._running:
            self._past, self._running = self.now(), None

    def slice_to(self, due: int | None) -> int:
        # Not a slice of some length, which would begin anew at each kick: the timer is due at the same instruction.
        return LONG_SLICE if due is None else min(LONG_SLICE, max(1, due - self.now()))

    def skip_to(self, moment: int) -> bool:
        moment = max(moment, self.now())
        if self._running:
            self._running.cpu.retired = moment
        self._past = moment
        return True


class TscCounter:
    """The time-stamp counter of one vCPU: the clock, and what WRMSR added."""

    khz = TSC_KHZ

    def __init__(self, clock: WallClock | CountingClock, engine: Engine) -> None:
        self._clock = clock
        self._engine = engine
        self.offset = 0

    def read(self) -> int:
        return self._clock.now() + self.offset & (1 << 64) - 1

    @property
    def offset(self) -> int:
        """What is added to the clock, in ticks (ns)."""
        return self._offset

    @offset.setter
    def offset(self, ticks: int) -> None:
        self._offset = ticks
        raw = ticks + self._clock.engine_offset & (1 << 64) - 1
        self._engine.cpu.tsc_offset = raw - (1 << 64) if raw >> 63 else raw
