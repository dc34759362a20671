"""One interface, four controllers: the same small guest takes a device's interrupts with each of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from minivmm import watch
from minivmm.exits import Exit, InterruptWindow, IoapicEoi
from minivmm.irqchip import KINDS
from minivmm.kvm.seam import Backend
from minivmm.line import Line
from minivmm.machine import Machine
from minivmm.machine.pc import Pc
from minivmm.soft.backend import SoftBackend

IRQ = 5
VECTOR = 0x20 + IRQ

# Real mode. The 8259A pair: ICW1 to ICW4, vectors from 0x20, IRQ 5 alone let through. Then halt until three interrupts
# have come; each prints a byte. After that, halt with interrupts off.
SET_UP = (
    "fa 31c0 8ed8 8ed0 bc0010"  # cli; ds = ss = 0; sp = 0x1000
    "b011 e620 e6a0 b020 e621 b028 e6a1 b004 e621 b002 e6a1 b001 e621 e6a1 b0df e621 b0ff e6a1"
)
MAIN = (
    "31c9 b072 baf803 ee"  # xor cx, cx; out 'r': ready
    "fb f4 fa"  # again: sti; hlt; cli (or the last one may come after the look at cx, and before the hlt)
    "83f903 75f8"  # cmp cx, 3; jne again
    "f4"  # hlt
)
HANDLER = "50 52 41 baf803 b069 ee b020 e620 5a 58 cf"  # push ax, dx; inc cx; out 'i'; EOI; pop; iret


@pytest.fixture(params=["soft", "kvm"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return SoftBackend() if request.param == "soft" else request.getfixturevalue("kvm_backend")


@pytest.fixture(params=["kernel", "split", "user"])
def machine(request: pytest.FixtureRequest, backend: Backend) -> Iterator[Machine]:
    with Machine(1 << 20, backend, irqchip=request.param) as machine:
        machine.load(0x2000, bytes.fromhex(SET_UP + MAIN))
        machine.load(0x3000, bytes.fromhex(HANDLER))
        machine.load(4 * VECTOR, bytes.fromhex("00300000"))
        machine.enter("real", 0x2000)
        yield machine


def test_each_edge_of_a_line_is_an_interrupt(machine: Machine) -> None:
    line = machine.irqchip.line(IRQ)
    served = threading.Semaphore(0)
    machine._sink = lambda data: served.release()

    def device() -> None:
        for _ in range(3):
            assert served.acquire(timeout=20)
            line.pulse()

    thread = threading.Thread(target=device)
    thread.start()
    stop = machine.run(30)
    thread.join()
    assert (stop.reason, stop.exit_code) == ("halted", 0)
    assert machine.console == b"riii"


def test_an_interrupt_from_before_the_run_waits_for_it(machine: Machine) -> None:
    machine.load(0x2000 + len(bytes.fromhex(SET_UP)), bytes.fromhex("b96300 fb f4 83f964 75f9 fa f4"))  # from 99 to 100
    stopped = threading.Timer(0.3, machine.stop)  # it has set its 8259A up by then, and sleeps
    stopped.start()
    assert machine.run(30).reason == "asked"
    machine.irqchip.line(IRQ).pulse()
    assert machine.run(30).reason == "halted"
    assert machine.console == b"i"


def test_without_an_irqchip_hlt_is_the_end(backend: Backend) -> None:
    with Machine(1 << 20, backend) as machine:
        machine.load(0x1000, bytes.fromhex("fb f4"))
        machine.enter("real", 0x1000)
        machine.irqchip.line(IRQ).raise_()  # leads nowhere
        assert machine.run(10).reason == "halted"


@pytest.fixture
def user(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine whose interrupts come from Python, and no heartbeat that would bring late what is not in time."""
    monkeypatch.setattr(watch, "HEARTBEAT", 1000)
    with Machine(1 << 20, backend, irqchip="user") as machine:
        machine.load(4 * VECTOR, bytes.fromhex("00300000"))
        machine.load(0x3000, bytes.fromhex(HANDLER))
        yield machine


def test_an_interrupt_finds_a_guest_that_runs(user: Machine) -> None:
    # … out 'r'; xor cx, cx; sti; spin: jcxz spin; cli; hlt
    user.load(0x2000, bytes.fromhex(SET_UP + "b072 baf803 ee 31c9 fb e3fe fa f4"))
    user.enter("real", 0x2000)
    line = user.irqchip.line(IRQ)
    user._sink = lambda data: threading.Timer(0.2, line.pulse).start() if data == b"r" else None
    assert user.run(20).reason == "halted"
    assert user.console == b"ri"


def test_an_interrupt_waits_for_a_guest_that_lets_none_in(user: Machine) -> None:
    # … out 'r'; xor cx, cx; spin: cmp byte [0x500], 0; je spin; sti; wait: jcxz wait; cli; hlt
    user.load(0x2000, bytes.fromhex(SET_UP + "b072 baf803 ee 31c9 803e000500 74f9 fb e3fe fa f4"))
    user.enter("real", 0x2000)
    line = user.irqchip.line(IRQ)

    def soon() -> None:
        line.pulse()
        threading.Event().wait(0.2)
        user.load(0x500, b"\1")

    user._sink = lambda data: threading.Timer(0.2, soon).start() if data == b"r" else None
    windows: list[Exit] = []
    user.on_exit = lambda exit: windows.append(exit) if isinstance(exit, InterruptWindow) else None
    assert user.run(20).reason == "halted"
    assert user.console == b"ri"
    assert windows


# A guest of the 8254: counter 0 in mode 2 at 1193 ticks, 1 ms; it counts ten of them, and says so.
TICKS = (
    "b034 e643 b0a9 e640 b004 e640 b0fe e621"  # control word; count 0x4A9; unmask IRQ 0
    "31c9 fb f4 83f90a 72f9 b054 baf803 ee fa f4"  # … print 'T', and halt for good
)


