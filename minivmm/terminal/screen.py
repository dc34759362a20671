"""Standard output, shared by the guest and us."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

HELD_MOST = 1 << 16


class Screen:
    """Writes what the guest prints (`guest`, from any thread) and what we say (`say`) to the descriptor `fd`.

    While `held`, the guest's text waits, up to 64 KiB, so that a monitor command is not torn apart by a boot log. Where
    nobody reads any more (a closed pipe), `gone` is called, once, and all later text is dropped.
    """

    def __init__(self, fd: int, gone: Callable[[], object]) -> None:
        self._fd = fd
        self._gone = gone
        self._lock = threading.RLock()
        self._held: bytearray | None = None
        self._closed = False

    def guest(self, data: bytes) -> None:
        with self._lock:
            if self._held is None:
                self._write(data)
                return
            self._held += data
            if len(self._held) > HELD_MOST:
                self._write(bytes(self._held))
                self._held.clear()

    def say(self, text: str) -> None:
        with self._lock:
            self._write(text.encode(errors="replace"))

    def hold(self) -> None:
        """Lets the guest's text wait from now on."""
        with self._lock:
            self._held = self._held if self._held is not None else bytearray()

    def release(self) -> None:
        """Shows what has waited, and holds nothing any more."""
        with self._lock:
            held, self._held = self._held, None
            self._write(bytes(held or b""))

    def _write(self, data: bytes) -> None:
        while data and not self._closed:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # somebody else made the terminal non-blocking
                select.select([], [self._fd], [])
            except OSError:
                self._closed = True
                self._gone()
