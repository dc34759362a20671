"""The ports that are there for whoever watches: debug exit, POST codes, the boot timer."""

from __future__ import annotations

from minivmm.devices.boot_timer import PORT, BootTimer
from minivmm.devices.debug_exit import DebugExit
from minivmm.devices.post_code import PostCode


def test_debug_exit_codes() -> None:
    codes: list[int] = []
    device = DebugExit(codes.append)
    device.write(0, 1, 0x10)
    device.write(0, 4, 0)
    assert codes == [33, 1]
    assert device.read(0, 1) == 0


def test_post_codes_keep_the_last() -> None:
    device = PostCode()
    assert device.read(0, 1) == 0xFF
    for code in range(1000):
        device.write(0, 1, code)
    assert device.read(0, 1) == 999 & 0xFF
    other = PostCode()
    other.load(device.save())
    assert list(other.seen) == list(device.seen) == [code & 0xFF for code in range(744, 1000)]


def test_the_boot_timer_measures_from_the_start_to_the_first_word() -> None:
    clock = [1000]
    told: list[int] = []
    timer = BootTimer(lambda: clock[0], told.append)
    assert timer.claim == range(PORT, PORT + 1)
    clock[0] = 5000
    timer.write(0, 1, 122)
    assert (timer.elapsed, timer.read(0, 1)) == (None, 0)
    timer.write(0, 1, 123)
    clock[0] = 9000
    timer.write(0, 1, 123)
    assert (timer.elapsed, told, timer.read(0, 1)) == (4000, [4000], 123)


def test_a_restored_boot_timer_goes_on_from_where_it_was() -> None:
    timer = BootTimer(lambda: 7000)
    state = timer.save()
    clock = [50]
    other = BootTimer(lambda: clock[0])
    other.load({**state, "running": 400})
    clock[0] = 150
    other.write(0, 1, 123)
    assert other.elapsed == 500
