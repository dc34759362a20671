"""The 8254: waveforms against one that counts tick by tick, ports, and what becomes of IRQ0."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minivmm.devices.pit import CLOSEST_NS, Pit, to_ns, to_ticks
from minivmm.devices.pit_channel import Channel
from minivmm.line import Line

BINARY, BCD = 0, 1
LATCH, LOBYTE, HIBYTE, BOTH = 0, 1, 2, 3


def control(counter: int, access: int, mode: int, bcd: int = BINARY) -> int:
    return counter << 6 | access << 4 | mode << 1 | bcd


class Board:
    """A PIT whose clock is set by hand, in its own ticks."""

    def __init__(self, reinject: bool = False, start: int = 0) -> None:
        self.ns = to_ns(start)
        self.pulses: list[int] = []  # ns
        line = Line(lambda number, level: self.pulses.append(self.ns) if level else None, 0)
        self.pit = Pit(lambda: self.ns, line, reinject=reinject)

    def at(self, tick: int) -> None:
        self.ns = to_ns(tick)

    def out(self, register: int, value: int) -> None:
        self.pit.write(register, 1, value)

    def load(self, counter: int, mode: int, count: int, bcd: int = BINARY) -> None:
        self.out(3, control(counter, BOTH, mode, bcd))
        self.out(counter, count & 0xFF)
        self.out(counter, count >> 8)

    def count(self, counter: int) -> int:
        self.out(3, control(counter, LATCH, 0))
        return self.pit.read(counter, 1) | self.pit.read(counter, 1) << 8

    def status(self, counter: int) -> int:
        self.out(3, 0xE0 | 2 << counter)
        return self.pit.read(counter, 1)

    def run(self, until: int) -> None:
        """Lets time pass as an engine does: from event to event."""
        while (event := self.pit.next_event()) is not None and event <= to_ns(until):
            self.ns = max(event, self.ns)
            self.pit.advance()
        self.at(until)


@pytest.fixture
def board() -> Board:
    return Board()


# ---- the waveforms ----


@dataclass
class Stepper:
    """An 8254 counter that is clocked one tick at a time, straight from the datasheet's mode definitions."""

    mode: int
    reload: int
    gate: bool
    counter: int = 0
    out: bool = True
    half: bool = True  # mode 3
    loading: bool = True  # the next clock moves the count in
    counting: bool = False
    fresh: bool = False  # modes 4 and 5 strobe once for each load
    new: int | None = None

    def __post_init__(self) -> None:
        self.out = self.mode != 0
        self.loading = self.mode not in (1, 5)

    def write(self, count: int) -> None:
        self.reload = count
        if self.mode in (0, 4):
            self.loading = True
            self.out = self.mode != 0

    def trigger(self) -> None:  # the gate rises
        if self.mode in (1, 2, 3, 5):
            self.loading = True

    def clock(self) -> None:
        if self.mode in (0, 4) and self.loading:
            self._load()
        elif not self.gate and self.mode not in (1, 5):
            if self.mode in (2, 3):
                self.out = True
        elif self.loading:
            self._load()
            if self.mode == 1:
                self.out = False
        elif self.counting:
            self._step()

    def _load(self) -> None:
        self.loading, self.counting, self.fresh, self.half = False, True, True, True
        self.counter = self.reload & ~1 if self.mode == 3 else self.reload
        if self.mode in (2, 3, 5):  # in mode 5 a strobe is one clock long, also where the next one brings a load
            self.out = True

    def _step(self) -> None:
        if self.mode == 3:
            # An odd count has one more clock in its high half.
            if self.counter == 0 or (self.counter == 2 and not (self.half and self.reload & 1)):
                self.half = self.out = not self.half
                self.counter = self.reload & ~1
            else:
                self.counter -= 2
            return
        self.counter = (self.counter - 1) % 0x1_0000
        if self.mode in (0, 1):
            if self.counter == 0:
                self.out = True
        elif self.mode == 2:
            self.out = self.counter != 1
            if self.counter == 0:
                self.counter = self.reload
        else:
            self.out = not (self.counter == 0 and self.fresh)
            self.fresh = self.fresh and self.counter != 0


