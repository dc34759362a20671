"""The local APIC by its registers: priorities, the timer, modes, and who gets which message."""

from __future__ import annotations

import pytest
from chip_surroundings import Clock, Cpu
from hypothesis import given, settings
from hypothesis import strategies as st

from minivmm.devices.msi import FIXED, INIT, LOWEST, NMI, STARTUP, Message
from minivmm.soft import lapic_registers as r
from minivmm.soft.irq_delivery import matches, receivers
from minivmm.soft.irqchip import IrqChip
from minivmm.soft.lapic import BASE, LINT1, LocalApic
from minivmm.soft.lapic_state import get_lapic, set_lapic
from minivmm.soft.lapic_timer import SHORTEST_NS

X2APIC = BASE | 0xD00


class Board:
    """Processors with their APICs, software-enabled, on one chip."""

    def __init__(self, cpus: int = 1) -> None:
        self.clock = Clock(ns=1_000_000, khz=2_000_000)
        self.chip = IrqChip(self.clock)
        self.chip.port_write(0x21, 1, 0xFF)  # the PIC keeps quiet
        self.cpus = [Cpu() for _ in range(cpus)]
        self.apics = [self.chip.add_cpu(number, cpu, self.clock) for number, cpu in enumerate(self.cpus)]
        for number in range(cpus):
            self.set(r.SVR, 0x1FF, number)

    @property
    def apic(self) -> LocalApic:
        return self.apics[0]

    def set(self, register: int, value: int, number: int = 0) -> None:
        self.chip.mmio_write(number, BASE + (register << 4), 4, value)

    def get(self, register: int, number: int = 0) -> int:
        return self.chip.mmio_read(number, BASE + (register << 4), 4)

    def ipi(self, low: int, dest: int = 0, number: int = 0) -> None:
        self.set(r.ICR_HIGH, dest << 24, number)
        self.set(r.ICR, low, number)

    def request(self, *vectors: int, level: bool = False) -> None:
        for vector in vectors:
            assert self.chip.send(Message(vector, 0, level_triggered=level)) == 1

    def take(self, number: int = 0) -> int | None:
        return None if self.chip.interrupt_for(number) is None else self.chip.acknowledge(number)

    def run(self, ns: int) -> None:
        end = self.clock.ns + ns
        while (event := self.chip.next_event()) is not None and event <= end:
            self.clock.ns = max(event, self.clock.ns)
            self.chip.advance()
        self.clock.ns = end


@pytest.fixture
def board() -> Board:
    return Board()


# ---- requests, priorities, ends ----


def test_from_request_to_end(board: Board) -> None:
    board.request(0x61)
    assert board.cpus[0].woken == 1
    assert board.get(r.IRR + 3) == 2
    assert board.take() == 0x61
    assert (board.get(r.IRR + 3), board.get(r.ISR + 3), board.get(r.PPR)) == (0, 2, 0x60)
    board.set(r.EOI, 0)
    assert (board.get(r.ISR + 3), board.get(r.PPR)) == (0, 0)


def test_the_higher_class_goes_first_and_interrupts(board: Board) -> None:
    board.request(0x31, 0x55, 0x52)
    assert board.take() == 0x55
    assert board.take() is None  # 0x52 is of the class in service
    board.request(0x80)
    assert board.take() == 0x80
    board.set(r.EOI, 0)
    board.set(r.EOI, 0)
    assert board.take() == 0x52
    board.set(r.EOI, 0)
    assert board.take() == 0x31


def test_the_task_priority_holds_back_its_class(board: Board) -> None:
    board.request(0x45)
    board.set(r.TPR, 0x4F)
    assert (board.get(r.PPR), board.take()) == (0x4F, None)
    board.apic.cr8 = 3
    assert (board.get(r.TPR), board.apic.cr8) == (0x30, 3)
    assert board.take() == 0x45
    assert board.get(r.PPR) == 0x40
    board.set(r.TPR, 0x47)
    assert board.get(r.PPR) == 0x47


def test_the_spurious_vector(board: Board) -> None:
    board.set(r.SVR, 0x1EF)
    board.request(0x45)
    board.set(r.TPR, 0x50)
    assert board.chip.acknowledge(0) == 0xEF
    assert board.apic.isr == 0


def test_software_disabled(board: Board) -> None:
    board.set(r.LVT_FIRST + LINT1, 0x400)
    board.set(r.SVR, 0x0FF)
    assert board.chip.send(Message(0x45, 0)) == 0
    assert board.chip.send(Message(0, 0, delivery_mode=NMI)) == 1
    assert board.get(r.LVT_FIRST + LINT1) == 0x1_0400
    board.set(r.LVT_FIRST + LINT1, 0x400)
    assert board.get(r.LVT_FIRST + LINT1) == 0x1_0400  # "masked, and stays so"
    board.set(r.SVR, 0x1FF)
    board.set(r.LVT_FIRST + LINT1, 0x400)
    assert board.get(r.LVT_FIRST + LINT1) == 0x400


