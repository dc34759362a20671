"""Standard input as the far end of the serial line."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import Self

PATIENCE = 0.05  # seconds that piped input gets to arrive before the guest starts
CHUNK = 4096
ENOUGH = 1 << 16  # bytes that the guest has yet to read: more of a pipe can wait
LOOK = 0.25  # seconds between two looks at whether the terminal has become ours: no signal tells
PAUSE = 0.02  # seconds between two looks at whether reading may go on


class Reader:
    """While it is entered, a thread reads the descriptor `fd` and gives what comes to `deliver`.

    Piped input that is there at once is delivered before the guest starts, for a simple guest reads without asking the
    line status first. The end of the input ends the reading and nothing else. `backlog` says how many of the bytes
    delivered nobody has taken yet; while they are many, the rest waits in its pipe. Nothing is read while `may_read`
    says no; it is asked before each read, and now and then while there is nothing to read.
    """

    def __init__(
        self,
        fd: int,
        deliver: Callable[[bytes], object],
        backlog: Callable[[], int] = lambda: 0,
        may_read: Callable[[], bool] | None = None,
    ) -> None:
        self._fd = fd
        self._deliver = deliver
        self._backlog = backlog
        self._may_read = may_read or (lambda: True)
        self._look_up = LOOK if may_read else None
        self._over, self._over_write = -1, -1
        self._thread = threading.Thread(target=self._read, name="minivmm stdin", daemon=True)

    def __enter__(self) -> Self:
        if not os.isatty(self._fd):
            self._first()
        self._over, self._over_write = os.pipe()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._over_write)  # wakes the thread, so that it doesn't eat input meant for whoever comes next
        if self._thread is not threading.current_thread():
            self._thread.join()
        os.close(self._over)

    def _first(self) -> None:
        got = 0
        while got < ENOUGH and select.select([self._fd], [], [], PATIENCE)[0]:
            data = self._some()
            if not data:
                return
            self._deliver(data)
            got += len(data)

    def _read(self) -> None:
        while True:
            while self._backlog() > ENOUGH or not self._may_read():
                if select.select([self._over], [], [], PAUSE)[0]:
                    return
            ready, _, _ = select.select([self._fd, self._over], [], [], self._look_up)
            if self._over in ready:
                return
            if not ready or not self._may_read():  # nothing, or it was typed for somebody else
                continue
            data = self._some()
            if not data:
                return
            self._deliver(data)

    def _some(self) -> bytes:
        """What there is to read; nothing at the end, or where the terminal has been hung up (EIO)."""
        try:
            return os.read(self._fd, CHUNK)
        except OSError:
            return b""
