"""Our chips against KVM's: the same accesses, lines and ioctls lead to the same states, vectors and answers.

KVM's chips are touched by a real-mode guest of one instruction at a time; ours are called.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import pytest
from chip_surroundings import Clock, Cpu
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from minivmm.exits import PortOut
from minivmm.kvm import constants as k
from minivmm.kvm import host, ioctls
from minivmm.kvm.binding import ffi
from minivmm.kvm.calls import struct
from minivmm.kvm.seam import Backend
from minivmm.soft.irq_ioctls import vcpu_ioctl, vm_ioctl
from minivmm.soft.irqchip import IrqChip
from minivmm.vm import Vm

pytestmark = pytest.mark.kvm

IOAPIC, LAPIC = 0xFEC0_0000, 0xFEE0_0000
# The box (tools/box.py) emulates a processor in software: what takes seconds elsewhere takes minutes there. And now and
# then a sequence freezes the whole box, its clock included (QEMU's SVM, it seems): there, always the same ones.
IN_BOX = "MINIVMM_BOX" in os.environ
EXAMPLES = settings(
    max_examples=6 if IN_BOX else 40,
    derandomize=IN_BOX,
    phases=[Phase.generate] if IN_BOX else tuple(Phase),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


class Side(Protocol):
    """What both sides can do. `take` lets the vCPU take an interrupt, and gives its vector; None: there was none."""

    def outb(self, port: int, value: int) -> None: ...
    def inb(self, port: int) -> int: ...
    def poke(self, address: int, value: int) -> None: ...
    def peek(self, address: int) -> int: ...
    def take(self) -> int | None: ...
    def vm(self, request: int, argument: Any) -> int: ...
    def vcpu(self, request: int, argument: Any) -> int: ...


class SoftSide:
    """Ours, with one vCPU."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.cpu = Cpu()
        self.chip = IrqChip(self.clock)
        self.chip.add_cpu(0, self.cpu, self.clock)

    def outb(self, port: int, value: int) -> None:
        self.chip.port_write(port, 1, value)

    def inb(self, port: int) -> int:
        return self.chip.port_read(port, 1)

    def poke(self, address: int, value: int) -> None:
        assert self.chip.claims(0, address)
        self.chip.mmio_write(0, address, 4, value)

    def peek(self, address: int) -> int:
        return self.chip.mmio_read(0, address, 4)

    def take(self) -> int | None:
        return None if self.chip.interrupt_for(0) is None else self.chip.acknowledge(0)

    def vm(self, request: int, argument: Any) -> int:
        result = vm_ioctl(self.chip, request, argument)
        assert result is not None
        return result

    def vcpu(self, request: int, argument: Any) -> int:
        result = vcpu_ioctl(self.chip, 0, request, argument)
        assert result is not None
        return result


DONE, TAKEN = 0xF4, 0xF5
OUT, IN, POKE, PEEK, WAIT, STUBS = 0x1000, 0x1010, 0x1020, 0x1030, 0x1040, 0x2000


