"""The clock that counts instructions: exact, and therefore the same in every run, whatever the host does meanwhile."""

from __future__ import annotations

import errno
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from rig import HLT, LONG, MODES, PROTECTED, REAL, Guest, Load, Trapped, asm, asm16, asm32, asm64
from rig.layout import CODE, DATA, HOLE, SPARE

from minivmm import exits
from minivmm.kvm import constants as k
from minivmm.kvm import ioctls as io
from minivmm.kvm.calls import struct
from minivmm.soft.binding import COMPILED, lib
from minivmm.soft.clock import WALL_START, CountingClock, WallClock
from minivmm.soft.emulation.kinds import Kind
from minivmm.soft.engine import Stop
from minivmm.soft.vcpu import SoftVcpu

PORT = 0x123


def vcpu_of(guest: Guest) -> SoftVcpu:
    return guest.backend._handles[int(guest.cpu.fd)]


def now(guest: Guest) -> int:
    return vcpu_of(guest).vm.clock.now()


# ---- exact: time is the number of instructions ----


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("turns", [1, 2, 1000])
def test_a_loop_takes_as_long_as_it_has_instructions(start, mode, turns):
    guest = start(mode, asm("next: inc eax; dec ecx; jnz next; rdtsc; out dx, al; hlt"), counting=True, rcx=turns)
    guest.cpu.run()
    tsc = guest.regs.rdx << 32 | guest.regs.rax
    assert tsc == 3 * turns  # those before RDTSC
    assert now(guest) == 3 * turns + 1  # … and RDTSC; OUT is not done before userspace comes back
    guest.cpu.run()
    assert now(guest) == 3 * turns + 3


def test_rdtsc_in_the_middle_of_a_block_counts_what_was_before_it(start):
    guest = start(REAL, asm16("nop; rdtsc; mov ebx, eax; rdtsc; nop; mov esi, eax; rdtsc; hlt"), counting=True)
    guest.cpu.run()
    assert [guest.regs.rbx, guest.regs.rsi, guest.regs.rax] == [1, 3, 6]


def test_an_instruction_that_userspace_or_soft_carries_out_is_one_more(start):
    code = asm64(
        "xor ecx, ecx; mov eax, 1; cpuid; in al, dx; out dx, al; mov rax, cr0; mov cr0, rax; mov ecx, 0x10; rdmsr; hlt"
    )
    guest = start(LONG, code, counting=True)
    guest.trace()
    assert guest.regs.rax == 8
    assert now(guest) == 10


@pytest.mark.parametrize("mode", MODES)
def test_accesses_to_device_memory_count_once(start, mode):
    code = asm("next: mov eax, fs:[0]; mov fs:[4], eax; inc dword ptr fs:[8]; dec ecx; jnz next; hlt")
    guest = start(mode, code, counting=True, rcx=9)
    sregs = guest.cpu.sregs  # held by name: a part of a structure does not keep it alive
    fs = sregs.fs
    fs.base = HOLE
    guest.cpu.change(fs=fs)
    guest.trace()
    assert now(guest) == 9 * 5 + 1


def test_an_instruction_that_reads_device_memory_twice_counts_once(start):
    guest = start(PROTECTED, asm32("cmpsd; cmpsd; hlt"), counting=True, rsi=HOLE, rdi=HOLE + 0x1000)
    assert set(guest.trace((1, 1, 2, 2))) == {HLT, *(Load(HOLE + at, 4) for at in (0, 4, 0x1000, 0x1004))}
    assert now(guest) == 3


def test_a_string_instruction_counts_its_turns(start):
    guest = start(PROTECTED, asm32("rep stosb; hlt"), counting=True, rcx=5, rdi=DATA)
    guest.trace()
    assert now(guest) in (6, 7)  # HLT, and five, or six where the engine looks at ECX once more


def test_what_faults_does_not_count(start):
    guest = start(LONG, asm64("nop; nop; mov eax, [SPARE]; nop; hlt"), counting=True)
    guest.set_page(SPARE, 0)
    assert guest.trace() == [Trapped(14, 0)]
    assert now(guest) == 2 + 1  # … and the stub's OUT, which `trace` completes
    guest = start(PROTECTED, asm32("nop; ud2"), counting=True)
    assert guest.trace() == [Trapped(6)]
    assert now(guest) == 1 + 1