def test_the_8254_ticks(machine: Machine) -> None:
    machine.load(0x2000, bytes.fromhex(SET_UP + TICKS))
    machine.load(0x3000, bytes.fromhex("50 41 b020 e620 58 cf"))
    machine.load(4 * 0x20, bytes.fromhex("00300000"))
    assert machine.run(30).reason == "halted"
    assert machine.console == b"T"


def test_a_kind_that_there_is_not(backend: Backend) -> None:
    with pytest.raises(ValueError, match="is one of none, kernel, split, user"):
        Machine(1 << 20, backend, irqchip="pic")
    assert set(KINDS) == {"none", "kernel", "split", "user"}


@pytest.mark.parametrize("irqchip", ["none", "user"])
def test_several_processors_need_apics(irqchip: str, backend: Backend) -> None:
    with pytest.raises(ValueError, match="has no APICs"):
        Machine(1 << 20, backend, cpus=2, irqchip=irqchip)


# ---- split: the end of a level-triggered interrupt comes back ----

IOAPIC_GUEST = (
    "b0ff e621 e6a1"  # the 8259A pair, which has the same line, keeps out of it
    "be0000e0fe"  # mov esi, 0xfee00000
    "c786f0000000ff010000"  # local APIC on: [esi + 0xf0] = 0x1ff
    "c78680000000 00000000"  # TPR = 0
    "bf0000c0fe"  # mov edi, 0xfec00000
    "c7071a000000"  # mov dword [edi], 0x1a: the low half of pin 5
    "c7471030800000"  # mov dword [edi + 0x10], 0x8030: level-triggered, vector 0x30
    "fb f4 fa f4"  # sti; hlt; cli; hlt
)
# inc ecx; out 0x3f8, 'i'; out 0x4f8, al; EOI; cmp ecx, 2; je end; sti; hlt; end: cli; hlt. (No IRET: kvm_pvm has none.)
IOAPIC_HANDLER = "41 66baf803 b069 ee 66baf804 ee c705b000e0fe00000000 83f902 7402 fb f4 fa f4"


class Latch:
    """A device with two things to say: its line stays high until it has been served twice."""

    name = "latch"
    claim = range(0x4F8, 0x4F9)

    def __init__(self) -> None:
        self.line: Line | None = None
        self.waiting = 2

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        self.waiting -= 1
        if self.line is not None and not self.waiting:
            self.line.lower()

    def save(self) -> dict[str, object]:
        return {}

    def load(self, state: dict[str, object]) -> None:
        pass


@pytest.mark.parametrize("irqchip", ["kernel", "split"])
def test_a_level_triggered_interrupt_comes_again_after_its_end(irqchip: str, backend: Backend) -> None:
    latch = Latch()
    with Machine(1 << 20, backend, irqchip=irqchip, devices=[latch]) as machine:
        latch.line = machine.irqchip.line(IRQ)
        ends: list[Exit] = []
        machine.on_exit = lambda exit: ends.append(exit) if isinstance(exit, IoapicEoi) else None
        machine.load(0x2000, bytes.fromhex(IOAPIC_GUEST))
        machine.load(0x3000, bytes.fromhex(IOAPIC_HANDLER))
        machine.enter("protected", 0x2000)
        sregs = machine.vcpu.get_sregs()
        sregs.idt.base, sregs.idt.limit = 0x4000, 0x7FF
        gate = 0x3000 | sregs.cs.selector << 16 | 0x8E00 << 32
        machine.load(0x4000 + 8 * 0x30, gate.to_bytes(8, "little"))
        machine.vcpu.set_sregs(sregs)
        latch.line.raise_()
        stop = machine.run(20)
        assert stop.reason == "halted", stop.explanation
        assert machine.console == b"ii"
        assert len(ends) == (2 if irqchip == "split" else 0)


def test_the_clock_s_alarm_is_an_interrupt(backend: Backend) -> None:
    """The periodic interrupt of the RTC, by the timers' thread, with an 8259A in Python."""
    with Pc(1 << 20, backend, irqchip="user") as machine:
        # Slave: IRQ 8 let through (vector 0x28), by way of IRQ 2. RTC: rate 1024 Hz / 64, periodic interrupt on.
        guest = "b0fb e621 b0fe e6a1 b00a e670 b02c e671 b00b e670 b042 e671 31c9 fb f4 83f903 72f9 fa f4"
        handler = "50 41 b00c e670 e471 b020 e6a0 e620 58 cf"
        machine.load(0x2000, bytes.fromhex(SET_UP + guest))
        machine.load(0x3000, bytes.fromhex(handler))
        machine.load(4 * 0x28, bytes.fromhex("00300000"))
        machine.enter("real", 0x2000)
        assert machine.run(30).reason == "halted"
        assert machine.vcpu.get_regs().rcx == 3


@pytest.mark.parametrize("irqchip", KINDS)
def test_a_guest_may_lower_cr8(irqchip: str, backend: Backend) -> None:
    """Without a local APIC in the kernel that is an exit, KVM_EXIT_SET_TPR, and no reason to die."""
    with Machine(1 << 20, backend, irqchip=irqchip) as machine:
        # mov eax, 5; mov cr8, rax; xor eax, eax; mov cr8, rax; mov rbx, cr8; cli; hlt
        machine.load(0x1000, bytes.fromhex("b805000000 440f22c0 31c0 440f22c0 440f20c3 fa f4"))
        machine.enter("long", 0x1000)
        assert machine.run(20).reason == "halted"
        assert machine.vcpu.get_regs().rbx == 0