def test_the_end_of_a_level_triggered_interrupt_reaches_the_ioapic(board: Board) -> None:
    board.chip.ioapic.table[7] = 1 << 15 | 0x47
    board.chip.irq_line(7, True)
    assert board.take() == 0x47
    assert board.get(r.TMR + 2) == 0x80
    board.chip.irq_line(7, False)
    board.set(r.EOI, 0)
    assert board.chip.ioapic.table[7] == 1 << 15 | 0x47
    board.chip.ioapic.table[7] = 0x47
    board.chip.irq_line(7, True)
    assert board.get(r.TMR + 2) == 0


# ---- registers ----


def test_the_state_after_reset() -> None:
    board = Board()
    board.apic.reset()
    nonzero = {r.VERSION: 0x0005_0014, r.DFR: 0xFFFF_FFFF, r.SVR: 0xFF}
    nonzero |= dict.fromkeys(range(r.LVT_FIRST, r.LVT_LAST + 1), 0x1_0000) | {r.LVT_FIRST + 3: 0x700}
    for register in range(0x40):
        if register not in r.WRITE_ONLY:
            assert board.get(register) == nonzero.get(register, 0), hex(register)


def test_what_sticks(board: Board) -> None:
    expected = {
        r.ID: 0xFF00_0000,
        r.TPR: 0xFF,
        r.LDR: 0xFF00_0000,
        r.DFR: 0xFFFF_FFFF,
        r.ICR_HIGH: 0xFF00_0000,
        r.DIVIDE: 0xB,
        r.LVT_FIRST: 0x7_10FF,
        r.LVT_FIRST + 1: 0x1_17FF,
        r.LVT_FIRST + 3: 0x1_F7FF,
        r.LVT_LAST: 0x1_10FF,
        r.VERSION: 0x0005_0014,
        r.PPR: 0xFF,
    }
    for register, value in expected.items():
        board.set(register, 0xFFFF_FFFF)
        assert board.get(register) == value, hex(register)
    assert board.apic.has_deadline
    board.apic.has_deadline = False
    board.set(r.LVT_FIRST, 0xFFFF_FFFF)
    assert board.get(r.LVT_FIRST) == 0x3_10FF


def test_only_aligned_double_words_are_written(board: Board) -> None:
    board.chip.mmio_write(0, BASE + 0x80, 1, 0x20)
    board.chip.mmio_write(0, BASE + 0x84, 4, 0x20)
    board.chip.mmio_write(0, BASE + 0x80, 8, 0x20)
    assert board.get(r.TPR) == 0
    assert board.chip.mmio_read(0, BASE + 0x31, 1) == 0  # reads may be narrow: bits 15:8 of the version
    assert board.chip.mmio_read(0, BASE + 0x32, 2) == 5


def test_errors_are_gathered_until_esr_is_written(board: Board) -> None:
    board.set(r.LVT_LAST, 0xFE)
    board.ipi(0x4005)  # vector 5 can't be sent
    assert board.get(r.ESR) == 0
    assert board.take() == 0xFE
    board.chip.send(Message(3, 0))  # nor received
    board.get(0x04)  # and there is no register 4
    board.set(r.ESR, 0)
    assert board.get(r.ESR) == 0xE0
    board.set(r.ESR, 0)
    assert board.get(r.ESR) == 0


# ---- the timer ----


def test_one_shot(board: Board) -> None:
    board.set(r.LVT_FIRST, 0x40)
    board.set(r.DIVIDE, 0b0011)  # by 16
    board.set(r.INITIAL, 1000)
    board.clock.ns += 1600
    assert board.get(r.CURRENT) == 900
    board.run(14_399)
    assert board.take() is None
    board.run(1)
    assert (board.take(), board.get(r.CURRENT)) == (0x40, 0)
    board.set(r.EOI, 0)
    board.run(10**9)
    assert board.take() is None


@pytest.mark.parametrize(("code", "divisor"), [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (0xA, 128), (0xB, 1)])
def test_divisors(board: Board, code: int, divisor: int) -> None:
    board.set(r.DIVIDE, code)
    board.set(r.INITIAL, 1_000_000)
    assert board.chip.next_event() == board.clock.ns + 1_000_000 * divisor


