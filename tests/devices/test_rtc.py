"""The RTC and its CMOS memory by their two ports, on a clock that the test sets."""

from __future__ import annotations

import calendar

import pytest

from minivmm.devices.rtc import Rtc

SECOND = 1_000_000_000
A, B, C, D, CENTURY = 0x0A, 0x0B, 0x0C, 0x0D, 0x32
SET, PIE, AIE, UIE, BINARY, H24 = 0x80, 0x40, 0x20, 0x10, 0x04, 0x02
IRQF, PF, AF, UF = 0x80, 0x40, 0x20, 0x10
GIB = 1 << 30


def unix(*time: int) -> int:
    return calendar.timegm((*time, 0, 0, 0))


class Pc:
    """The chip behind its ports, at a time that is easy to read: Saturday the 29th of February 2020, 21:58:30 UTC."""

    def __init__(self, start: int = unix(2020, 2, 29, 21, 58, 30), fraction: int = 0, **memory: int) -> None:
        self.now = 5_000
        self.line: list[bool] = []
        self.rtc = Rtc(self._set_line, lambda: self.now, lambda: start * SECOND + fraction, **memory)

    def _set_line(self, level: bool) -> None:
        if level is not (self.line[-1] if self.line else False):
            self.line.append(level)

    def __getitem__(self, register: int) -> int:
        self.rtc.write(0, 1, register)
        return self.rtc.read(1, 1)

    def __setitem__(self, register: int, value: int) -> None:
        self.rtc.write(0, 1, register)
        self.rtc.write(1, 1, value)

    @property
    def time(self) -> list[int]:
        """Century, year, month, day, hours, minutes, seconds, and the weekday, as the registers have them."""
        return [self[register] for register in (CENTURY, 9, 8, 7, 4, 2, 0, 6)]

    def set_time(self, *values: int) -> None:
        for register, value in zip((CENTURY, 9, 8, 7, 4, 2, 0), values, strict=True):
            self[register] = value

    def run_to_event(self) -> int:
        """Goes to the next event, as the owner of the chip does; how far that was, in ns."""
        due = self.rtc.next_event()
        assert due is not None
        distance, self.now = due - self.now, due
        self.rtc.advance()
        return distance


@pytest.fixture
def pc() -> Pc:
    return Pc()


# ---- time ----


def test_the_registers_as_it_starts(pc: Pc) -> None:
    assert [pc[A], pc[B], pc[C], pc[D]] == [0x26, H24, 0, 0x80]
    assert pc.time == [0x20, 0x20, 0x02, 0x29, 0x21, 0x58, 0x30, 7]


def test_four_ways_to_write_a_time(pc: Pc) -> None:
    pc[B] = BINARY | H24
    assert pc.time == [20, 20, 2, 29, 21, 58, 30, 7]
    pc[B] = BINARY
    assert pc[4] == 0x80 | 9
    pc[B] = 0
    assert pc[4] == 0x80 | 0x09


@pytest.mark.parametrize(("hour", "register"), [(0, 0x12), (1, 0x01), (11, 0x11), (12, 0x92), (13, 0x81), (23, 0x91)])
def test_twelve_hours_have_no_zero(hour: int, register: int) -> None:
    pc = Pc(unix(2024, 1, 1, hour, 0, 0))
    pc[B] = 0
    assert pc[4] == register
    pc[4] = register  # and back
    pc[B] = H24
    assert pc[4] == hour // 10 << 4 | hour % 10


def test_time_goes_by_the_machines_clock(pc: Pc) -> None:
    pc.now += 90 * SECOND - 1
    assert pc.time[4:] == [0x21, 0x59, 0x59, 7]
    pc.now += 1 + 2 * 3600 * SECOND
    assert pc.time == [0x20, 0x20, 0x03, 0x01, 0x00, 0x00, 0x00, 1]


def test_a_day_of_it_has_no_drift(pc: Pc) -> None:
    pc.now += 86_400 * SECOND - 1
    assert pc.time[6] == 0x29
    pc.now += 1
    assert pc.time == [0x20, 0x20, 0x03, 0x01, 0x21, 0x58, 0x30, 1]


def test_the_second_under_way_at_the_start_ends_in_time() -> None:
    pc = Pc(fraction=SECOND - 100_000)
    pc.now += 99_999
    assert pc[0] == 0x30
    pc.now += 1
    assert pc[0] == 0x31


def test_the_century_changes(pc: Pc) -> None:
    pc = Pc(unix(1999, 12, 31, 23, 59, 59))
    assert pc.time[:2] == [0x19, 0x99]
    pc.now += SECOND
    assert pc.time == [0x20, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00, 7]


def test_setting_it_as_linux_does(pc: Pc) -> None:
    pc.now += SECOND // 3
    pc[B] = H24 | SET
    pc[A] = 0x76  # divider reset
    pc.set_time(0x21, 0x05, 0x12, 0x31, 0x23, 0x59, 0x58)
    pc.now += 10 * SECOND  # nothing moves
    assert pc.time == [0x21, 0x05, 0x12, 0x31, 0x23, 0x59, 0x58, 7]
    pc[B] = H24
    pc.now += SECOND
    assert pc[0] == 0x58  # the chain is still held
    pc[A] = 0x26
    pc.now += SECOND // 2 - 1
    assert pc[0] == 0x58
    pc.now += 1  # the first update comes after half a second
    assert pc.time[4:] == [0x23, 0x59, 0x59, 5]  # the weekday follows from the date


