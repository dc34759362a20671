"""The IOAPIC by its registers, and the messages that it sends."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivmm.devices.ioapic import LEVEL, MASKED, REMOTE_IRR, IoApic, message_of
from minivmm.devices.msi import EXTINT, FIXED, INIT, LOWEST, NMI, SMI, STARTUP, Message

INDEX, DATA = 0x00, 0x10


class Board:
    """An IOAPIC whose messages are taken by `takers` processors."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.ended: list[int] = []
        self.takers = 1
        self.chip = IoApic(self.deliver, self.ended.append)

    def deliver(self, message: Message) -> int:
        self.sent.append(message)
        return self.takers

    def set(self, register: int, value: int) -> None:
        self.chip.write(INDEX, 4, register)
        self.chip.write(DATA, 4, value)

    def get(self, register: int) -> int:
        self.chip.write(INDEX, 4, register)
        return self.chip.read(DATA, 4)

    def entry(self, pin: int, value: int) -> None:
        self.set(0x11 + 2 * pin, value >> 32)
        self.set(0x10 + 2 * pin, value & 0xFFFF_FFFF)

    def vectors(self) -> list[int]:
        vectors = [message.vector for message in self.sent]
        self.sent.clear()
        return vectors


@pytest.fixture
def board() -> Board:
    return Board()


def test_identity(board: Board) -> None:
    assert board.get(1) == 0x0017_0011
    board.set(0, 0xFF00_0000)
    assert board.get(0) == board.get(2) == 0x0F00_0000
    assert board.chip.read(INDEX, 4) == 2
    assert board.chip.read(0x20, 4) == 0
    assert board.get(0x10) == MASKED
    assert board.get(0x40) == 0xFFFF_FFFF  # behind the last entry


def test_an_edge_sends_one_message(board: Board) -> None:
    board.entry(4, 3 << 56 | 1 << 11 | 1 << 8 | 0x44)
    assert board.chip.set_line(4, True) == 1
    assert board.chip.set_line(4, True) == 0
    assert board.sent == [Message(0x44, 3, logical=True, delivery_mode=LOWEST)]
    assert board.chip.set_line(4, False) == 1
    board.chip.set_line(4, True)
    assert board.vectors() == [0x44, 0x44]
    assert board.chip.sent == 0x10
    board.chip.set_line(4, True)
    assert board.chip.sent == 0  # one more was asked for, and not sent


def test_a_masked_pin_sends_nothing_and_forgets_edges(board: Board) -> None:
    board.entry(4, MASKED | 0x44)
    assert board.chip.set_line(4, True) == -1
    board.entry(4, 0x44)
    assert board.vectors() == []


def test_a_level_is_sent_again_until_it_falls(board: Board) -> None:
    board.entry(9, LEVEL | 0x59)
    board.chip.set_line(9, True)
    assert board.get(0x22) & REMOTE_IRR
    assert board.chip.set_line(9, True) == -1  # waits for the end of the first
    assert board.vectors() == [0x59]
    board.chip.eoi(0x59)
    assert board.vectors() == [0x59]
    board.chip.set_line(9, False)
    board.chip.eoi(0x59)
    assert board.vectors() == []
    assert not board.get(0x22) & REMOTE_IRR
    assert board.ended == [9, 9]


def test_a_level_raised_while_masked_is_sent_when_unmasked(board: Board) -> None:
    board.entry(9, MASKED | LEVEL | 0x59)
    board.chip.set_line(9, True)
    board.entry(9, LEVEL | 0x59)
    assert board.vectors() == [0x59]


def test_remote_irr_only_if_somebody_will_answer(board: Board) -> None:
    board.takers = 0
    board.entry(9, LEVEL | 0x59)
    assert board.chip.set_line(9, True) == 0
    assert not board.get(0x22) & REMOTE_IRR
    board.takers = 1
    board.chip.set_line(9, True)
    assert board.get(0x22) & REMOTE_IRR
    board.entry(10, LEVEL | NMI << 8)
    board.chip.set_line(10, True)
    assert not board.get(0x24) & REMOTE_IRR


