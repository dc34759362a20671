"""The chips of one VM together: routes, delivery, the PIT, splits, and the ioctls that are about them."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from chip_surroundings import Clock, Cpu
from hypothesis import given, settings
from hypothesis import strategies as st

from minivmm.devices.pit import to_ns
from minivmm.kvm import constants as k
from minivmm.kvm import ioctls
from minivmm.kvm.binding import ffi
from minivmm.kvm.calls import struct
from minivmm.soft import lapic_registers as r
from minivmm.soft.irq_ioctls import vcpu_ioctl, vm_ioctl
from minivmm.soft.irq_routing import MsiRoute, Pin, build_routing, default_routing
from minivmm.soft.irqchip import IrqChip
from minivmm.soft.lapic import BASE

IOAPIC = 0xFEC0_0000
MASTER, SLAVE = 0x20, 0xA0


class Board:
    """A VM's chips as firmware leaves them: PIC vectors at 0x20, local APICs on."""

    def __init__(self, cpus: int = 1, *, split: bool = False, reserved: int = 0) -> None:
        self.clock = Clock()
        self.chip = IrqChip(self.clock, split=split, reserved_pins=reserved)
        self.cpus = [Cpu() for _ in range(cpus)]
        for number, cpu in enumerate(self.cpus):
            self.chip.add_cpu(number, cpu, self.clock)
            self.chip.mmio_write(number, BASE + 0xF0, 4, 0x1FF)
        if not split:
            for port, base, wiring in ((MASTER, 0x20, 4), (SLAVE, 0x28, 2)):
                for offset, value in ((0, 0x11), (1, base), (1, wiring), (1, 1), (1, 0)):
                    self.out(port + offset, value)

    def out(self, port: int, value: int) -> None:
        assert port in self.chip.ports
        self.chip.port_write(port, 1, value)

    def entry(self, pin: int, value: int) -> None:
        for half in (1, 0):
            self.chip.mmio_write(0, IOAPIC, 4, 0x10 + 2 * pin + half)
            self.chip.mmio_write(0, IOAPIC + 0x10, 4, value >> 32 * half & 0xFFFF_FFFF)

    def eoi(self, number: int = 0) -> None:
        self.chip.mmio_write(number, BASE + 0xB0, 4, 0)

    def take(self, number: int = 0) -> int | None:
        return None if self.chip.interrupt_for(number) is None else self.chip.acknowledge(number)

    def pulse(self, gsi: int) -> None:
        self.chip.irq_line(gsi, True)
        self.chip.irq_line(gsi, False)

    def vm(self, request: int, argument: Any = 0) -> int | None:
        return vm_ioctl(self.chip, request, argument)


@pytest.fixture
def board() -> Board:
    return Board()


# ---- ways in ----


def test_a_line_reaches_pic_and_ioapic(board: Board) -> None:
    board.entry(5, 0x55)
    assert board.chip.irq_line(5, True) == 2
    assert [board.take(), board.take()] == [0x25, 0x55]  # the PIC goes first, as in KVM


def test_line_status(board: Board) -> None:
    assert board.chip.irq_line(3, True) == 1  # the PIC; the IOAPIC pin is masked
    board.chip.irq_line(3, False)
    assert board.chip.irq_line(3, True) == 0  # coalesced
    board.out(MASTER + 1, 0xFF)
    assert board.chip.irq_line(4, True) == -1
    assert board.chip.irq_line(1000, True) == -1


def test_extint_comes_through_lint0(board: Board) -> None:
    woken = board.cpus[0].woken
    board.pulse(1)
    assert board.cpus[0].woken == woken + 1
    board.chip.mmio_write(0, BASE + 0x350, 4, 0x1_0700)
    assert board.chip.interrupt_for(0) is None
    board.chip.mmio_write(0, BASE + 0x350, 4, 0x400)  # NMI mode: no ExtINT either
    assert board.chip.interrupt_for(0) is None
    board.chip.mmio_write(0, BASE + 0x350, 4, 0x700)
    assert board.take() == 0x21


def test_only_the_bootstrap_processor_hears_the_pic() -> None:
    board = Board(cpus=2)
    board.pulse(1)
    assert board.chip.interrupt_for(1) is None
    assert board.chip.interrupt_for(0) == 0x21


