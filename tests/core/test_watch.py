"""What a time-out is counted by."""

from __future__ import annotations

import threading
import time

from minivmm import watch


def test_a_clock_that_stands_still_lets_nothing_expire():
    now, kicked = [0.0], threading.Event()
    before = watch.use(lambda: now[0])
    try:
        with watch.Watch(kicked.set, 0.01) as waiting:
            assert kicked.wait(10)  # the heartbeat, which is of the real clock
            assert not waiting.expired
            now[0], _ = 0.02, kicked.clear()
            assert kicked.wait(10)
            assert waiting.expired
    finally:
        assert watch.use(before) is not before


def test_without_another_clock_it_is_the_real_one():
    kicked = threading.Event()
    start = time.monotonic()
    with watch.Watch(kicked.set, 0.05) as waiting:
        while not waiting.expired:
            assert kicked.wait(10)
    assert time.monotonic() - start >= 0.05