def test_read_only_bits(board: Board) -> None:
    board.entry(3, MASKED | LEVEL | REMOTE_IRR | 1 << 12 | 0x33)
    assert board.get(0x16) == MASKED | LEVEL | 0x33
    board.entry(3, LEVEL | 0x33)
    board.chip.set_line(3, True)
    board.set(0x16, MASKED | LEVEL | 0x33)  # a write can't clear remote IRR …
    assert board.get(0x16) & REMOTE_IRR
    board.set(0x16, MASKED | 0x33)  # … but edge-triggered entries have none: how drivers reset a stuck pin
    assert not board.get(0x16) & REMOTE_IRR


def test_an_end_of_interrupt_reaches_all_pins_with_the_vector(board: Board) -> None:
    for pin in (1, 2):
        board.entry(pin, LEVEL | 0x70)
        board.chip.set_line(pin, True)
    board.chip.eoi(0x70, level_triggered=False)  # the processor took it as an edge: nothing ends here
    assert board.get(0x12) & REMOTE_IRR
    board.chip.eoi(0x70)
    assert board.vectors() == [0x70] * 4
    assert board.ended == [1, 2, 1, 2]


@given(st.integers(0, 0xFF), st.integers(16, 255), st.booleans(), st.sampled_from([0, 1, 2, 4, 5, 7]), st.booleans())
def test_an_entry_as_an_msi_is_the_same_message(dest: int, vector: int, logical: bool, mode: int, level: bool) -> None:
    entry = dest << 56 | level << 15 | logical << 11 | mode << 8 | vector
    message = message_of(entry)
    assert message == Message(vector, dest, logical, mode, level)
    address, data = message.to_msi()
    assert address >> 20 == 0xFEE
    assert Message.from_msi(address, data) == message


def test_the_redirection_hint_asks_for_the_lowest_priority() -> None:
    assert Message.from_msi(0xFEE0_100C, 0x31) == Message(0x31, 1, logical=True, delivery_mode=LOWEST)
    assert Message.from_msi(0xFEE0_1008, 0x431).delivery_mode == NMI
    assert [FIXED, LOWEST, SMI, NMI, INIT, STARTUP, EXTINT] == [0, 1, 2, 4, 5, 6, 7]


STEPS = st.one_of(
    st.tuples(st.just("set"), st.integers(0, 0x45), st.integers(0, 0xFFFF_FFFF)),
    st.tuples(st.just("get"), st.integers(0, 0x45), st.just(0)),
    st.tuples(st.just("line"), st.integers(0, 23), st.integers(0, 1)),
    st.tuples(st.just("eoi"), st.integers(0, 255), st.integers(0, 1)),
    st.tuples(st.just("poke"), st.integers(0, 0xFF), st.integers(0, 0xFFFF_FFFF)),
)


def play(board: Board, step: tuple[str, int, int]) -> object:
    kind, where, value = step
    board.sent.clear()
    seen: object = None
    if kind == "set":
        board.set(where, value)
    elif kind == "get":
        seen = board.get(where)
        assert 0 <= seen <= 0xFFFF_FFFF
    elif kind == "line":
        seen = board.chip.set_line(where, bool(value))
    elif kind == "eoi":
        board.chip.eoi(where, bool(value))
    else:
        board.chip.write(where, 4, value)
        seen = board.chip.read(where, 4)
    for entry in board.chip.table:
        assert entry & LEVEL or not entry & REMOTE_IRR
    return seen, list(board.sent)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=20, max_size=60), st.lists(STEPS, max_size=20))
def test_any_guest_and_a_copy_of_it(before: list[tuple[str, int, int]], after: list[tuple[str, int, int]]) -> None:
    board, copy = Board(), Board()
    for step in before:
        play(board, step)
    copy.chip.load(json.loads(json.dumps(board.chip.save())))
    assert copy.chip.save() == board.chip.save()
    for step in after:
        assert play(copy, step) == play(board, step)