def test_a_processor_without_apic_hears_the_pic(board: Board) -> None:
    board.chip.write_msr(0, r.IA32_APIC_BASE, BASE | 0x100)
    board.pulse(1)
    assert board.take() == 0x21


def test_looking_changes_nothing(board: Board) -> None:
    board.pulse(1)
    assert [board.chip.interrupt_for(0) for _ in range(3)] == [0x21] * 3
    board.pulse(0)
    assert board.chip.interrupt_for(0) == board.chip.acknowledge(0) == 0x20


def test_messages(board: Board) -> None:
    assert board.chip.signal_msi(0xFEE0_0000, 0x66) == 1
    assert board.take() == 0x66
    assert board.chip.signal_msi(0xFEE0_5000, 0x66) == 0
    assert board.chip.signal_msi(0xFEE0_0000, 0x400) == 1
    assert board.cpus[0].events == ["nmi"]


# ---- routing ----


def test_default_routing() -> None:
    routing = default_routing()
    assert routing[0] == (Pin("pic", 0), Pin("ioapic", 0))
    assert routing[15] == (Pin("pic", 15), Pin("ioapic", 15))
    assert routing[16] == (Pin("ioapic", 16),)
    assert set(routing) == set(range(24))


def test_a_routing_of_ones_own(board: Board) -> None:
    board.chip.set_routing(build_routing([(40, MsiRoute(0xFEE0_0000, 0x77)), (0, Pin("ioapic", 2))], split=False))
    board.entry(2, 0x42)
    assert board.chip.irq_line(40, True) == 1
    assert board.chip.irq_line(40, False) == -1
    assert board.chip.irq_line(0, True) == 1
    assert board.chip.irq_line(5, True) == -1
    assert board.take() == 0x77
    board.eoi()
    assert board.take() == 0x42


@pytest.mark.parametrize(
    ("entries", "split"),
    [
        ([(0, Pin("ioapic", 24))], False),
        ([(0, Pin("pic", 16))], False),
        ([(0, Pin("ioapic", 0))], True),
        ([(0, Pin("ioapic", 0)), (0, Pin("ioapic", 1))], False),
        ([(0, Pin("pic", 0)), (0, Pin("pic", 1))], False),
        ([(0, MsiRoute(0, 0)), (0, Pin("pic", 1))], False),
        ([(0, MsiRoute(0, 0)), (0, MsiRoute(0, 0))], False),
        ([(4096, MsiRoute(0, 0))], False),
        ([(n % 4096, MsiRoute(0, 0)) for n in range(4097)], False),
    ],
)
def test_refused_routings(entries: Any, split: bool) -> None:
    with pytest.raises(ValueError, match=r"GSI|routes"):
        build_routing(entries, split=split)


# ---- the PIT ----


def program_pit(board: Board, count: int = 1193) -> None:
    for port, value in ((0x43, 0x34), (0x40, count & 0xFF), (0x40, count >> 8)):
        board.out(port, value)


def test_timer_interrupts_through_the_pic(board: Board) -> None:
    board.chip.create_pit()
    assert 0x61 not in board.chip.ports
    program_pit(board)
    for tick in range(1, 5):
        assert board.chip.next_event() == to_ns(1 + 1193 * tick)
        board.clock.ns = board.chip.next_event() or 0
        board.chip.advance()
        assert board.take() == 0x20
        board.out(MASTER, 0x20)
        assert board.take() is None


def test_missed_ticks_are_made_up_for(board: Board) -> None:
    board.chip.create_pit()
    program_pit(board)
    board.clock.ns = to_ns(1 + 5 * 1193)
    board.chip.advance()
    taken = 0
    while board.take() == 0x20:
        taken += 1
        board.out(MASTER, 0x20)
    assert taken == 5