def test_periodic_without_drift(board: Board) -> None:
    board.set(r.LVT_FIRST, 0x2_0040)
    board.set(r.DIVIDE, 0xB)
    start = board.clock.ns
    board.set(r.INITIAL, 1_000_000)
    for _ in range(100):
        board.clock.ns += 1_234_567  # late each time
        board.chip.advance()
        if board.take() is not None:
            board.set(r.EOI, 0)
        event = board.chip.next_event()
        assert event is not None
        assert (event - start) % 1_000_000 == 0
        assert 0 < event - board.clock.ns <= 1_000_000
    assert 0 < board.get(r.CURRENT) <= 1_000_000


def test_missed_periods_are_one_interrupt(board: Board) -> None:
    board.set(r.LVT_FIRST, 0x2_0040)
    board.set(r.INITIAL, 500_000)
    board.clock.ns += 50_000_000
    board.chip.advance()
    assert board.take() == 0x40
    board.set(r.EOI, 0)
    board.chip.advance()
    assert board.take() is None


def test_no_period_is_too_short(board: Board) -> None:
    board.set(r.LVT_FIRST, 0x2_0040)
    board.set(r.INITIAL, 1)
    assert board.chip.next_event() == board.clock.ns + SHORTEST_NS


def test_a_new_divider_keeps_the_count(board: Board) -> None:
    board.set(r.DIVIDE, 0xB)
    board.set(r.INITIAL, 1000)
    board.clock.ns += 400
    board.set(r.DIVIDE, 0x0)
    assert board.get(r.CURRENT) == 600
    assert board.chip.next_event() == board.clock.ns + 1200


def test_a_masked_timer_runs_and_says_nothing(board: Board) -> None:
    board.set(r.LVT_FIRST, 0x1_0040)
    board.set(r.INITIAL, 10)
    board.run(1000)
    assert board.take() is None
    board.set(r.INITIAL, 0)
    assert board.chip.next_event() is None


def test_tsc_deadline(board: Board) -> None:
    assert board.chip.write_msr(0, r.IA32_TSC_DEADLINE, 5)  # ignored: not in this mode
    assert board.chip.read_msr(0, r.IA32_TSC_DEADLINE) == 0
    board.set(r.LVT_FIRST, 0x4_0040)
    deadline = board.clock.read() + 2001
    board.chip.write_msr(0, r.IA32_TSC_DEADLINE, deadline)
    assert board.chip.read_msr(0, r.IA32_TSC_DEADLINE) == deadline
    assert board.chip.next_event() == board.clock.ns + 1001  # rounded up: never early
    board.set(r.INITIAL, 5)  # ignored here
    assert board.get(r.CURRENT) == 0
    board.run(1001)
    assert board.clock.read() >= deadline
    assert (board.take(), board.chip.read_msr(0, r.IA32_TSC_DEADLINE)) == (0x40, 0)
    board.set(r.EOI, 0)
    board.chip.write_msr(0, r.IA32_TSC_DEADLINE, 1)  # long past: at once
    board.chip.advance()
    assert board.take() == 0x40
    board.set(r.EOI, 0)
    board.chip.write_msr(0, r.IA32_TSC_DEADLINE, 10**15)
    board.set(r.LVT_FIRST, 0x40)
    assert board.chip.next_event() is None


# ---- IA32_APIC_BASE and x2APIC ----


def test_state_transitions(board: Board) -> None:
    def to(value: int) -> bool:
        return board.chip.write_msr(0, r.IA32_APIC_BASE, value)

    off, xapic, invalid = BASE | 0x100, BASE | 0x900, BASE | 0x500
    assert board.chip.read_msr(0, r.IA32_APIC_BASE) == xapic
    assert not to(invalid)
    assert to(X2APIC)
    assert not to(xapic)  # from x2APIC only to off …
    assert to(off)
    assert not to(X2APIC)  # … and into it only from xAPIC
    assert to(xapic)
    assert not to(xapic | 1)
    assert not to(xapic | 1 << 60)
    board.apic.has_x2apic = False
    assert not to(X2APIC)
    assert board.apic.base == xapic
    board.apic.has_x2apic = True
    assert board.apic.set_base(off)
    assert board.apic.set_base(X2APIC)  # the host may go anywhere
    assert board.apic.set_base(xapic)


def test_the_page_moves_and_goes(board: Board) -> None:
    board.chip.write_msr(0, r.IA32_APIC_BASE, 0xD000_0900)
    assert board.chip.claims(0, 0xD000_0FFF)
    assert not board.chip.claims(0, BASE)
    assert board.chip.mmio_read(0, 0xD000_0030, 4) == 0x0005_0014
    board.chip.write_msr(0, r.IA32_APIC_BASE, 0xD000_0100)
    assert board.chip.mmio_read(0, 0xD000_0030, 4) == 0xFFFF_FFFF
    assert board.chip.send(Message(0x45, 0)) == 0
    assert board.chip.send(Message(0, 0, delivery_mode=NMI)) == 0