class KvmSide:
    """KVM's: a real-mode guest makes each access, and says so at a port. DS is where it pokes and peeks."""

    def __init__(self, backend: Backend) -> None:
        self._vm = Vm(backend)
        self._vm.ioctl(ioctls.KVM_CREATE_IRQCHIP)
        self._vm.memory.add(0, 1 << 16)
        self._vcpu = self._vm.create_vcpu()
        self._vm.show_supported_cpuid(self._vcpu)
        done = bytes((0xE6, DONE))
        for at, code in (
            (OUT, b"\xee"),  # out dx, al
            (IN, b"\xec"),  # in al, dx
            (POKE, b"\x66\x89\x07"),  # mov [bx], eax
            (PEEK, b"\x66\x8b\x07"),  # mov eax, [bx]
            (WAIT, b"\x90"),  # nop
        ):
            self._vm.memory.write(at, code + done)
        for vector in range(256):
            self._vm.memory.write(4 * vector, (STUBS + 4 * vector).to_bytes(4, "little"))
            self._vm.memory.write(STUBS + 4 * vector, bytes((0xE6, TAKEN, 0x90, 0x90)))  # out TAKEN, al

    def _run(self, rip: int, ds: int = 0, rflags: int = 2, **registers: int) -> tuple[int, Any]:
        sregs = self._vcpu.get_sregs()
        sregs.cs.base = sregs.cs.selector = 0
        sregs.ss.base = sregs.ss.selector = 0
        sregs.ds.base = ds
        self._vcpu.set_sregs(sregs, validate=False)
        self._vcpu.update(rip=rip, rflags=rflags, rsp=0x8000, **registers)
        exit = self._vcpu.run()
        assert isinstance(exit, PortOut), exit
        return exit.port, self._vcpu.get_regs()

    def outb(self, port: int, value: int) -> None:
        self._run(OUT, rdx=port, rax=value)

    def inb(self, port: int) -> int:
        return int(self._run(IN, rdx=port, rax=0)[1].rax & 0xFF)

    def poke(self, address: int, value: int) -> None:
        self._run(POKE, ds=address & ~0xFFF, rbx=address & 0xFFF, rax=value)

    def peek(self, address: int) -> int:
        return int(self._run(PEEK, ds=address & ~0xFFF, rbx=address & 0xFFF, rax=0)[1].rax & 0xFFFF_FFFF)

    def take(self) -> int | None:
        port, regs = self._run(WAIT, rflags=0x202)  # interrupts on: one is delivered on the way in
        return None if port == DONE else int(regs.rip - STUBS) // 4

    def vm(self, request: int, argument: Any) -> int:
        return self._vm.backend.ioctl(self._vm.fd, request, argument)

    def vcpu(self, request: int, argument: Any) -> int:
        return self._vm.backend.ioctl(self._vcpu.fd, request, argument)

    def cpuid(self) -> list[dict[str, int]]:
        return self._vm.supported_cpuid()

    def close(self) -> None:
        self._vm.close()


def line(side: Side, gsi: int, level: int) -> int:
    """KVM_IRQ_LINE_STATUS."""
    argument = struct("kvm_irq_level", irq=gsi, level=level)
    assert side.vm(ioctls.KVM_IRQ_LINE_STATUS, argument) == 0
    return int(argument.status)


def fields(side: Side, number: int) -> dict[str, Any]:
    """KVM_GET_IRQCHIP as plain numbers, `number` as in chip_id."""
    argument = struct("kvm_irqchip", chip_id=number)
    assert side.vm(ioctls.KVM_GET_IRQCHIP, argument) == 0
    chip = argument.chip.ioapic if number == 2 else argument.chip.pic
    values = {name: getattr(chip, name) for name, _ in ffi.typeof(chip).fields}
    return {name: list(value) if name == "redirtbl" else value for name, value in values.items()}


def page(side: Side) -> bytes:
    """KVM_GET_LAPIC."""
    state = struct("kvm_lapic_state")
    assert side.vcpu(ioctls.KVM_GET_LAPIC, state) == 0
    return bytes(ffi.buffer(state.regs))


@contextmanager
def both(backend: Backend) -> Iterator[tuple[KvmSide, SoftSide]]:
    kvm, soft = KvmSide(backend), SoftSide()
    features = next(leaf["ecx"] for leaf in kvm.cpuid() if leaf["function"] == 1)
    soft.chip.lapics[0].has_x2apic = bool(features & 1 << 21)
    soft.chip.lapics[0].has_deadline = bool(features & 1 << 24)  # older kernels don't show it unasked
    try:
        yield kvm, soft
    finally:
        kvm.close()


def state(side: Side) -> dict[str, Any]:
    """All that the KVM API shows, but what time changes."""
    registers = page(side)
    apic = {hex(at): registers[at : at + 4][::-1].hex() for at in range(0, 1024, 16)}
    apic.pop("0x280")  # KVM notes no errors in ESR
    apic.pop("0x390")  # the current count
    return {"master": fields(side, 0), "slave": fields(side, 1), "ioapic": fields(side, 2), "lapic": apic}