def test_set_freezes_the_registers_but_not_the_chain(pc: Pc) -> None:
    pc.now += SECOND * 3 // 4
    pc[B] = H24 | SET
    pc.now += 20 * SECOND + SECOND // 4 - 1
    assert pc[0] == 0x30
    assert not pc[A] & 0x80  # no update is coming
    pc.now += 1 + SECOND * 3 // 4
    pc[B] = H24
    assert pc[0] == 0x30
    pc.now += SECOND // 4
    assert pc[0] == 0x31


def test_one_register_can_be_set_while_it_runs(pc: Pc) -> None:
    pc[4] = 0x08
    assert pc.time[4:] == [0x08, 0x58, 0x30, 7]


@pytest.mark.parametrize(
    ("written", "becomes"),
    [
        ((0x20, 0x21, 0x02, 0x31, 0x12, 0x00, 0x00), [0x20, 0x21, 0x03, 0x03, 0x12, 0x00, 0x00]),
        ((0x20, 0x21, 0x00, 0x00, 0x12, 0x00, 0x00), [0x20, 0x21, 0x01, 0x01, 0x12, 0x00, 0x00]),
        ((0x00, 0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF), [0x00, 0x02, 0x05, 0x14, 0x21, 0x45, 0x45]),
        ((0xFF, 0xFF, 0x12, 0x99, 0x23, 0x59, 0x59), [0x99, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59]),
    ],
)
def test_an_impossible_date_becomes_one(pc: Pc, written: tuple[int, ...], becomes: list[int]) -> None:
    pc[B] = H24 | SET
    pc.set_time(*written)
    pc[B] = H24
    assert pc.time[:7] == becomes


def test_uip_announces_an_update(pc: Pc) -> None:
    assert not pc[A] & 0x80
    pc.now += SECOND - 2_240_000
    assert not pc[A] & 0x80
    pc.now += 30_000  # 244 µs before the update, which takes 1984 µs
    assert (pc[A] & 0x80, pc[0]) == (0x80, 0x30)
    pc.now += 2_210_000 - 1
    assert (pc[A] & 0x80, pc[0]) == (0x80, 0x30)
    pc.now += 1
    assert (pc[A] & 0x80, pc[0]) == (0, 0x31)


# ---- interrupts ----


def test_update_ended_interrupts(pc: Pc) -> None:
    assert pc.rtc.next_event() is None
    pc[B] = H24 | UIE
    assert pc.run_to_event() == SECOND
    assert pc.line == [True]
    assert pc.rtc.next_event() is None  # the line is up; nothing more to raise
    assert pc[C] == IRQF | PF | UF  # the periodic flag, at 1024 Hz, is set though it does not interrupt
    assert (pc.line, pc[C]) == ([True, False], 0)  # reading clears
    assert pc.run_to_event() == SECOND


def test_set_clears_uie(pc: Pc) -> None:
    pc[B] = H24 | UIE | SET
    assert pc[B] == H24 | SET