def test_ticks_before_the_timer_was_unmasked_don_t_count(board: Board) -> None:
    board.chip.create_pit()
    board.out(MASTER + 1, 0xFF)
    program_pit(board)
    board.clock.ns = to_ns(1 + 5 * 1193)
    board.chip.advance()
    board.chip.advance()
    board.entry(0, 0x30)  # the guest uses the IOAPIC, and never answers the tick in the PIC
    board.clock.ns = to_ns(1 + 7 * 1193)
    board.chip.advance()
    taken = 0
    while board.take() == 0x30:
        taken += 1
        board.eoi()
    assert taken == 2


def test_without_reinjection_missed_ticks_are_one(board: Board) -> None:
    board.chip.create_pit()
    assert board.vm(ioctls.KVM_REINJECT_CONTROL, struct("kvm_reinject_control", pit_reinject=0)) == 0
    program_pit(board)
    board.clock.ns = to_ns(1 + 5 * 1193)
    board.chip.advance()
    assert board.take() == 0x20
    board.out(MASTER, 0x20)
    board.chip.advance()
    assert board.take() is None


def test_the_earliest_timer_counts(board: Board) -> None:
    assert board.chip.next_event() is None
    board.chip.create_pit(k.KVM_PIT_SPEAKER_DUMMY)
    assert 0x61 in board.chip.ports
    program_pit(board)
    board.chip.mmio_write(0, BASE + 0x3E0, 4, 0xB)
    board.chip.mmio_write(0, BASE + 0x380, 4, 500)
    assert board.chip.next_event() == 500


def test_the_same_clock_gives_the_same_trace() -> None:
    def trace() -> list[tuple[int, int]]:
        board = Board()
        board.chip.create_pit()
        program_pit(board, 5000)
        board.chip.mmio_write(0, BASE + 0x320, 4, 0x2_0040)
        board.chip.mmio_write(0, BASE + 0x380, 4, 1_234_567)
        seen = []
        for _ in range(50):
            board.clock.ns = board.chip.next_event() or 0
            board.chip.advance()
            while (vector := board.take()) is not None:
                seen.append((board.clock.ns, vector))
                board.out(MASTER, 0x20) if vector == 0x20 else board.eoi()
        return seen

    first = trace()
    assert len(first) >= 50
    assert {vector for _, vector in first} == {0x20, 0x40}
    assert first == trace()


# ---- a split irqchip ----


def test_a_split_irqchip_has_messages_only() -> None:
    board = Board(split=True, reserved=24)
    assert not board.chip.ports
    assert not board.chip.claims(0, IOAPIC)
    assert board.chip.claims(0, BASE)
    assert board.chip.irq_line(1, True) == -1
    board.chip.set_routing(build_routing([(9, MsiRoute(0xFEE0_0000, 0x8059))], split=True))
    assert board.chip.irq_line(9, True) == 1
    assert board.take() == 0x59
    assert board.chip.take_eoi(0) is None
    board.eoi()
    assert board.chip.take_eoi(0) == 0x59
    assert board.chip.take_eoi(0) is None


def test_other_vectors_end_in_silence() -> None:
    board = Board(split=True, reserved=4)
    routes = [(9, MsiRoute(0xFEE0_0000, 0x8059)), (1, MsiRoute(0xFEE0_0000, 0x41))]
    board.chip.set_routing(build_routing(routes, split=True))
    for gsi in (9, 1):  # beyond the pins; not level-triggered
        board.chip.irq_line(gsi, True)
        assert board.take() is not None
        board.eoi()
        assert board.chip.take_eoi(0) is None


def test_userspace_injects_through_lint0() -> None:
    board = Board(split=True)
    assert board.chip.inject(0, 0x21)
    assert not board.chip.inject(0, 0x22)
    assert board.take() == 0x21
    board.chip.mmio_write(0, BASE + 0x350, 4, 0x1_0700)
    assert board.chip.inject(0, 0x23)
    assert board.take() is None


# ---- the KVM API ----


