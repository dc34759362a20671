"""The clock beside a run: a time-out, and a heartbeat that lets Ctrl-C through."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self

HEARTBEAT = 0.25  # seconds

Clock = Callable[[], float]
_clock: Clock = time.monotonic


def use(clock: Clock) -> Clock:
    """From now on time-outs are counted by `clock` (in seconds, never backwards). Returns the one before."""
    global _clock
    before, _clock = _clock, clock
    return before


class Watch:
    """While it is entered, a thread calls `kick` at each heartbeat, and at the end of `timeout` seconds.

    Why the heartbeat: a signal that arrives just before KVM_RUN does not end it. Python has noted the Ctrl-C but gets
    no chance to raise KeyboardInterrupt while a guest spins. A kick every quarter second gives it that chance.
    """

    def __init__(self, kick: Callable[[], None], timeout: float | None = None) -> None:
        self.expired = False
        self._kick = kick
        self._clock = _clock
        self._deadline = None if timeout is None else self._clock() + timeout
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="minivmm watch", daemon=True)

    def _watch(self) -> None:
        while not self._over.wait(self._next()):
            self.expired = self._deadline is not None and self._clock() >= self._deadline
            self._kick()  # again and again once expired: one kick may fall where the loop has just looked

    def _next(self) -> float:
        if self._deadline is None or self.expired:
            return HEARTBEAT
        return max(0.0, min(HEARTBEAT, self._deadline - self._clock()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()