@settings(max_examples=300, deadline=None)
@given(
    mode=st.integers(0, 5),
    count=st.integers(2, 40),
    gates=st.lists(st.integers(1, 60), max_size=6),
    start=st.integers(0, 1000),
)
@example(mode=5, count=2, gates=[1, 1, 1, 2], start=0)  # triggered again at the very tick of the strobe
def test_every_mode_against_a_counter_that_counts(mode: int, count: int, gates: list[int], start: int) -> None:
    """OUT and count agree at every tick, while the gate opens and closes."""
    channel, stepper = Channel(), Stepper(mode, count, gate=True)
    channel.program(mode, False, BOTH)
    channel.write(count, start)
    toggles = [start + sum(gates[: i + 1]) for i in range(len(gates))]
    seen: list[bool] = []
    for tick in range(start + 1, start + 300):
        stepper.clock()
        seen.append(stepper.out)
        assert channel.output(tick) == stepper.out, (tick - start, stepper)
        if stepper.counting and not stepper.loading:
            assert channel.value(tick) == stepper.counter & 0xFFFF, (tick - start, stepper)
        if tick in toggles:
            gate = not stepper.gate
            stepper.gate = gate
            if gate:
                stepper.trigger()
            elif mode in (2, 3):
                stepper.out = True
            channel.set_gate(gate, tick)


@settings(max_examples=200, deadline=None)
@given(
    mode=st.integers(0, 5),
    counts=st.lists(st.tuples(st.integers(1, 50), st.integers(2, 30)), min_size=1, max_size=5),
    step=st.integers(1, 70),
)
def test_rises_are_those_of_the_output(mode: int, counts: list[tuple[int, int]], step: int) -> None:
    """`rises` and `next_rise` say what OUT does, while new counts are written; however far apart one asks."""
    asked, watched = Channel(), Channel()
    for channel in (asked, watched):
        channel.program(mode, False, BOTH)
    tick = after = 0
    number = expected = 0
    predicted = None
    writes = {sum(gap for gap, _ in counts[: i + 1]): count for i, (_, count) in enumerate(counts)}
    level = watched.output(0)
    for tick in range(1, 400):
        watched.settle(tick)
        now = watched.output(tick)
        if now and not level:
            expected += 1
            assert predicted is None or tick == predicted
        level = now
        if tick in writes or tick % step == 0:
            number += asked.rises(after, tick)
            after = tick
            assert number == expected
        if tick in writes:
            asked.write(writes[tick], tick)
            watched.write(writes[tick], tick)
            level = watched.output(tick)
        asked.settle(tick) if tick == after else None
        predicted = watched.next_rise(tick)
    assert number + asked.rises(after, tick) == expected


def test_a_strobe_that_is_cut_short_rises_too() -> None:
    channel = Channel()
    channel.program(4, False, BOTH)
    channel.write(2, 1)
    assert not channel.output(4)
    channel.write(2, 4)
    assert channel.next_rise(4) == 5
    assert channel.rises(4, 100) == 2


def test_a_new_count_waits_for_the_end_of_the_wave() -> None:
    for mode, first in ((2, 11), (3, 6)):  # the period, or the half of it
        channel = Channel()
        channel.program(mode, False, BOTH)
        channel.write(10, 0)
        channel.write(4, 3)
        assert channel.null_count(3)
        outputs = []
        for tick in range(1, 20):
            channel.settle(tick)
            outputs.append(channel.output(tick))
        assert not channel.null_count(20)
        wave = {2: "TTTTTTTTTFTTTFTTTFT", 3: "TTTTTFFTTFFTTFFTTFF"}[mode]
        assert "".join("FT"[each] for each in outputs) == wave
        assert channel.start is not None
        assert channel.start >= first


# ---- the ports ----


def test_bytes_low_high_and_both(board: Board) -> None:
    board.out(3, control(0, LOBYTE, 0))
    board.out(0, 0x34)
    board.at(1)
    assert board.pit.read(0, 1) == 0x34
    board.out(3, control(0, HIBYTE, 0))
    board.out(0, 0x12)
    board.at(2)
    assert board.pit.read(0, 1) == 0x12
    board.load(0, 0, 0x5678)
    board.at(3)
    assert [board.pit.read(0, 1) for _ in range(3)] == [0x78, 0x56, 0x78]