def test_errors_are_the_kernels(board: Board) -> None:
    pit = struct("kvm_pit_state2")
    for request in (ioctls.KVM_GET_PIT2, ioctls.KVM_SET_PIT2, ioctls.KVM_REINJECT_CONTROL):
        assert board.vm(request, pit) == -errno.ENXIO
    assert board.vm(ioctls.KVM_CREATE_PIT2, struct("kvm_pit_config")) == 0
    assert board.vm(ioctls.KVM_CREATE_PIT2, struct("kvm_pit_config")) == -errno.EEXIST
    assert board.vm(ioctls.KVM_GET_PIT2, pit) == 0
    for request in (ioctls.KVM_GET_IRQCHIP, ioctls.KVM_SET_IRQCHIP):
        assert board.vm(request, struct("kvm_irqchip", chip_id=3)) == -errno.EINVAL
    assert board.vm(ioctls.KVM_SIGNAL_MSI, struct("kvm_msi", flags=2)) == -errno.EINVAL
    assert board.vm(ioctls.KVM_GET_CLOCK, 0) is None
    assert vcpu_ioctl(board.chip, 0, ioctls.KVM_GET_REGS, 0) is None
    split = Board(split=True)
    assert split.vm(ioctls.KVM_CREATE_PIT2, struct("kvm_pit_config")) == -errno.ENOENT
    assert split.vm(ioctls.KVM_GET_IRQCHIP, struct("kvm_irqchip")) == -errno.ENXIO
    assert split.vm(ioctls.KVM_SET_IRQCHIP, struct("kvm_irqchip")) == -errno.ENXIO


def routing_of(*entries: dict[str, Any], flags: int = 0) -> Any:
    return ffi.new("struct kvm_irq_routing *", {"nr": len(entries), "flags": flags, "entries": list(entries)})


def pin(gsi: int, chip: int, number: int, **more: int) -> dict[str, Any]:
    return {"gsi": gsi, "type": k.KVM_IRQ_ROUTING_IRQCHIP, "u": {"irqchip": {"irqchip": chip, "pin": number}}, **more}


def msi(gsi: int, address: int, data: int) -> dict[str, Any]:
    return {"gsi": gsi, "type": k.KVM_IRQ_ROUTING_MSI, "u": {"msi": {"address_lo": address, "data": data}}}


def test_set_gsi_routing(board: Board) -> None:
    table = routing_of(pin(3, 0, 5), pin(3, 2, 20), pin(4, 1, 2), msi(30, 0xFEE0_0000, 0x91))
    assert board.vm(ioctls.KVM_SET_GSI_ROUTING, table) == 0
    assert board.chip.routing == {
        3: (Pin("pic", 5), Pin("ioapic", 20)),
        4: (Pin("pic", 10),),
        30: (MsiRoute(0xFEE0_0000, 0x91),),
    }
    before = board.chip.routing
    for bad in (
        routing_of(pin(0, 0, 8)),
        routing_of(pin(0, 1, 8)),
        routing_of(pin(0, 3, 0)),
        routing_of(pin(0, 2, 24)),
        routing_of(pin(0, 0, 0, flags=1)),
        routing_of(pin(0, 0, 0, type=9)),
        routing_of(pin(0, 0, 0), flags=1),
    ):
        assert board.vm(ioctls.KVM_SET_GSI_ROUTING, bad) == -errno.EINVAL
    assert board.chip.routing == before
    line = struct("kvm_irq_level", irq=30, level=1)
    assert board.vm(ioctls.KVM_IRQ_LINE_STATUS, line) == 0
    assert line.status == 1
    assert board.take() == 0x91


def saved(board: Board) -> list[bytes]:
    states = []
    for number in range(3):
        state = struct("kvm_irqchip", chip_id=number)
        assert board.vm(ioctls.KVM_GET_IRQCHIP, state) == 0
        states.append(bytes(ffi.buffer(state)))
    pit = struct("kvm_pit_state2")
    assert board.vm(ioctls.KVM_GET_PIT2, pit) == 0
    page = struct("kvm_lapic_state")
    assert vcpu_ioctl(board.chip, 0, ioctls.KVM_GET_LAPIC, page) == 0
    return [*states, bytes(ffi.buffer(pit)), bytes(ffi.buffer(page))]


def restore(board: Board, states: list[bytes]) -> None:
    for state in states[:3]:
        assert board.vm(ioctls.KVM_SET_IRQCHIP, ffi.from_buffer("struct kvm_irqchip *", state)) == 0
    assert board.vm(ioctls.KVM_SET_PIT2, ffi.from_buffer("struct kvm_pit_state2 *", states[3])) == 0
    page = ffi.from_buffer("struct kvm_lapic_state *", states[4])
    assert vcpu_ioctl(board.chip, 0, ioctls.KVM_SET_LAPIC, page) == 0