def test_a_system_call_counts(start):
    guest = start(LONG, asm64("syscall; hlt"), counting=True)
    guest.cpu.change(efer=guest.cpu.sregs.efer | 1)
    guest.cpu.set_msr(0xC000_0081, 0x18 << 32)
    guest.cpu.set_msr(0xC000_0082, 0x2000)
    guest.write(0x2000, b"\x90\xf4")
    guest.trace()
    assert now(guest) == 3


@pytest.mark.parametrize("mode", MODES)
def test_single_steps_take_as_long_as_a_run(start, mode):
    code = asm("next: inc dword ptr [DATA]; mov eax, [DATA]; dec ecx; jnz next; in al, dx; out dx, al; hlt")
    taken = []
    for control in (0, k.KVM_GUESTDBG_ENABLE | k.KVM_GUESTDBG_SINGLESTEP):
        guest = start(mode, code, counting=True, rcx=50)
        guest.cpu.ioctl(io.KVM_SET_GUEST_DEBUG, struct("kvm_guest_debug", control=control))
        while not isinstance(guest.cpu.run(), exits.Halted):
            pass
        taken.append((now(guest), guest.word(DATA)))
    assert taken == [(4 * 50 + 3, 50)] * 2


@pytest.mark.parametrize("mode", MODES)
def test_every_stop_by_budget_or_exit_finds_the_exact_count(start, mode):
    guest = start(mode, asm("next: inc dword ptr [DATA]; inc ecx; test cl, 7; jnz next; out dx, eax; jmp next"),
                  counting=True)  # fmt: skip
    engine, budgets, outs = vcpu_of(guest).engine, random.Random(3), 0
    places = {at: i for i, at in enumerate((0, 7 if guest.bits == 64 else 6 if guest.bits == 32 else 5))}
    engine.cpu.retired = 0
    for _ in range(500):
        reason = engine.run(budgets.choice((1, 2, 3, 5, 50)))
        regs = guest.regs
        ecx, step = regs.rcx, places.get(regs.rip - CODE)
        if reason == Stop.INSTRUCTION:
            assert engine.cpu.kind == Kind.OUT
            assert engine.cpu.retired == 4 * ecx + 2 * outs
            lib.soft_retire(engine.cpu, engine.cpu.length)
            outs += 1
        elif step == 0:
            assert engine.cpu.retired in (4 * ecx + 2 * outs, 4 * ecx)
    assert outs > 20


def test_code_that_is_changed_at_the_same_address_is_counted_anew(start):
    guest = start(REAL, asm16("inc ax; inc ax; hlt"), counting=True)
    guest.trace()
    assert now(guest) == 3
    guest.write(CODE, asm16("add ax, 7; hlt")[:-1].ljust(3, b"\x90"))
    guest.write(CODE + 3, b"\xf4")
    guest.cpu.jump()
    guest.trace()
    assert now(guest) == 5


def test_another_block_at_the_same_linear_address_has_its_own_count(start):
    """Two address spaces, in turns: one block has three instructions, the other four, both in as many bytes."""
    switch = asm64(
        "mov cr3, rbx; mov rax, SPARE; call rax; mov cr3, rsi; mov rax, SPARE; call rax; dec ecx; jnz CODE; hlt"
    )
    guest = start(LONG, switch, counting=True, rcx=10, rbx=0x10000, rsi=0x20000)
    for table, copy in ((0x10000, 0x20000), (0x11000, 0x21000), (0x12000, 0x22000), (0x13000, 0x23000)):
        guest.write(copy, guest.read(table, 0x1000))
    for table, below in ((0x20000, 0x21000), (0x21000, 0x22000), (0x22000, 0x23000)):
        guest.poke(table, below | 7)
    guest.poke(0x23000 + 8 * (SPARE >> 12), SPARE + 0x1000 | 7)
    guest.write(SPARE, b"\x66\x90\x90\xc3")
    guest.write(SPARE + 0x1000, b"\x90\x90\x90\xc3")
    guest.trace()
    assert now(guest) == 10 * (8 + 3 + 4) + 1