Step = tuple[str, int, int]


def do(side: Side, step: Step) -> object:
    """One step; what can be seen of it at once."""
    kind, where, value = step
    match kind:
        case "out":
            side.outb(where, value)
        case "in":
            return side.inb(where)
        case "init":
            for offset, byte in enumerate(value.to_bytes(4, "little")):
                if offset < 3 or value & 1:  # ICW4 only where ICW1 announces it
                    side.outb(where + (offset > 0), byte)
        case "line":
            return line(side, where, value)
        case "take":
            return side.take()
        case "entry":
            for half in (1, 0):
                side.poke(IOAPIC, 0x10 + 2 * where + half)
                side.poke(IOAPIC + 0x10, value >> 32 * half & 0xFFFF_FFFF)
        case "set":
            side.poke(LAPIC + where, value)
        case "off and on":  # in one step: a level that nobody takes leaves KVM waiting for its end
            side.poke(LAPIC + where, value & ~0x100)
            side.poke(LAPIC + where, value)
        case "get":
            return side.peek(LAPIC + where)
        case "msi":
            return side.vm(ioctls.KVM_SIGNAL_MSI, struct("kvm_msi", address_lo=where, data=value))
    return None


def compare(backend: Backend, start: list[Step], steps: list[Step]) -> None:
    with both(backend) as (kvm, soft):
        assert state(soft) == state(kvm)
        for step in start + steps:
            assert do(soft, step) == do(kvm, step), step
            assert state(soft) == state(kvm), step


def bits(*choices: int) -> st.SearchStrategy[int]:
    return st.sampled_from(choices)


def tuples(kind: str, where: st.SearchStrategy[int], value: st.SearchStrategy[int]) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(kind), where, value)


NOTHING = st.just(0)
BYTE = st.integers(0, 0xFF)
OCW2 = st.integers(0, 7).flatmap(lambda command: st.integers(0, 7).map(lambda level: command << 5 | level))
ICWS = st.tuples(BYTE, BYTE, BYTE, st.integers(0, 31)).map(
    lambda icw: 0x10 | icw[0] & 0x0F | icw[1] << 8 | icw[2] << 16 | icw[3] << 24
)

# Two things are the datasheet's here and not KVM's: the answer to a poll command, and special mask mode.
PIC_STEPS = st.one_of(
    tuples("line", st.integers(0, 15), bits(0, 1)),
    tuples("take", NOTHING, NOTHING),
    tuples("in", bits(0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1), NOTHING),
    tuples("out", bits(0x20, 0xA0), OCW2),
    tuples("out", bits(0x20, 0xA0), bits(0x20, 0x20, 0x08, 0x0A, 0x0B)),
    tuples("out", bits(0x21, 0xA1, 0x4D0, 0x4D1), BYTE),
    tuples("init", bits(0x20, 0xA0), ICWS),
)


@EXAMPLES
@given(st.lists(PIC_STEPS, min_size=30, max_size=60))
def test_the_8259_pair(kvm_backend: Backend, steps: list[Step]) -> None:
    compare(kvm_backend, [], steps)