def test_x2apic_registers_are_msrs() -> None:
    board = Board(cpus=20)
    apic = board.apics[19]
    assert r.read_msr(apic, 0x802) is None  # not in xAPIC mode
    assert not r.write_msr(apic, 0x808, 0)
    apic.set_base(BASE | 0xC00)
    assert r.read_msr(apic, 0x802) == 19
    assert r.read_msr(apic, 0x80D) == 1 << 16 | 1 << 3
    assert r.write_msr(apic, 0x808, 0x20)
    assert r.read_msr(apic, 0x808) == 0x20
    refused = [(0x802, 1), (0x803, 1), (0x80D, 1), (0x80E, 1), (0x831, 1), (0x80B, 1), (0x828, 1), (0x808, 1 << 32)]
    refused += [(0x810, 0), (0x830, 1 << 20), (0x83F, 0x100), (0x804, 0), (0x8FF, 0), (0x80F, 1 << 40)]
    for index, value in refused:
        assert not r.write_msr(apic, index, value), hex(index)
    for index in (0x80B, 0x83F, 0x80E, 0x831, 0x800, 0x8FF):
        assert r.read_msr(apic, index) is None, hex(index)
    assert r.write_msr(apic, 0x83F, 0x77)
    assert board.take(19) == 0x77
    assert r.write_msr(apic, 0x80B, 0)
    assert r.write_msr(apic, 0x830, 7 << 32 | 0x4051)
    assert r.read_msr(apic, 0x830) == 7 << 32 | 0x4051
    assert board.take(7) == 0x51
    assert board.get(r.VERSION, 19) == 0xFFFF_FFFF  # the page is gone


def test_msrs_of_the_apic() -> None:
    assert [index for index in (0x1B, 0x6E0, 0x7FF, 0x800, 0x8FF, 0x900) if r.has_msr(index)] == [
        0x1B,
        0x6E0,
        0x800,
        0x8FF,
    ]
    board = Board()
    board.apic.has_deadline = False
    assert r.read_msr(board.apic, 0x6E0) is None
    assert not r.write_msr(board.apic, 0x6E0, 1)


# ---- destinations ----


def told(board: Board) -> list[int]:
    return [number for number in range(len(board.apics)) if board.take(number) is not None]


def test_shorthands() -> None:
    for shorthand, expected in ((1, [2]), (2, [0, 1, 2, 3]), (3, [0, 1, 3])):
        board = Board(cpus=4)
        board.ipi(0x4045 | shorthand << 18, dest=1, number=2)
        assert told(board) == expected


def test_physical_destinations() -> None:
    board = Board(cpus=4)
    board.ipi(0x4045, dest=3)
    assert told(board) == [3]
    board = Board(cpus=4)
    board.ipi(0x4045, dest=0xFF)
    assert told(board) == [0, 1, 2, 3]
    board = Board(cpus=4)
    board.ipi(0x4045, dest=9)
    assert told(board) == []
    board.set(r.ID, 9 << 24, 1)  # the guest may rename an xAPIC
    board.ipi(0x4045, dest=9)
    assert told(board) == [1]


def test_logical_destinations_flat_and_clusters() -> None:
    board = Board(cpus=4)
    for number in range(4):
        board.set(r.LDR, 1 << 24 + number, number)
    board.ipi(0x4845, dest=0b1010)
    assert told(board) == [1, 3]
    board = Board(cpus=4)
    for number, logical in enumerate((0x11, 0x12, 0x21, 0x22)):
        board.set(r.DFR, 0x0FFF_FFFF, number)
        board.set(r.LDR, logical << 24, number)
    board.ipi(0x4845, dest=0x23)
    assert told(board) == [2, 3]
    board.ipi(0x4835, dest=0x11)  # one of a cluster
    assert told(board) == [0]


def test_x2apic_logical_destinations() -> None:
    board = Board(cpus=40)
    for apic in board.apics:
        apic.set_base(apic.base | 0x400)
    assert [apic.identity for apic in board.apics if matches(apic, 1 << 16 | 0b101, True, True)] == [16, 18]
    assert not matches(board.apics[5], 0xFF, False, from_cpu=True)
    assert matches(board.apics[5], 0xFF, False, from_cpu=False)  # an MSI has 8 bits only
    assert all(matches(apic, 0xFFFF_FFFF, False, True) for apic in board.apics)


