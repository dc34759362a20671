"""Several vCPUs in threads of their own, and what other threads do to them meanwhile."""

from __future__ import annotations

import errno
import mmap
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from rig import PROTECTED, REAL, Guest, Out, asm16, asm32
from rig.cpu import Cpu
from rig.layout import CODE, DATA, HOLE, SECOND, SPARE

from minivmm import exits
from minivmm.kvm import constants as k
from minivmm.kvm import ioctls as io
from minivmm.kvm.calls import address_of, struct
from minivmm.soft import clock
from minivmm.soft.binding import COMPILED
from minivmm.soft.run import loop, stops
from minivmm.soft.turn import Turn

PATIENCE = 60
TURNS = 20_000 if COMPILED else 3_000


class Runner(threading.Thread):
    """Runs a vCPU until its next exit, or until KVM_RUN fails: `end` is the exit, the errno, or what was raised."""

    def __init__(self, cpu: Cpu) -> None:
        super().__init__(daemon=True)
        self.cpu, self.end = cpu, None
        self.start()

    def run(self) -> None:
        self.cpu.thread = threading.get_native_id()
        try:
            while (result := self.cpu.enter()) == -errno.EAGAIN:
                pass
            self.end: Any = -result if result else exits.decode(self.cpu.page)
        except BaseException as error:
            self.end = error

    def ended(self) -> Any:
        self.join(PATIENCE)
        assert not self.is_alive(), "the vCPU runs on"
        if isinstance(self.end, BaseException):
            raise self.end
        return self.end