VECTOR = bits(0x31, 0x32, 0x45, 0x62, 0x80, 0xEF) | st.integers(16, 255)
MODE = bits(0, 0x100)  # fixed, lowest priority
DEST = bits(0 << 56, 0xFF << 56, 0x800 | 1 << 56, 0x800 | 0xFF << 56)  # each means our one APIC
PINS = st.integers(0, 5)
# Pins 3–5 are level-triggered for good: a change leaves KVM with a memory of the edge that it sent before.
ENTRIES = st.tuples(PINS, VECTOR, MODE, DEST, bits(0, 0, 0, 0x1_0000), bits(0, 0x1000, 0x2000, 0x4000)).map(
    lambda e: ("entry", e[0], e[1] | e[2] | e[3] | e[4] | e[5] | (0x8000 if e[0] > 2 else 0))
)
APIC_STEPS = st.one_of(
    tuples("line", PINS, bits(0, 1)),
    ENTRIES,
    tuples("set", bits(0xB0), NOTHING),
    tuples(
        "set", bits(0x300), st.tuples(VECTOR, MODE, bits(0, 1, 2, 3)).map(lambda i: i[0] | i[1] | 0x4000 | i[2] << 18)
    ),
    tuples("set", bits(0x80), BYTE.map(lambda value: value & 0xF0)),  # our guest's SREGS lose bits 3:0
    tuples("off and on", bits(0xF0), bits(0x1FF, 0x1EF, 0x3EF)),
    tuples("set", bits(0x310, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x3E0), st.integers(0, 0xFFFF_FFFF)),
    tuples("get", bits(0x20, 0x30, 0x80, 0x90, 0xA0, 0xD0, 0xE0, 0xF0, 0x300, 0x310, 0x350, 0x380, 0x3E0), NOTHING),
    tuples("get", st.integers(0x10, 0x27).map(lambda register: register << 4), NOTHING),
    tuples(
        "msi",
        bits(0xFEE0_0000, 0xFEEF_F000, 0xFEE0_1004, 0xFEE0_100C),
        st.builds(lambda v, m, t: v | m | t, VECTOR, MODE, bits(0, 0x8000)),
    ),
)
TAKES = tuples("take", NOTHING, NOTHING)
# The PIC masked; the APIC on, with a logical ID that the destinations above have.
APIC_ON: list[Step] = [("out", 0x21, 0xFF), ("out", 0xA1, 0xFF), ("set", 0xF0, 0x1FF), ("set", 0xD0, 1 << 24)]


@EXAMPLES
@given(st.lists(APIC_STEPS, min_size=30, max_size=60))
def test_ioapic_and_local_apic(kvm_backend: Backend, steps: list[Step]) -> None:
    compare(kvm_backend, APIC_ON, steps)


@pytest.mark.skipif(host.look().is_pvm, reason="kvm_pvm ends an APIC interrupt as it delivers it")
@EXAMPLES
@given(st.lists(APIC_STEPS | TAKES, min_size=30, max_size=60))
def test_interrupts_of_the_local_apic(kvm_backend: Backend, steps: list[Step]) -> None:
    compare(kvm_backend, APIC_ON, steps)


@EXAMPLES
@given(st.lists(PIC_STEPS | APIC_STEPS, min_size=20, max_size=60))
def test_a_state_moves_from_kvm_to_soft(kvm_backend: Backend, steps: list[Step]) -> None:
    """What one KVM gives away, another and ours take over alike."""
    with both(kvm_backend) as (first, soft), both(kvm_backend) as (second, _):
        for step in APIC_ON + steps:
            do(first, step)
        for number in (2, 0, 1):  # the IOAPIC first: its pins may send, and the APIC's page then says what there is
            chip = struct("kvm_irqchip", chip_id=number)
            assert first.vm(ioctls.KVM_GET_IRQCHIP, chip) == 0
            for side in (second, soft):
                assert side.vm(ioctls.KVM_SET_IRQCHIP, chip) == 0
        registers = struct("kvm_lapic_state")
        assert first.vcpu(ioctls.KVM_GET_LAPIC, registers) == 0
        for side in (second, soft):
            assert side.vcpu(ioctls.KVM_SET_LAPIC, registers) == 0
        assert state(soft) == state(second)


