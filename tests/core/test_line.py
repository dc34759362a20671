"""An interrupt line: what its sink hears."""

from __future__ import annotations

import threading
import time

from minivmm.line import Line


def test_the_sink_hears_changes_only() -> None:
    heard: list[tuple[int, bool]] = []
    line = Line(lambda number, level: heard.append((number, level)), 5)
    line.set(False)
    line.set(True)
    line.raise_()
    line.lower()
    line.pulse()
    assert heard == [(5, True), (5, False), (5, True), (5, False)]
    assert line.level is False
    assert repr(line) == "<Line 5, low>"


def test_a_sink_may_lower_the_line_at_once() -> None:
    heard: list[bool] = []

    def serve(number: int, level: bool) -> None:
        heard.append(level)
        if level:
            line.lower()

    line = Line(serve, 1)
    line.raise_()
    assert heard == [True, False]
    assert not line.level


def test_threads_take_turns() -> None:
    """A rise and its fall stay together, however many threads pulse."""
    heard: list[bool] = []

    def listen(number: int, level: bool) -> None:
        heard.append(level)
        time.sleep(0)  # lets another thread go first, if it can

    line = Line(listen, 0)
    threads = [threading.Thread(target=lambda: [line.pulse() for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == [True, False] * 2000
