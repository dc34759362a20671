"""One thread for all devices that do something when their time has come: the clock's alarm, a timer's tick."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol


class Timed(Protocol):
    """A device with a deadline: `advance` is to be called at `next_event` (ns), or later. From any thread."""

    def next_event(self) -> int | None: ...
    def advance(self) -> None: ...


LONGEST = 3600 * 1_000_000_000  # ns: a wait has a limit (threading.TIMEOUT_MAX), an alarm clock hasn't


class Timers:
    """Calls `advance` of each device in time, between `start` and `stop`. `now` is the devices' clock, in ns.

    Whoever has touched a device calls `changed`, for its deadline may be another now.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._timed: list[Timed] = []
        self._changed = threading.Condition()
        self._planned: int | None = None  # what the thread waits for
        self._thread: threading.Thread | None = None
        self._over = False

    def add(self, timed: Timed) -> None:
        self._timed.append(timed)

    def changed(self) -> None:
        """A deadline may have moved."""
        due = self._earliest()
        with self._changed:
            if due is not None and (self._planned is None or due < self._planned):
                self._changed.notify()

    def start(self) -> None:
        """Starts the thread, if there is anything to wait for."""
        if self._timed:
            self._over = False
            self._thread = threading.Thread(target=self._run, name="minivmm timers", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Returns when the thread has ended. A second call does nothing."""
        with self._changed:
            self._over = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _earliest(self) -> int | None:
        return min((due for timed in self._timed if (due := timed.next_event()) is not None), default=None)

    def _run(self) -> None:
        while not self._over:
            with self._changed:
                due = self._earliest()
                left = None if due is None else min(due - self._now(), LONGEST)
                if not self._over and (left is None or left > 0):
                    self._planned = due
                    self._changed.wait(None if left is None else left / 1e9)
                    continue  # it may have been moved meanwhile
            # Without the lock: an interrupt goes a long way.
            for timed in self._timed:
                timed.advance()