@pytest.mark.parametrize(
    ("rate", "hz"), [(1, 256), (2, 128), (3, 8192), (6, 1024), (8, 256), (15, 2)], ids=lambda value: str(value)
)
def test_periodic_interrupts(pc: Pc, rate: int, hz: int) -> None:
    pc[A] = 0x20 | rate
    pc[B] = H24 | PIE
    start = pc.now
    for _ in range(64):
        pc.run_to_event()
        assert pc[C] & (IRQF | PF) == IRQF | PF
    assert pc.now - start == -(-64 * SECOND // hz)
    assert pc.line == [True, False] * 64


def test_rate_0_is_none(pc: Pc) -> None:
    pc[A] = 0x20
    pc[B] = H24 | PIE
    assert pc.rtc.next_event() is None
    pc.now += SECOND
    assert not pc[C] & PF


def test_ticks_that_a_guest_was_too_slow_for_are_one(pc: Pc) -> None:
    pc[B] = H24 | PIE
    pc.now += 10 * SECOND
    pc.rtc.advance()
    assert pc.line == [True]
    assert pc[C] & PF
    assert not pc[C] & PF
    assert pc.run_to_event() == 976_563  # and the next is on the beat: 1/1024 s, rounded up


def test_flags_are_set_without_their_interrupts(pc: Pc) -> None:
    pc.now += SECOND
    pc.rtc.advance()
    assert pc.line == []
    pc[B] = H24 | UIE  # … and interrupt when that is enabled later
    assert pc.line == [True]
    assert pc[C] == IRQF | PF | UF


@pytest.mark.parametrize(
    ("alarm", "after"),
    [
        ((0x21, 0x58, 0x35), 5),
        ((0x21, 0x59, 0x00), 30),
        ((0x22, 0x00, 0x00), 90),
        ((0x21, 0x58, 0x30), 86_400),  # the moment itself is over
        ((0xFF, 0xFF, 0x29), 59),  # every minute
        ((0xC0, 0x00, 0x00), 90),  # every hour
        ((0xFF, 0xFF, 0xFF), 1),  # every second
        ((0x00, 0xFF, 0xFF), 2 * 3600 + 90),
    ],
)
def test_alarms(pc: Pc, alarm: tuple[int, int, int], after: int) -> None:
    pc[5], pc[3], pc[1] = alarm
    assert [pc[5], pc[3], pc[1]] == list(alarm)
    pc[B] = H24 | AIE
    assert pc.run_to_event() == after * SECOND
    assert pc.line == [True]
    assert pc[C] & (IRQF | AF) == IRQF | AF


def test_an_alarm_in_twelve_hours_and_binary(pc: Pc) -> None:
    pc[B] = BINARY | AIE
    pc[5], pc[3], pc[1] = 0x80 | 10, 0, 0
    assert pc.run_to_event() == 90 * SECOND


def test_an_alarm_is_seen_though_nobody_looked_at_that_second(pc: Pc) -> None:
    pc[5], pc[3], pc[1] = 0x22, 0x00, 0x00
    pc.now += 91 * SECOND
    assert pc[C] & AF
    pc.now += 3600 * SECOND
    assert not pc[C] & AF


def test_an_alarm_has_gone_off_though_it_was_set_anew_before_anyone_looked(pc: Pc) -> None:
    pc[5], pc[3], pc[1] = 0x22, 0x00, 0x00
    pc.now += 91 * SECOND
    pc[5] = 0x23
    assert pc[C] & AF


def test_an_alarm_that_never_comes(pc: Pc) -> None:
    pc[5], pc[3], pc[1] = 0x22, 0x77, 0xFF
    pc[B] = H24 | AIE
    assert pc.rtc.next_event() is None
    pc.now += 86_400 * SECOND
    assert not pc[C] & AF


def test_nothing_ends_while_updates_are_held_back(pc: Pc) -> None:
    pc[B] = H24 | SET | AIE
    assert pc.rtc.next_event() is None
    pc.now += 5 * SECOND
    assert pc[C] == PF  # the periodic interrupt comes from the chain, which runs
    pc[A] = 0x76
    pc[C]
    pc.now += 5 * SECOND
    assert pc[C] == 0
    pc[B] = H24 | PIE | UIE
    assert pc.rtc.next_event() is None


# ---- memory, NMI, state ----


def test_bit_7_of_the_index_port_is_about_nmi(pc: Pc) -> None:
    pc.rtc.write(0, 1, 0x8D)
    assert pc.rtc.nmi_disabled
    assert pc.rtc.read(1, 1) == 0x80  # register D all the same
    pc.rtc.write(0, 1, 0x0D)
    assert not pc.rtc.nmi_disabled
    assert pc.rtc.read(0, 1) == 0xFF


def test_memory_is_memory(pc: Pc) -> None:
    pc[0x0F] = 0x05  # the shutdown byte
    pc.rtc.write(0, 2, 0xA57F)  # index and value by one OUT
    assert (pc[0x0F], pc[0x7F]) == (0x05, 0xA5)
    pc[D] = 0
    pc[C] = 0xFF
    assert (pc[C], pc[D]) == (0, 0x80)


@pytest.mark.parametrize(
    ("low", "high", "extended", "above16", "above4g"),
    [
        (1 << 20, 0, 0, 0, 0),
        (16 << 20, 0, 15 * 1024, 0, 0),
        (512 << 20, 0, 0xFFFF, 496 * 16, 0),
        (3 * GIB, 5 * GIB, 0xFFFF, 3056 * 16, 5 * 16384),
    ],
)
def test_the_sizes_of_memory(low: int, high: int, extended: int, above16: int, above4g: int) -> None:
    pc = Pc(low_memory=low, high_memory=high)
    assert pc[0x16] << 8 | pc[0x15] == 640
    assert pc[0x18] << 8 | pc[0x17] == pc[0x31] << 8 | pc[0x30] == extended
    assert pc[0x35] << 8 | pc[0x34] == above16
    assert pc[0x5D] << 16 | pc[0x5C] << 8 | pc[0x5B] == above4g


def test_state_moves_to_another_machine_and_time_stood_still(pc: Pc) -> None:
    pc[B] = H24 | UIE | PIE
    pc[0x40] = 0x77
    pc.now += SECOND * 5 // 2
    pc.rtc.advance()
    state = pc.rtc.save()
    other = Pc(unix(2001, 1, 1, 0, 0, 0))
    other.now = 999
    other.rtc.load(state)
    assert other.rtc.save() == state
    assert other.line == [True]
    assert other.time == pc.time
    assert other[0x40] == 0x77
    assert other[C] == IRQF | PF | UF
    other[B] = H24 | UIE
    assert other.run_to_event() == SECOND // 2


def test_a_frozen_time_is_saved_too(pc: Pc) -> None:
    pc[B] = H24 | SET
    pc[0] = 0xEE
    other = Pc()
    other.rtc.load(pc.rtc.save())
    assert other[0] == 0xEE
