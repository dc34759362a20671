"""The clock that exercises drive."""

from __future__ import annotations

from minivmm.devices.work_clock import WorkClock


def test_time_passes_by_writes_only():
    clock = WorkClock()
    assert clock.read(0, 4) == clock.read(0, 4) == 0
    clock.write(0, 4, 0x12345)
    clock.write(0, 1, 3)
    assert clock.now == 0x12348
    assert (clock.read(0, 4), clock.read(0, 1), clock.read(1, 1), clock.read(0, 2)) == (0x12348, 0x48, 0x23, 0x2348)


def test_a_read_shows_32_bits():
    assert WorkClock(0x1_0000_0005).read(0, 4) == 5


def test_an_alarm_rings_once_and_not_early():
    clock, rung = WorkClock(100), []
    clock.set(10, lambda: rung.append(clock.now))
    clock.work(9)
    assert rung == []
    clock.work(5)
    clock.work(100)
    assert rung == [114]


def test_a_cancelled_alarm_and_one_that_was_replaced_stay_silent():
    clock, rung = WorkClock(), []
    clock.set(10, lambda: rung.append("first"))
    clock.cancel()
    clock.set(10, lambda: rung.append("second"))
    clock.set(20, lambda: rung.append("third"))
    clock.work(50)
    assert rung == ["third"]


def test_an_alarm_may_set_the_next():
    clock, rung = WorkClock(), []

    def ring() -> None:
        rung.append(clock.now)
        clock.set(10, ring)

    clock.set(10, ring)
    for _ in range(30):
        clock.work(1)
    assert rung == [10, 20, 30]


def test_saved_and_loaded():
    clock, other = WorkClock(7), WorkClock()
    other.set(1, lambda: None)
    other.load(clock.save())
    assert (other.now, other.due) == (7, None)