def test_lowest_priority_takes_turns_among_equals() -> None:
    board = Board(cpus=3)
    board.apics[1].tpr = 0x80
    message = Message(0x95, 0xFF, delivery_mode=LOWEST)
    chosen = [receivers(board.apics, message)[0].identity for _ in range(4)]
    assert chosen == [0, 2, 0, 2]
    board.set(r.SVR, 0xFF, 0)
    board.set(r.SVR, 0xFF, 2)
    assert receivers(board.apics, message) == [board.apics[1]]
    board.set(r.SVR, 0xFF, 1)
    assert receivers(board.apics, message) == []


def test_starting_another_processor() -> None:
    board = Board(cpus=2)
    board.ipi(0xC500, dest=1)
    board.ipi(0x8500, dest=1)  # INIT de-assert: ignored
    board.ipi(0x4699, dest=1)
    board.ipi(0x4400, dest=1)
    assert board.cpus[1].events == ["init", 0x99, "nmi"]
    assert board.cpus[0].events == []
    assert (FIXED, INIT, STARTUP) == (0, 5, 6)


def test_init_leaves_identity_and_base() -> None:
    board = Board(cpus=2)
    apic = board.apics[1]
    board.set(r.ID, 7 << 24, 1)
    apic.set_base(0xD000_0800)
    apic.irr = apic.isr = 1 << 99
    apic.reset(init=True)
    assert (apic.irr, apic.isr, apic.svr, apic.xapic_id, apic.base) == (0, 0, 0xFF, 7, 0xD000_0800)
    apic.reset()
    assert (apic.xapic_id, apic.base) == (1, BASE | 0x800)


# ---- any guest ----

REGISTERS = st.integers(0, 0x3F)
STEPS = st.one_of(
    st.tuples(st.just("set"), REGISTERS, st.integers(0, 0xFFFF_FFFF)),
    st.tuples(st.just("get"), REGISTERS, st.just(0)),
    st.tuples(st.just("write"), st.integers(0x800, 0x840) | st.sampled_from([0x1B, 0x6E0]), st.integers(0, 2**64 - 1)),
    st.tuples(st.just("base"), st.just(0), st.sampled_from([0x100, 0x900, 0xD00])),
    st.tuples(st.just("request"), st.integers(0, 255), st.integers(0, 1)),
    st.tuples(st.just("take"), st.just(0), st.just(0)),
    st.tuples(st.just("pass"), st.integers(0, 3_000_000), st.just(0)),
)


def play(board: Board, step: tuple[str, int, int]) -> object:
    kind, where, value = step
    seen: object = None
    match kind:
        case "set":
            board.set(where, value)
        case "get":
            seen = board.get(where)
            assert 0 <= seen <= 0xFFFF_FFFF
        case "write":
            seen = board.chip.write_msr(0, where, value), board.chip.read_msr(0, where)
        case "base":
            seen = board.chip.write_msr(0, 0x1B, BASE | value)
        case "request":
            seen = board.chip.send(Message(where, 0, level_triggered=bool(value)))
        case "take":
            seen = board.take()
        case _:
            board.run(where)
    apic = board.apic
    assert apic.ppr & 0xF0 >= apic.tpr & 0xF0
    vector = apic.pending_vector()
    if vector is not None:
        assert vector == max(v for v in range(256) if apic.irr >> v & 1)
        assert vector >> 4 > apic.ppr >> 4
    event = board.chip.next_event()
    return seen, event is None or event - board.clock.ns


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=20, max_size=60))
def test_any_guest(steps: list[tuple[str, int, int]]) -> None:
    board = Board()
    for step in steps:
        play(board, step)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=40), st.lists(STEPS, max_size=20))
def test_a_copy_by_its_page_goes_on_the_same(
    before: list[tuple[str, int, int]], after: list[tuple[str, int, int]]
) -> None:
    board, copy = Board(), Board()
    for step in before:
        play(board, step)
    board.apic.errors = 0  # not in the page
    copy.clock.ns = board.clock.ns
    copy.apic.set_base(board.apic.base)
    page = get_lapic(board.apic)
    set_lapic(copy.apic, page)
    copy.apic.timer.set_deadline(board.apic.timer.deadline)
    assert get_lapic(copy.apic) == page
    if board.apic.timer.due is not None:  # the page has whole counts: the phase within one is lost
        board.apic.timer.due = copy.apic.timer.due
    copy.apic.xapic_id = board.apic.xapic_id  # in x2APIC mode it is not in the page
    copy.apic.ldr = board.apic.ldr
    for step in after:
        assert play(copy, step) == play(board, step)
