"""The 8259A pair by its registers, as drivers and the datasheet have it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivmm.bus import Bus
from minivmm.devices.pic import Pic

MASTER, SLAVE, ELCR = 0x20, 0xA0, 0x4D0
EOI, SPECIFIC, ROTATE = 0x20, 0x60, 0xA0
READ_IRR, READ_ISR, POLL, SPECIAL_MASK, NO_SPECIAL_MASK = 0x0A, 0x0B, 0x0C, 0x68, 0x48


class Board:
    """The pair on a bus, set up as every PC does: vectors 0x20 and 0x28, nothing masked."""

    def __init__(self, icw4: int = 0x01) -> None:
        self.intr: list[bool] = []
        self.ended: list[int] = []
        self.pic = Pic(self.intr.append, self.ended.append)
        self.bus = Bus("port")
        for device in self.pic.devices:
            self.bus.attach(device)
        self.init(icw4)

    def init(self, icw4: int) -> None:
        for port, base, wiring in ((MASTER, 0x20, 0x04), (SLAVE, 0x28, 0x02)):
            for offset, value in ((0, 0x11), (1, base), (1, wiring), (1, icw4), (1, 0x00)):
                self.bus.write(port + offset, 1, value)

    def out(self, port: int, value: int) -> None:
        self.bus.write(port, 1, value)

    def register(self, port: int, command: int) -> int:
        self.out(port, command)
        return self.bus.read(port, 1)

    def pulse(self, *irqs: int) -> None:
        for irq in irqs:
            self.pic.set_line(irq, True)
            self.pic.set_line(irq, False)


@pytest.fixture
def board() -> Board:
    return Board()


def test_an_interrupt_from_line_to_end(board: Board) -> None:
    assert not board.pic.intr
    assert board.pic.set_line(1, True) == 1
    assert board.register(MASTER, READ_IRR) == 0x02
    assert board.pic.pending_vector() == 0x21
    assert board.pic.acknowledge() == 0x21
    assert (board.register(MASTER, READ_IRR), board.register(MASTER, READ_ISR)) == (0, 0x02)
    assert board.pic.pending_vector() is None
    board.out(MASTER, EOI)
    assert board.register(MASTER, READ_ISR) == 0
    assert board.intr == [True, False]
    assert board.ended == [1]


def test_the_slave_comes_through_input_2(board: Board) -> None:
    board.pulse(12)
    assert board.pic.pending_vector() == 0x2C
    assert board.pic.acknowledge() == 0x2C
    assert (board.register(MASTER, READ_ISR), board.register(SLAVE, READ_ISR)) == (0x04, 0x10)
    board.out(SLAVE, EOI)
    board.out(MASTER, EOI)
    assert (board.register(MASTER, READ_ISR), board.register(SLAVE, READ_ISR)) == (0, 0)
    assert board.ended == [12, 2]


def test_lower_numbers_go_first_and_interrupt_higher_ones(board: Board) -> None:
    board.pulse(5, 3, 8)
    taken = []
    while board.pic.intr:
        taken.append(board.pic.acknowledge())
    assert taken == [0x28]  # IRQ8 comes in at 2; 3 and 5 must wait for its end
    board.pulse(1)
    assert board.pic.acknowledge() == 0x21
    board.out(MASTER, EOI)  # ends 1, the first in service
    assert board.register(MASTER, READ_ISR) == 0x04
    board.out(SLAVE, EOI)
    board.out(MASTER, EOI)
    assert board.pic.acknowledge() == 0x23


def test_an_edge_counts_once_and_a_level_as_long_as_it_lasts(board: Board) -> None:
    board.pulse(3)
    assert board.pic.set_line(3, True) == 0  # the request is there already
    board.pic.set_line(3, True)
    board.pic.acknowledge()
    board.out(MASTER, EOI)
    assert not board.pic.intr

    board.out(ELCR + 1, 0x08)  # IRQ11
    board.pic.set_line(11, True)
    assert board.pic.acknowledge() == 0x2B
    board.out(SLAVE, EOI)
    board.out(MASTER, EOI)
    assert board.pic.acknowledge() == 0x2B
    board.pic.set_line(11, False)
    board.out(SLAVE, EOI)
    board.out(MASTER, EOI)
    assert not board.pic.intr


def test_a_short_edge_is_remembered(board: Board) -> None:
    board.out(MASTER + 1, 0xFF)
    board.pulse(4)
    board.out(MASTER + 1, 0x00)
    assert board.pic.acknowledge() == 0x24


def test_what_may_be_level_triggered(board: Board) -> None:
    board.bus.write(ELCR, 2, 0xFFFF)
    assert board.bus.read(ELCR, 2) == 0xDEF8


def test_masks(board: Board) -> None:
    board.out(MASTER + 1, 0x08)
    assert board.bus.read(MASTER + 1, 1) == 0x08
    assert board.pic.set_line(3, True) == -1
    assert not board.pic.intr
    board.out(MASTER + 1, 0x00)
    assert board.pic.acknowledge() == 0x23


@pytest.mark.parametrize(("irq", "vector", "mask"), [(3, 0x27, MASTER + 1), (11, 0x2F, SLAVE + 1)])
def test_the_spurious_interrupt(board: Board, irq: int, vector: int, mask: int) -> None:
    """Masked between INTR and INTA: vector 7 of the chip that was asked, and nothing in service there."""
    board.pulse(irq)
    port = MASTER if irq < 8 else SLAVE
    board.out(mask, 0xFF)
    assert board.pic.acknowledge() == vector
    assert board.register(port, READ_ISR) == 0
    assert board.register(MASTER, READ_ISR) == (0 if irq < 8 else 0x04)  # the master served its input 2


def test_specific_end_of_interrupt(board: Board) -> None:
    board.pulse(6)
    board.pic.acknowledge()
    board.pulse(1)
    board.pic.acknowledge()
    board.out(MASTER, SPECIFIC | 6)
    assert board.register(MASTER, READ_ISR) == 0x02
    assert board.ended == [6]


def test_automatic_end_of_interrupt() -> None:
    board = Board(icw4=0x03)
    board.pulse(5)
    assert board.pic.acknowledge() == 0x25
    assert board.register(MASTER, READ_ISR) == 0
    assert board.ended == [5]


def test_rotation_sends_the_one_just_served_to_the_back(board: Board) -> None:
    board.pulse(3, 4)
    assert board.pic.acknowledge() == 0x23
    board.out(MASTER, ROTATE)  # rotate on non-specific EOI: 4 is first now, 3 last
    board.pulse(3)
    assert board.pic.acknowledge() == 0x24
    board.out(MASTER, EOI)
    assert board.pic.acknowledge() == 0x23


def test_rotation_in_automatic_mode() -> None:
    board = Board(icw4=0x03)
    board.out(MASTER, 0x80)
    board.pulse(3, 4)
    assert board.pic.acknowledge() == 0x23
    board.pulse(3)
    assert board.pic.acknowledge() == 0x24


def test_setting_the_priority(board: Board) -> None:
    board.out(MASTER, 0xC0 | 4)  # 4 is last, so 5 is first
    board.pulse(0, 5)
    assert board.pic.acknowledge() == 0x25


def test_special_mask_mode_lets_others_in(board: Board) -> None:
    board.pulse(1)
    board.pic.acknowledge()
    board.pulse(6)
    assert not board.pic.intr
    board.out(MASTER + 1, 0x02)
    assert not board.pic.intr
    board.out(MASTER, SPECIAL_MASK)  # 1 is in service, but masked: it holds up nobody
    assert board.pic.pending_vector() == 0x26
    board.out(MASTER, NO_SPECIAL_MASK)
    assert board.pic.pending_vector() is None


def test_special_fully_nested_mode_lets_the_slave_interrupt_itself() -> None:
    for icw4, vector in ((0x01, None), (0x11, 0x28)):
        board = Board(icw4)
        board.pulse(13)
        board.pic.acknowledge()
        board.pulse(8)
        assert board.pic.pending_vector() == vector


def test_polling_acknowledges(board: Board) -> None:
    board.pulse(4)
    assert board.register(MASTER, POLL) == 0x84
    assert board.register(MASTER, READ_ISR) == 0x10
    assert board.register(MASTER, POLL) == 0x07
    board.out(MASTER, EOI)
    board.pulse(10)
    assert board.register(SLAVE, POLL) == 0x82
    assert not board.pic.intr


def test_initialization_forgets_edges_and_masks(board: Board) -> None:
    board.out(MASTER + 1, 0xF0)
    board.pulse(5)
    board.out(MASTER, 0x11)
    assert board.ended == [5]
    board.init(0x01)
    assert board.bus.read(MASTER + 1, 1) == 0
    assert not board.pic.intr


def test_a_shorter_initialization_needs_no_icw4() -> None:
    board = Board(icw4=0x03)
    for offset, value in ((0, 0x10), (1, 0x40), (1, 0x04), (1, 0x00)):
        board.out(MASTER + offset, value)
    board.pulse(0)
    assert board.pic.acknowledge() == 0x40
    assert board.register(MASTER, READ_ISR) == 0x01  # and automatic EOI is off again


def test_wide_accesses_are_byte_cycles(board: Board) -> None:
    board.bus.write(MASTER, 2, 0xFE00 | READ_ISR)
    assert board.bus.read(MASTER, 2) == 0xFE00


# ---- any guest ----

STEPS = st.one_of(
    st.tuples(st.just("out"), st.sampled_from([0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1]), st.integers(0, 255)),
    st.tuples(st.just("in"), st.sampled_from([0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1]), st.just(0)),
    st.tuples(st.just("line"), st.integers(0, 15), st.integers(0, 1)),
    st.tuples(st.just("take"), st.just(0), st.just(0)),
)


def play(board: Board, step: tuple[str, int, int]) -> object:
    kind, where, value = step
    if kind == "out":
        return board.out(where, value)
    if kind == "in":
        return board.bus.read(where, 1)
    if kind == "line":
        return board.pic.set_line(where, bool(value))
    return board.pic.acknowledge() if board.pic.intr else None


def check_invariants(board: Board) -> None:
    pic = board.pic
    for chip in pic.chips:
        assert 0 <= chip.irr <= 255
        assert 0 <= chip.isr <= 255
        assert 0 <= chip.top <= 7
    if pic.intr:
        vector = pic.pending_vector()
        assert vector is not None
        assert vector & 0xF8 in (pic.master.base, pic.slave.base)
    assert [level for level, after in zip(board.intr, board.intr[1:], strict=False) if level == after] == []


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=20, max_size=60), st.lists(STEPS, max_size=20))
def test_any_guest_and_a_copy_of_it(before: list[tuple[str, int, int]], after: list[tuple[str, int, int]]) -> None:
    board, copy = Board(), Board()
    for step in before:
        play(board, step)
        check_invariants(board)
    saved = json.dumps([device.save() for device in board.pic.devices])
    for device, state in zip(copy.pic.devices, json.loads(saved), strict=True):
        device.load(state)
    assert json.dumps([device.save() for device in copy.pic.devices]) == saved
    for step in after:
        assert play(copy, step) == play(board, step)


def reference(irr: int, imr: int, isr: int, top: int) -> int | None:
    """The same decision, by walking the ring of priorities as the datasheet tells it."""
    for step in range(8):
        line = (top + step) & 7
        if isr >> line & 1:
            return None
        if irr & ~imr & 1 << line:
            return line
    return None


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.integers(0, 7))
def test_priorities_against_a_walk(irr: int, imr: int, isr: int, top: int) -> None:
    chip = Pic().master
    chip.irr, chip.imr, chip.isr, chip.top = irr, imr, isr, top
    assert chip.request() == reference(irr, imr, isr, top)