def test_x2apic_msrs(kvm_backend: Backend) -> None:
    with both(kvm_backend) as (kvm, soft):

        def read(index: int) -> int | None:
            msrs = ffi.new("struct kvm_msrs *", {"nmsrs": 1, "entries": [{"index": index}]})
            return int(msrs.entries[0].data) if kvm.vcpu(ioctls.KVM_GET_MSRS, msrs) == 1 else None

        def write(index: int, value: int) -> bool:
            msrs = ffi.new("struct kvm_msrs *", {"nmsrs": 1, "entries": [{"index": index, "data": value}]})
            return kvm.vcpu(ioctls.KVM_SET_MSRS, msrs) == 1

        apic = soft.chip.lapics[0]
        for base in (0xC00, 0xD00, 0x900, 0x500, 0x100, 0x901, 0xD00):
            assert apic.set_base(LAPIC | base) == write(0x1B, LAPIC | base), hex(base)
            assert apic.base == read(0x1B)
        writes = [(0x80F, 0x1FF), (0x808, 0x50), (0x832, 0x20031), (0x83E, 0xB), (0x835, 0x10700), (0x837, 0xFE)]
        writes += [(0x830, 0x4031 | 3 << 18), (0x83F, 0x62), (0x83F, 0x162), (0x80B, 0), (0x828, 0), (0x828, 1)]
        writes += [(0x802, 1), (0x803, 1), (0x80D, 1), (0x80E, 1), (0x831, 0), (0x839, 0), (0x810, 0), (0x830, 1 << 20)]
        writes += [(0x830, 1 << 63 | 1 << 12 | 0x44032), (0x80F, 0xFFFF_FFFF), (0x80F, 1 << 32), (0x82F, 0)]
        for index, value in writes:
            assert soft.chip.write_msr(0, index, value) == write(index, value), (hex(index), hex(value))
            for each in range(0x800, 0x900):
                assert soft.chip.read_msr(0, each) == read(each), (hex(index), hex(each))
        assert state(soft) == state(kvm)


def test_errors_of_the_ioctls(kvm_backend: Backend) -> None:
    with both(kvm_backend) as (kvm, soft):
        route = {"gsi": 5, "type": k.KVM_IRQ_ROUTING_IRQCHIP, "u": {"irqchip": {"irqchip": 0, "pin": 5}}}
        wrong_pin = route | {"u": {"irqchip": {"irqchip": 2, "pin": 24}}}
        message = {"gsi": 5, "type": k.KVM_IRQ_ROUTING_MSI}
        tables = [[], [route], [wrong_pin], [route, route], [route, message], [message, message]]
        tables += [[route | {"flags": 1}], [route | {"type": 77}], [route | {"gsi": 5000}]]
        answers = []
        for side in (kvm, soft):
            seen = [side.vm(ioctls.KVM_GET_PIT2, struct("kvm_pit_state2"))]
            seen += [side.vm(ioctls.KVM_CREATE_PIT2, struct("kvm_pit_config")) for _ in range(2)]
            seen.append(side.vm(ioctls.KVM_GET_IRQCHIP, struct("kvm_irqchip", chip_id=3)))
            seen.append(side.vm(ioctls.KVM_SIGNAL_MSI, struct("kvm_msi", flags=2)))
            for table in tables:
                routing = ffi.new("struct kvm_irq_routing *", {"nr": len(table), "entries": table})
                seen.append(side.vm(ioctls.KVM_SET_GSI_ROUTING, routing))
                seen.append(line(side, 5, 1))
                line(side, 5, 0)
            answers.append(seen)
        assert answers[0] == answers[1]


def test_the_pit_by_its_registers(kvm_backend: Backend) -> None:
    with both(kvm_backend) as (kvm, soft):
        config = struct("kvm_pit_config", flags=k.KVM_PIT_SPEAKER_DUMMY)
        states = []
        for side in (kvm, soft):
            assert side.vm(ioctls.KVM_CREATE_PIT2, config) == 0
            outs = [(0x43, 0x34), (0x40, 0x9C), (0x40, 0x2E), (0x43, 0x70), (0x41, 0x12), (0x43, 0x9B), (0x42, 0x25)]
            outs += [(0x61, 0x03), (0x43, 0xE8), (0x43, 0x40)]
            for port, value in outs:
                side.outb(port, value)
            pit = struct("kvm_pit_state2")
            assert side.vm(ioctls.KVM_GET_PIT2, pit) == 0
            names = ("count", "rw_mode", "mode", "bcd", "gate", "read_state", "write_state")
            names += ("count_latched", "status_latched")
            seen = [[getattr(channel, name) for name in names] for channel in pit.channels]
            states.append((seen, pit.flags, side.inb(0x61) & 0x0F))
        assert states[0] == states[1]
