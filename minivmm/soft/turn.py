"""Whose turn it is: one engine of a VM runs at a time.

The engines of a VM share its memory but not their notion of an atomic access: LOCK means nothing between two of them.
So they take turns, in the order they asked, as does whoever changes what a running engine relies on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Self


class Turn:
    """A lock that is handed over in order. Not reentrant.

    As a context manager it is for everybody but the vCPUs: `urge` then tells the one that runs to make way soon.
    """

    def __init__(self, urge: Callable[[], None] = lambda: None) -> None:
        self._urge = urge
        self._lock = threading.Lock()
        self._taken = False
        self._queue: deque[threading.Lock] = deque()

    def acquire(self, *, urgent: bool = False) -> int:
        """Waits for the turn. Returns how long it took, in ns; 0 where nobody else had it."""
        with self._lock:
            if not self._taken:
                self._taken = True
                return 0
            mine = threading.Lock()
            mine.acquire()
            self._queue.append(mine)
        if urgent:
            self._urge()
        since = time.monotonic_ns()
        mine.acquire()  # released by whoever hands the turn over
        return time.monotonic_ns() - since

    def release(self) -> None:
        with self._lock:
            if self._queue:
                self._queue.popleft().release()
            else:
                self._taken = False

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for it."""
        return bool(self._queue)

    def offer(self) -> int | None:
        """Lets those who wait go first. Returns how long that took, in ns; None where nobody waited."""
        if not self._queue:
            return None
        self.release()
        return self.acquire()

    def __enter__(self) -> Self:
        self.acquire(urgent=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()