def test_a_latched_count_stands_still(board: Board) -> None:
    board.load(2, 0, 1000)
    board.pit.devices[1].write(0, 1, 0x01)
    board.at(100)
    board.out(3, control(2, LATCH, 0))
    board.at(200)
    board.out(3, control(2, LATCH, 0))  # ignored: the first has not been read
    assert board.pit.read(2, 1) | board.pit.read(2, 1) << 8 == 900
    assert board.count(2) == 800


def test_read_back_gives_status_then_count(board: Board) -> None:
    board.load(0, 3, 0x4000)
    board.at(11)
    board.out(3, 0xC2)  # both, of counter 0
    assert board.pit.read(0, 1) == 0x80 | BOTH << 4 | 3 << 1
    assert board.pit.read(0, 1) | board.pit.read(0, 1) << 8 == 0x4000 - 20


def test_null_count_until_the_clock_has_taken_it(board: Board) -> None:
    board.load(0, 2, 100)
    assert board.status(0) & 0x40
    board.at(1)
    assert not board.status(0) & 0x40


def test_several_counters_at_once_are_latched(board: Board) -> None:
    for counter in range(3):
        board.load(counter, 0, 500)
    board.pit.devices[1].write(0, 1, 0x01)
    board.at(50)
    board.out(3, 0xDE)  # counts of all three
    board.at(90)
    assert [board.pit.read(c, 1) | board.pit.read(c, 1) << 8 for c in (0, 1)] == [451, 451]


def test_bcd_counts_in_tens(board: Board) -> None:
    board.load(0, 2, 0x1000, BCD)
    board.at(2)
    assert board.count(0) == 0x0999
    board.at(1001)
    assert board.count(0) == 0x1000
    board.load(0, 0, 0, BCD)  # the largest: 10 000
    board.at(1002)
    assert board.count(0) == 0
    board.at(1003)
    assert board.count(0) == 0x9999


def test_modes_6_and_7_are_2_and_3(board: Board) -> None:
    for mode in (6, 7):
        board.out(3, control(0, BOTH, mode))
        assert board.status(0) >> 1 & 7 == mode - 4


def test_the_first_byte_stops_mode_0(board: Board) -> None:
    board.load(0, 0, 100)
    board.out(0, 0x00)
    board.run(500)
    assert board.pulses == []
    assert not board.status(0) & 0x80
    board.out(0, 0x01)
    board.run(800)
    assert board.pulses == [to_ns(500 + 1 + 256)]


def test_port_61_opens_the_gate_and_shows_the_output(board: Board) -> None:
    """How a guest calibrates its clock: wait until OUT2 rises."""
    speaker = board.pit.devices[1]
    speaker.write(0, 1, 0x00)
    board.load(2, 0, 1000)
    board.at(5000)
    assert not speaker.read(0, 1) & 0x20
    speaker.write(0, 1, 0x01)
    board.at(5999)
    assert not speaker.read(0, 1) & 0x20
    board.at(6000)
    assert speaker.read(0, 1) & 0x21 == 0x21
    refresh = [speaker.read(0, 1) >> 4 & 1 for board.ns in range(0, 300_000, 1000)]
    assert 15 < sum(a != b for a, b in itertools.pairwise(refresh)) < 25
    speaker.write(0, 1, 0xFF)
    assert speaker.read(0, 1) & 0xCF == 0x0F


# ---- IRQ0 ----


def test_linux_ticks_don_t_drift(board: Board) -> None:
    """HZ=1000 is a count of 1193: after 100 000 ticks the pulse comes at exactly that many periods."""
    board.load(0, 2, 1193)
    assert board.pit.next_event() == to_ns(1194)
    board.at(1193 * 100_000)
    board.pit.advance()
    assert board.pit.next_event() == to_ns(1 + 1193 * 100_000)
    board.run(1 + 1193 * 100_010)
    assert board.pulses[-1] == to_ns(1 + 1193 * 100_010)


def test_ticks_and_ns_agree() -> None:
    for tick in (0, 1, 17, 1_193_182, 10**15 + 7):
        assert to_ticks(to_ns(tick)) == tick
        assert to_ticks(to_ns(tick) - 1) == tick - 1
    assert to_ns(1_193_182) == 10**9


@pytest.mark.parametrize("mode", [0, 4])
def test_one_shot_modes_fire_once(board: Board, mode: int) -> None:
    board.load(0, mode, 1000)
    board.run(100_000)
    assert board.pulses == [to_ns(1001 + (mode == 4))]
    assert board.pit.next_event() is None