STEPS = st.one_of(
    st.tuples(st.just("out"), st.sampled_from([0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1]), st.integers(0, 255)),
    st.tuples(st.just("out"), st.sampled_from([0x40, 0x41, 0x42, 0x43, 0x61]), st.integers(0, 255)),
    st.tuples(st.just("in"), st.sampled_from([0x20, 0xA1, 0x40, 0x42, 0x61]), st.just(0)),
    st.tuples(st.just("entry"), st.integers(0, 23), st.integers(0, 2**64 - 1)),
    st.tuples(st.just("apic"), st.integers(0, 0x3F), st.integers(0, 0xFFFF_FFFF)),
    st.tuples(st.just("line"), st.integers(0, 24), st.integers(0, 1)),
    st.tuples(st.just("msi"), st.integers(0, 0xFFFFF), st.integers(0, 0xFFFF)),
    st.tuples(st.just("take"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("pass"), st.integers(0, 9_000_000), st.just(0)),
)


def play(board: Board, step: tuple[str, int, int]) -> object:
    kind, where, value = step
    seen: object = None
    match kind:
        case "out":
            board.out(where, value)
        case "in":
            seen = board.chip.port_read(where, 1)
        case "entry":
            board.entry(where, value)
        case "apic":
            board.chip.mmio_write(value & 1, BASE + (where << 4), 4, value)
        case "line":
            seen = board.chip.irq_line(where, bool(value))
        case "msi":
            seen = board.chip.signal_msi(0xFEE0_0000 | where, value)
        case "take":
            looked = board.chip.interrupt_for(where)
            seen = board.take(where)
            assert seen == looked  # what was promised is what is taken
        case _:
            board.clock.ns += where
            board.chip.advance()
            event = board.chip.next_event()
            assert event is None or event > board.clock.ns
    return seen


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=20, max_size=80))
def test_any_guest(steps: list[tuple[str, int, int]]) -> None:
    board = Board(cpus=2)
    board.chip.create_pit(k.KVM_PIT_SPEAKER_DUMMY)
    for step in steps:
        play(board, step)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_state_moves_to_other_chips(steps: list[tuple[str, int, int]]) -> None:
    """What KVM_GET_* gives, KVM_SET_* takes: after one round, nothing changes any more."""
    board, copy, third = Board(cpus=2), Board(cpus=2), Board(cpus=2)
    for each in (board, copy, third):
        each.chip.create_pit(k.KVM_PIT_SPEAKER_DUMMY)
    for step in steps:
        play(board, step)
    copy.clock.ns = third.clock.ns = board.clock.ns
    restore(copy, saved(board))
    once = saved(copy)
    restore(third, once)
    assert saved(third)[2:] == once[2:]
    assert saved(third)[0][16:] == once[0][16:]


def test_a_running_machine_moves() -> None:
    """An interrupt in service, one that waits, a level that is high, a timer half-way."""
    board, copy = Board(), Board()
    for each in (board, copy):
        each.chip.create_pit()
    program_pit(board, 1193)
    board.out(SLAVE + 1, 0xFF)
    board.pulse(4)
    assert board.take() == 0x24
    board.pulse(3)
    board.entry(9, 0x8059)
    board.chip.irq_line(9, True)
    board.chip.mmio_write(0, BASE + 0x320, 4, 0x41)
    board.chip.mmio_write(0, BASE + 0x3E0, 4, 0xB)
    board.chip.mmio_write(0, BASE + 0x380, 4, 1_000_000)
    board.clock.ns = copy.clock.ns = 400_000
    restore(copy, saved(board))
    assert saved(copy)[:3] == saved(board)[:3]
    assert saved(copy)[4] == saved(board)[4]
    assert copy.chip.lapics[0].timer.due == 1_000_000
    for each in (board, copy):
        assert each.take() == 0x23
        assert each.take() == 0x59
    assert saved(copy)[:3] == saved(board)[:3]
