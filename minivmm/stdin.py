"""Standard input as the far end of the serial line."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from minivmm.devices.uart import Uart

PATIENCE = 0.05  # seconds that piped input gets to arrive before the guest starts
CHUNK = 4096


@contextmanager
def feed_from_stdin(uart: Uart) -> Iterator[None]:
    """Feeds what comes on standard input to `uart` while it is entered.

    Piped input that is there at once is fed before the guest starts, for a simple guest reads without asking the line
    status first; the rest follows as it comes.
    """
    try:
        source = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # no standard input at all
        yield
        return
    if not os.isatty(source):
        while select.select([source], [], [], PATIENCE)[0]:
            data = os.read(source, CHUNK)
            if not data:
                yield
                return
            uart.feed(data)
    over, over_write = os.pipe()
    reader = threading.Thread(target=_read, args=(source, over, uart), name="minivmm stdin", daemon=True)
    reader.start()
    try:
        yield
    finally:
        os.close(over_write)  # wakes the reader, so that it does not eat input meant for whoever comes next
        reader.join()
        os.close(over)


def _read(source: int, over: int, uart: Uart) -> None:
    while True:
        ready, _, _ = select.select([source, over], [], [])
        if over in ready:
            return
        data = os.read(source, CHUNK)
        if not data:
            return
        uart.feed(data)