@pytest.mark.parametrize("mode", [0, 4])
def test_a_count_that_is_over_before_we_have_looked_still_fires(mode: int) -> None:
    times = iter(range(0, 1 << 40, 10_000_000))  # 10 ms pass between any two looks at the clock
    pulses: list[bool] = []
    pit = Pit(lambda: next(times), Line(lambda number, level: pulses.append(level), 0))
    for register, value in ((3, control(0, BOTH, mode)), (0, 0xE8), (0, 0x03)):  # 1000 ticks: less than 1 ms
        pit.write(register, 1, value)
    assert pit.next_event() is not None
    pit.advance()
    assert pulses == [True, False]


def test_missed_ticks_are_one_tick(board: Board) -> None:
    board.load(0, 2, 1193)
    board.at(12_000)
    board.pit.advance()
    assert len(board.pulses) == 1
    board.run(13_200)
    assert len(board.pulses) == 2


def test_missed_ticks_follow_one_by_one_if_asked() -> None:
    board = Board(reinject=True)
    board.load(0, 2, 1193)
    board.at(1 + 10 * 1193)
    board.pit.advance()
    assert len(board.pulses) == 1
    for number in range(2, 11):
        board.pit.acknowledged()
        assert len(board.pulses) == number
    board.pit.acknowledged()
    assert len(board.pulses) == 10
    board.run(2 + 11 * 1193)
    assert len(board.pulses) == 11
    board.run(2 + 14 * 1193)  # nobody acknowledges: they wait
    assert len(board.pulses) == 11
    board.pit.forget_owed()
    board.run(2 + 15 * 1193)
    assert len(board.pulses) == 12


def test_reading_the_count_loses_no_tick(board: Board) -> None:
    board.load(0, 2, 1193)
    board.at(1200)
    board.count(0)
    board.pit.advance()
    assert len(board.pulses) == 1


def test_a_guest_can_t_ask_for_a_storm(board: Board) -> None:
    board.load(0, 2, 2)
    board.run(1_193_182)
    assert 4900 < len(board.pulses) <= 1_000_000_000 // CLOSEST_NS


# ---- any guest ----

STEPS = st.one_of(
    st.tuples(st.just("out"), st.integers(0, 4), st.integers(0, 255)),
    st.tuples(st.just("in"), st.integers(0, 4), st.just(0)),
    st.tuples(st.just("pass"), st.integers(0, 5_000_000), st.just(0)),
    st.tuples(st.just("advance"), st.just(0), st.just(0)),
    st.tuples(st.just("acknowledge"), st.just(0), st.just(0)),
)


def play(board: Board, step: tuple[str, int, int]) -> object:
    kind, where, value = step
    device, register = (board.pit.devices[1], 0) if where == 4 else (board.pit, where)
    board.pulses.clear()
    seen: object = None
    if kind == "out":
        device.write(register, 1, value)
    elif kind == "in":
        seen = device.read(register, 1)
        assert 0 <= seen <= 255
    elif kind == "pass":
        board.ns += where
    elif kind == "advance":
        board.pit.advance()
    else:
        board.pit.acknowledged()
    due = board.pit.next_event()
    if due is not None and due <= board.ns:
        board.pit.advance()
        due = board.pit.next_event()
        assert due is None or due > board.ns
    return seen, len(board.pulses), due


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=20, max_size=60), st.lists(STEPS, max_size=20), st.booleans())
def test_any_guest_and_a_copy_of_it(
    before: list[tuple[str, int, int]], after: list[tuple[str, int, int]], reinject: bool
) -> None:
    board, copy = Board(reinject), Board(reinject)
    for step in before:
        play(board, step)
    copy.ns = board.ns
    copy.pit.load(json.loads(json.dumps(board.pit.save())))
    assert copy.pit.save() == board.pit.save()
    for step in after:
        assert play(copy, step) == play(board, step)


def test_a_copy_at_another_time_goes_on_the_same(board: Board) -> None:
    board.load(0, 2, 1193)
    board.at(5000)
    board.pit.advance()
    copy = Board(start=77_000)
    copy.pit.load(board.pit.save())
    assert copy.count(0) == board.count(0)
    event, copied = board.pit.next_event(), copy.pit.next_event()
    assert event is not None
    assert copied is not None
    assert copied - copy.ns == pytest.approx(event - board.ns, abs=1000)