@pytest.fixture
def many_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vCPUs change after a few blocks already, in the middle of whatever they do."""
    for module in (clock, loop):
        monkeypatch.setattr(module, "SLICE", 40)
    monkeypatch.setattr(clock, "LONG_SLICE", 40)


# ---- nothing is lost between them ----

WORK_16 = asm16(
    """mov ecx, [DATA + 16]; a: mov eax, 1; lock xadd [DATA], eax; dec ecx; jnz a
    mov ecx, [DATA + 16]
    b: mov eax, 1; xchg [DATA + 8], eax; test eax, eax; jnz b
    mov ebx, [DATA + 4]; inc ebx; jmp c; c: mov [DATA + 4], ebx; mov dword ptr [DATA + 8], 0; dec ecx; jnz b
    mov dx, 0x123; out dx, al; hlt"""
)
# The bootstrap processor sends INIT and SIPI (vector 2: SECOND) to all others, and does the same work.
BOOT_32 = asm32(
    """mov dword ptr [0xFEE000F0], 0x1FF; mov dword ptr [0xFEE00300], 0xC4500; mov dword ptr [0xFEE00300], 0xC4602
    mov ecx, [DATA + 16]; a: mov eax, 1; lock xadd [DATA], eax; dec ecx; jnz a
    mov ecx, [DATA + 16]
    b: mov eax, 1; xchg [DATA + 8], eax; test eax, eax; jnz b
    mov ebx, [DATA + 4]; inc ebx; jmp c; c: mov [DATA + 4], ebx; mov dword ptr [DATA + 8], 0; dec ecx; jnz b
    mov dx, 0x123; out dx, al; hlt"""
)


def with_cpus(start: Callable[..., Guest], count: int, boot: bytes = BOOT_32, second: bytes = WORK_16) -> Guest:
    guest = start(PROTECTED, boot, irqchip=True)
    guest.write(SECOND, second)
    for _ in range(count - 1):
        guest.add_cpu()
    return guest


@pytest.mark.usefixtures("many_turns")
@pytest.mark.parametrize("count", [2, 4])
def test_no_increment_is_lost_with_lock_or_spinlock(start, count):
    guest = with_cpus(start, count)
    guest.poke(DATA + 16, TURNS // count, 4)
    runners = [Runner(cpu) for cpu in guest.cpus]
    assert all(isinstance(runner.ended(), exits.PortOut) for runner in runners)
    assert (guest.word(DATA), guest.word(DATA + 4), guest.word(DATA + 8)) == (TURNS // count * count,) * 2 + (0,)


def test_a_vcpu_that_waits_for_its_start_says_that_it_came(start):
    guest = with_cpus(start, 2, second=asm16("out 0x99, al"))
    second = guest.cpus[1]
    results: list[int] = []

    def run() -> None:
        results.extend((second.enter(), second.enter()))

    waiting = threading.Thread(target=run)
    waiting.start()
    guest.poke(DATA + 16, 1, 4)
    Runner(guest.cpu).ended()
    waiting.join(PATIENCE)
    assert results[0] == -errno.EAGAIN
    assert exits.decode(second.page).port == 0x99


def test_the_turn_is_handed_over_in_order():
    turn, order = Turn(), []
    turn.acquire()

    def take(number: int) -> None:
        with turn:
            order.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(5)]
    for number, thread in enumerate(threads):
        thread.start()
        while len(turn._queue) <= number:  # it has asked
            time.sleep(0.001)
    assert turn.is_wanted
    assert (turn.offer() or 0) > 0
    assert order == [0, 1, 2, 3, 4]
    assert not turn.is_wanted
    assert turn.offer() is None
    turn.release()
    assert turn.acquire() == 0
    turn.release()


def test_who_asks_for_registers_all_the_time_does_not_stop_the_guest(start):
    guest = start(REAL, asm16("again: inc dword ptr [DATA]; cmp dword ptr [DATA + 4], 0; je again; out 0x99, al"))
    runner = Runner(guest.cpu)
    wait_until(lambda: guest.word(DATA) > 0)
    for _ in range(20):
        before = guest.word(DATA)
        for _ in range(1000):
            guest.cpu.ioctl(io.KVM_GET_REGS, struct("kvm_regs"))
            if guest.word(DATA) != before:
                break
        assert guest.word(DATA) != before
    guest.poke(DATA + 4, 1, 4)
    assert runner.ended().port == 0x99


# ---- code that others change is seen ----

# Each runs a routine at SPARE over and over, and tells what it returned until that is 2. The second starts at SECOND,
# and its CS too.
CALLER = asm16(
    "mov sp, 0x8000; again: mov bx, SPARE; call bx; mov [DATA + 4], eax; cmp eax, 2; jne again; out 0x99, al"
)
CALLER_AT_SECOND = asm16(
    """mov sp, 0x8000; again: mov bx, SPARE - SECOND; call bx; mov [DATA + 4], eax; cmp eax, 2; jne again
    out 0x99, al"""
)


def test_code_patched_by_another_vcpu_is_seen(start, monkeypatch):
    monkeypatch.setattr(stops, "LONG_SLICE", 1 << 60)  # it is seen at the next turn, not by a look now and then
    patch = asm32(
        """mov dword ptr [0xFEE000F0], 0x1FF; mov dword ptr [0xFEE00300], 0xC4500; mov dword ptr [0xFEE00300], 0xC4602
        wait: cmp dword ptr [DATA + 4], 1; jne wait; mov byte ptr [SPARE + 2], 2; mov dx, 0x123; out dx, al; hlt"""
    )
    guest = with_cpus(start, 2, patch, CALLER_AT_SECOND)
    guest.write(SPARE, asm16("mov eax, 1; ret"))
    runners = [Runner(cpu) for cpu in guest.cpus]
    assert [runner.ended().port for runner in runners] == [0x123, 0x99]


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(PATIENCE * 1000):
        if condition():
            return
        time.sleep(0.001)
    raise AssertionError("it never came")


def test_code_patched_by_the_host_is_seen_without_an_exit(start):
    guest = start(REAL, CALLER)
    guest.write(SPARE, asm16("mov eax, 1; ret"))
    runner = Runner(guest.cpu)
    wait_until(lambda: guest.word(DATA + 4) == 1)
    guest.write(SPARE + 2, b"\2")
    assert runner.ended().port == 0x99


# ---- what other threads do to a vCPU that runs ----

SPIN = asm32("next: inc ecx; jmp next")


def test_kvm_run_is_kicked_from_other_threads(start):
    guest = start(PROTECTED, SPIN)
    before = 0
    for _ in range(50):
        guest.cpu.page.immediate_exit = 0
        runner = Runner(guest.cpu)
        while runner.is_alive():  # a kick before KVM_RUN is none: immediate_exit is there for that
            guest.cpu.kick()
            runner.join(0.001)
        assert runner.ended() == errno.EINTR
        assert guest.regs.rcx >= before
        before = guest.regs.rcx


def test_a_guest_in_small_segments_is_kicked_too(start):
    """There, limits are checked at each instruction: it is stepped all the way."""
    guest = start(PROTECTED, asm32("mov eax, 0x60; mov ds, eax; next: inc dword ptr [0]; jmp next"))
    runner = Runner(guest.cpu)
    wait_until(lambda: guest.word(DATA) > 10)
    for _ in range(PATIENCE * 100):
        guest.cpu.kick()
        runner.join(0.01)
        if not runner.is_alive():
            break
    assert runner.ended() == errno.EINTR


@pytest.mark.parametrize("halted", [False, True])
def test_a_vcpu_that_sleeps_is_kicked(start, halted):
    """In HLT with an interrupt controller in the kernel, and before its start."""
    guest = with_cpus(start, 2, asm32("sti; next: hlt; jmp next"))
    cpu = guest.cpus[0 if halted else 1]
    runner = Runner(cpu)
    wait_until(lambda: cpu.thread == runner.native_id)
    for _ in range(PATIENCE * 100):
        cpu.kick()
        runner.join(0.01)
        if not runner.is_alive():
            break
    assert runner.ended() == errno.EINTR


def test_a_kick_while_it_wakes_from_hlt_is_not_lost(start):
    """The interrupt that wakes it, and the kick, come at once; behind HLT it would spin for ever."""
    guest = start(PROTECTED, asm32("mov dword ptr [0xFEE000F0], 0x1FF; next: sti; hlt; spin: jmp spin"), irqchip=True)
    vcpu = guest.backend._handles[int(guest.cpu.fd)]
    wait = vcpu.parts.awake.wait

    def wait_and_be_kicked(timeout: float | None = None) -> bool:
        woken = wait(timeout)
        guest.cpu.page.immediate_exit = 1
        vcpu.parts.kick()
        return woken

    vcpu.parts.awake.wait = wait_and_be_kicked
    guest.write(0x2000, asm32("iret"))
    guest.gate(0x55, 0x2000)
    runner = Runner(guest.cpu)
    wait_until(lambda: vcpu.parts.mp_state == k.KVM_MP_STATE_HALTED)
    guest.ioctl(io.KVM_SIGNAL_MSI, _msi(0x55))
    assert runner.ended() == errno.EINTR


def _msi(vector: int) -> Any:
    return struct("kvm_msi", address_lo=0xFEE00000, data=vector)


def test_slots_come_and_go_while_a_vcpu_runs(start):
    guest = start(
        PROTECTED, asm32("next: mov eax, [HOLE]; inc dword ptr [DATA]; cmp eax, 0x77; jne next; out 0x99, al")
    )
    guest.slot(1, HOLE, 0x1000)
    runner = Runner(guest.cpu)
    for number in range(2, 30):
        guest.slot(number, 0x100000 * number, 0x1000)
        seen = guest.word(DATA)
        wait_until(lambda seen=seen: guest.word(DATA) != seen)
    guest.slots[1][0] = 0x77
    assert runner.ended().port == 0x99
    replaced = mmap.mmap(-1, 0x1000)
    replaced[0] = 0x55
    guest.cpu.jump()
    guest.region(1, HOLE, 0, 0)
    guest.region(1, HOLE, 0x1000, address_of(replaced))
    runner = Runner(guest.cpu)
    seen = guest.word(DATA)
    wait_until(lambda: guest.word(DATA) != seen)
    replaced[0] = 0x77
    assert runner.ended().port == 0x99


def test_a_slot_that_is_taken_away_is_device_memory_at_once(start):
    guest = start(PROTECTED, asm32("next: mov eax, [HOLE]; inc dword ptr [DATA]; jmp next"))
    guest.slot(1, HOLE, 0x1000)
    runner = Runner(guest.cpu)
    wait_until(lambda: guest.word(DATA) > 100)
    guest.region(1, HOLE, 0, 0)
    assert runner.ended().address == HOLE


# ---- the end ----


@pytest.mark.parametrize("what", ["vm", "vcpu"])
def test_closing_while_threads_run_ends_them(start, what):
    """One spins, one sleeps in HLT or waits for its start; all come back with an error, and nothing crashes."""
    guest = with_cpus(start, 3, SPIN)
    guest.place(guest.cpus[1])
    guest.backend._handles[int(guest.cpus[1].fd)].parts.mp_state = k.KVM_MP_STATE_RUNNABLE
    runners = [Runner(cpu) for cpu in guest.cpus]
    wait_until(lambda: all(cpu.thread == runner.native_id for cpu, runner in zip(guest.cpus, runners, strict=True)))
    time.sleep(0.02)
    if what == "vm":
        guest.backend.close(int(guest.fd))
    else:
        for cpu in guest.cpus:
            guest.backend.close(int(cpu.fd))
    assert {runner.ended() for runner in runners} <= {errno.EINTR, errno.EBADF}
    for cpu in guest.cpus:
        assert cpu.enter() == -errno.EBADF
        assert guest.backend.ioctl(cpu.fd, io.KVM_NMI) == -errno.EBADF


def test_handles_may_be_closed_in_any_order(start):
    guest = with_cpus(start, 2)
    guest.fd.close()
    for cpu in guest.cpus:
        cpu.fd.close()
        cpu.fd.close()


def test_a_guest_that_waits_lets_another_vm_run(start):
    """Each VM has its own turn: two of them in two threads don't wait for each other."""
    spinning, other = start(PROTECTED, SPIN), start(PROTECTED, asm32("mov dx, 0x123; mov al, 5; out dx, al; hlt"))
    runner = Runner(spinning.cpu)
    assert other.trace()[0] == Out(0x123, 1, 5)
    assert runner.is_alive()
    while runner.is_alive():
        spinning.cpu.kick()
        runner.join(0.01)
    assert spinning.regs.rip in range(CODE, CODE + len(SPIN))