# ---- the same in every run ----

# The PIT interrupts every 215 µs; the main loop tells what it sees: the TSC, its count, and how many ticks there were.
PIT_GUEST = asm16(
    """mov al, 0x11; out 0x20, al; mov al, 8; out 0x21, al; mov al, 4; out 0x21, al; mov al, 1; out 0x21, al
    mov al, 0xFE; out 0x21, al; mov al, 0x34; out 0x43, al; mov al, 0; out 0x40, al; mov al, 1; out 0x40, al
    mov dx, 0x123; sti; next: inc ecx; test cx, 0xfff; jnz next; rdtsc; mov dx, 0x123; out dx, eax; jmp next"""
)
PIT_TICK = asm16(
    "push eax; push edx; inc dword ptr [DATA]; mov [DATA + 8], ecx; rdtsc; mov [DATA + 4], eax; mov al, 0x20; "
    "out 0x20, al; pop edx; pop eax; iret"
)
# The local APIC's timer, armed anew by each of its interrupts, a bit later each time.
LAPIC_GUEST = asm32(
    """mov dword ptr [0xFEE000F0], 0x1FF; mov dword ptr [0xFEE003E0], 0xB; mov dword ptr [0xFEE00320], 0x30
    mov dword ptr [0xFEE00380], 5000; sti
    next: inc ecx; test cx, 0xfff; jnz next; rdtsc; mov dx, 0x123; out dx, eax; jmp next"""
)
LAPIC_TICK = asm32(
    """push eax; push edx; inc dword ptr [DATA]; mov [DATA + 8], ecx; rdtsc; mov [DATA + 4], eax
    mov eax, [0xFEE00390]; add [DATA + 12], eax
    mov eax, [DATA]; add eax, 5000; mov [0xFEE00380], eax; mov dword ptr [0xFEE000B0], 0; pop edx; pop eax; iret"""
)
TELLS = 100 if COMPILED else 40  # some 12 300 instructions apart


def with_timers(start: Callable[..., Guest], which: str) -> Guest:
    if which == "pit":
        guest = start(REAL, PIT_GUEST, counting=True, irqchip=True)
        guest.ioctl(io.KVM_CREATE_PIT2, struct("kvm_pit_config"))
        guest.write(0x2000, PIT_TICK)
        guest.gate(8, 0x2000)
    else:
        guest = start(PROTECTED, LAPIC_GUEST, counting=True, irqchip=True)
        guest.write(0x2000, LAPIC_TICK)
        guest.gate(0x30, 0x2000)
    return guest


def trace_of(guest: Guest) -> list[tuple[int, ...]]:
    """All that can be seen at each exit; kicks on the way are left out."""
    seen: list[tuple[int, ...]] = []
    while len(seen) < TELLS:
        result = guest.cpu.enter()
        guest.cpu.page.immediate_exit = 0
        if result == -errno.EINTR:
            continue
        regs = guest.regs
        tell = exits.decode(guest.cpu.page)
        assert isinstance(tell, exits.PortOut)
        seen.append((int.from_bytes(tell.data, "little"), regs.rcx, regs.rflags, now(guest), *guest.read(DATA, 16)))
    return seen


@contextmanager
def alongside(work: Callable[[], object]) -> Iterator[None]:
    over = threading.Event()

    def again() -> None:
        while not over.is_set():
            work()

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# By counting in the sources above: up to the first RDTSC of the main loop, from one to the next, and of one tick.
LENGTHS = {"pit": (18 + 3 * 4096, 3 * 4096 + 4, 11), "lapic": (5 + 3 * 4096, 3 * 4096 + 4, 15)}


@pytest.mark.parametrize("which", ["pit", "lapic"])
def test_a_guest_with_a_timer_leaves_the_same_trace_in_every_run(start, which):
    first = trace_of(with_timers(start, which))
    setup, turn, tick = LENGTHS[which]
    ticks = [int.from_bytes(row[4:8], "little") for row in first]
    assert ticks[-1] >= 2
    assert [tsc for tsc, *_ in first] == [setup + n * turn + ticks[n] * tick for n in range(TELLS)]
    assert trace_of(with_timers(start, which)) == first
    with alongside(lambda: sum(range(1000))):
        assert trace_of(with_timers(start, which)) == first
    kicked = with_timers(start, which)
    kicks, pause = threading.Event(), random.Random(4)
    kicked.cpu.thread = threading.get_native_id()

    def kick() -> None:
        kicks.wait(pause.random() / 2000)
        kicked.cpu.kick()

    with alongside(kick):
        assert trace_of(kicked) == first


