"""A clock that moves when the guest says that it works, and stands still otherwise: time as an exercise wants it.

On a real host the same program takes another time in every run. Here the guest writes to this port how many ticks a
piece of work takes, so that when a timer is due is the same everywhere, on a fast machine and on a slow one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MASK = 0xFFFF_FFFF


class WorkClock:
    """A write of n to port 0xE0 lets n ticks pass; a read gives the present tick (32 bits of it).

    `now` is the present tick; whoever runs the guest may move it on. One alarm at a time: `set(ticks, function)` calls
    the function once, when that many ticks have passed or more, unless `cancel` comes first.
    """

    name = "work clock"
    claim = range(0xE0, 0xE4)

    def __init__(self, now: int = 0) -> None:
        self.now = now
        self.due: int | None = None
        self._ring: Callable[[], object] = lambda: None

    def work(self, ticks: int) -> None:
        """Lets `ticks` pass; the alarm rings if it is due by then."""
        self.now += ticks
        if self.due is not None and self.now >= self.due:
            self.due = None
            self._ring()

    def set(self, ticks: int, function: Callable[[], object]) -> None:
        """The alarm: calls `function` when `ticks` have passed. It replaces an alarm set before."""
        self.due, self._ring = self.now + ticks, function

    def cancel(self) -> None:
        """No alarm any more."""
        self.due = None

    def read(self, offset: int, size: int) -> int:
        return (self.now & MASK) >> 8 * offset & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        self.work(value)

    def save(self) -> dict[str, Any]:
        """The time alone: an alarm is the host's, and stays with it."""
        return {"now": self.now}

    def load(self, state: dict[str, Any]) -> None:
        self.now = state["now"]
        self.due = None
