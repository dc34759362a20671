"""Signals that end the program, put off until the machine stands still.

A signal's handler runs between any two lines of Python and may raise: KeyboardInterrupt, SystemExit. With a backend in
C that is soon after KVM_RUN; with one in Python it may be in the middle of an instruction, with locks held. So while a
machine runs, the first such signal stops it, and the handler has its turn when it stands. The second is not put off: a
device that hangs must not make the program immortal.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class PutOff:
    """While it is entered, in the main thread, `stop` is called in place of the handlers. They run at the exit."""

    def __init__(self, stop: Callable[[], object]) -> None:
        self._stop = stop
        self._handlers: dict[int, Any] = {}
        self._came: tuple[int, FrameType | None] | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                handler = signal.getsignal(number)
                if callable(handler):  # and not SIG_DFL, SIG_IGN, or one that is not Python's
                    self._handlers[number] = handler
                    signal.signal(number, self._take)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._came is not None and exception[0] is None:
            number, frame = self._came
            self._handlers[number](number, frame)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._came is not None:
            self._handlers[number](number, frame)
        self._came = number, frame
        self._stop()