def test_a_timer_comes_at_its_instruction_and_not_a_slice_later(start):
    guest = start(PROTECTED, asm32(
        """mov dword ptr [0xFEE000F0], 0x1FF; mov dword ptr [0xFEE003E0], 0xB; mov dword ptr [0xFEE00320], 0x30
        sti; mov dword ptr [0xFEE00380], 700; next: inc ecx; jmp next"""), counting=True, irqchip=True)  # fmt: skip
    assert guest.trace() == [Trapped(0x30)]
    assert guest.regs.rcx in (349, 350, 351)


def test_hlt_skips_to_the_next_event(start, monkeypatch):
    """Nobody waits for anything: the clock is moved on."""
    guest = start(REAL, asm16(
        """mov al, 0x11; out 0x20, al; mov al, 8; out 0x21, al; mov al, 4; out 0x21, al; mov al, 1; out 0x21, al
        mov al, 0xFE; out 0x21, al; mov al, 0x34; out 0x43, al; mov al, 0; out 0x40, al; out 0x40, al
        sti; next: hlt; inc ecx; cmp ecx, 1000; jb next; mov dx, 0x123; out dx, al; hlt"""),
        counting=True, irqchip=True)  # fmt: skip
    guest.ioctl(io.KVM_CREATE_PIT2, struct("kvm_pit_config"))
    guest.write(0x2000, asm16("push ax; mov al, 0x20; out 0x20, al; pop ax; iret"))
    guest.gate(8, 0x2000)
    monkeypatch.setattr(vcpu_of(guest).parts.awake, "wait", lambda timeout=None: pytest.fail("it slept"))
    guest.cpu.run()
    tick = 65536 * 1_000_000_000 / 1_193_182
    assert guest.regs.rcx == 1000
    assert 1000 * tick <= now(guest) < 1000 * tick + 1000  # a minute of the guest's time


# ---- the two clocks, by themselves ----


class FakeEngine:
    def __init__(self) -> None:
        self.cpu: Any = type("cpu", (), {"retired": 0})()


def test_time_goes_on_where_another_engine_left_it():
    clock, first, second = CountingClock(), FakeEngine(), FakeEngine()
    clock.before_run(first)
    first.cpu.retired += 5
    clock.before_run(second)
    assert second.cpu.retired == 5
    second.cpu.retired += 2
    clock.after_run(first)  # it was not its turn any more
    clock.before_run(first)
    assert (first.cpu.retired, clock.now()) == (7, 7)
    clock.after_run(first)
    first.cpu.retired = 0  # closed
    assert clock.now() == 7
    assert clock.wall() == WALL_START + 7


def test_a_counting_clock_skips_forward_only():
    clock, engine = CountingClock(), FakeEngine()
    assert clock.skip_to(100)
    clock.before_run(engine)
    assert clock.skip_to(50)
    assert (clock.now(), engine.cpu.retired) == (100, 100)
    assert clock.skip_to(130)
    assert (clock.now(), engine.cpu.retired) == (130, 130)
    assert [clock.slice_to(due) for due in (130, 120, 150, None)][:3] == [1, 1, 20]


def test_the_wall_clock_follows_the_hosts_and_skips_nothing():
    clock = WallClock()
    before = clock.now()
    assert not clock.skip_to(1 << 60)
    assert before <= clock.now() < 1 << 60
    assert clock.wall() > WALL_START


def test_without_counting_rdtsc_is_the_hosts_time_since_the_vm_was_made(start):
    guest = start(REAL, asm16("rdtsc; out dx, al; jmp CODE"))
    seen = [now(guest)]
    for _ in range(3):
        guest.cpu.run()
        seen += [guest.regs.rdx << 32 | guest.regs.rax, now(guest)]
        guest.cpu.set(rdx=0)
    assert seen == sorted(seen)
