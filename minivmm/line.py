"""An interrupt line: the one thing that a device has to do with interrupts.

A device gets a line and sets its level; where the line leads (a PIC in Python, KVM_IRQ_LINE, an irqfd) is the machine's
business, and is the line's `sink`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Line:
    """Line `number`. `sink(number, level)` hears of every change, in order.

    Any thread may call it: a change and its way through the sink are one step. So the sink must not wait for another
    thread that may set the same line.
    """

    def __init__(self, sink: Callable[[int, bool], object], number: int) -> None:
        self.number = number
        self.level = False
        self._sink = sink
        self._lock = threading.RLock()  # re-entrant: a sink may run the interrupt to its end, and lower the line

    def set(self, level: bool) -> None:
        """Drives the line high (True) or low. Setting it to what it is does nothing."""
        with self._lock:
            if level is not self.level:
                self.level = level
                self._sink(self.number, level)

    def raise_(self) -> None:
        """Drives the line high."""
        self.set(True)

    def lower(self) -> None:
        """Drives the line low."""
        self.set(False)

    def pulse(self) -> None:
        """High and low again: one edge, for a device that has nothing to keep asking for."""
        with self._lock:
            self.set(True)
            self.set(False)

    def __repr__(self) -> str:
        return f"<Line {self.number}, {'high' if self.level else 'low'}>"
