"""The engine stops exactly between two instructions, whatever stops it; and it runs what is in memory now."""

from __future__ import annotations

import errno
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rig import HLT, LONG, MODES, PAE, PAGED, PAGING32, PROTECTED, REAL, Guest, Load, Store, asm, asm16, asm32, asm64
from rig.layout import CODE, DATA, HOLE, PAE_PD, PAE_PDPT, PD, PD32, PDPT, PML4, SPARE
from unicorn import x86_const as x86

from minivmm import exits
from minivmm.soft.binding import ffi, lib
from minivmm.soft.emulation.kinds import Kind
from minivmm.soft.engine import Engine, Stop
from minivmm.soft.vcpu import SoftVcpu

PORT = 0x123
ROUNDS = 1700  # stops of each kind in each mode: 10 200 in all


def vcpu_of(guest: Guest) -> SoftVcpu:
    return guest.backend._handles[int(guest.cpu.fd)]


def engine_of(guest: Guest) -> Engine:
    return vcpu_of(guest).engine


# ---- no stop loses or repeats an instruction ----

LOOP = asm(
    """next: inc dword ptr [DATA]; inc ecx; test cl, 63; jnz next
    out dx, eax; in eax, dx; add esi, eax; mov fs:[4], ecx; add edi, fs:[4]; jmp next"""
)
# Where each of its ten instructions begins. The last six are reached in each 64th round only.
STEPS = {
    16: (0, 5, 7, 10, 12, 14, 16, 19, 25, 31), 32: (0, 6, 7, 10, 12, 13, 14, 16, 23, 30),
    64: (0, 7, 9, 12, 14, 15, 16, 18, 26, 34),
}  # fmt: skip


class Model:
    """What the loop must have done, by where it stands and how often it has been round."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.steps = {CODE + offset: i for i, offset in enumerate(STEPS[guest.bits])}
        self.outs = self.ins = self.stores = self.loads = 0

    def check(self) -> None:
        regs = self.guest.regs
        step, ecx = self.steps[regs.rip], regs.rcx & 0xFFFFFFFF
        assert self.guest.word(DATA) == (ecx + 1 if step == 1 else ecx)
        whole = ecx // 64  # rounds whose device part is done, all of it
        if ecx and ecx % 64 == 0 and step >= 2:
            whole -= 1
        inside = step if ecx and ecx % 64 == 0 and step >= 4 else 0  # … and how far the present one is
        assert (self.outs, self.ins) == (whole + (inside > 4), whole + (inside > 5))
        assert regs.rsi == 3 * (whole + (inside > 6))
        assert (self.stores, self.loads) == (whole + (inside > 7), whole + (inside > 8))
        assert regs.rdi == 5 * (whole + (inside > 8))

    def take(self, exit: exits.Exit) -> None:
        """Answers an exit, and counts it."""
        match exit:
            case exits.PortOut():
                self.outs += 1
            case exits.PortIn():
                exit.buffer[:4] = b"\3\0\0\0"
                self.ins += 1
            case exits.MmioWrite():
                assert int.from_bytes(exit.data, "little") == self.guest.regs.rcx
                self.stores += 1
            case exits.MmioRead():
                exit.buffer[:4] = b"\5\0\0\0"
                self.loads += 1
            case _:
                raise AssertionError(f"an unexpected exit: {exit}")


@contextmanager
def kicking(guest: Guest) -> Iterator[None]:
    """Another thread ends KVM_RUN again and again, at no particular moments."""
    over = threading.Event()

    def kick() -> None:
        pause = random.Random(1)
        while not over.wait(pause.random() / 4000):
            guest.cpu.kick()

    guest.cpu.thread = threading.get_native_id()
    thread = threading.Thread(target=kick)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("mode", MODES)
def test_no_kick_from_another_thread_loses_or_repeats_an_instruction(start, mode):
    guest = start(mode, LOOP, rdx=PORT)
    sregs = guest.cpu.sregs  # held by name: a part of a cffi structure doesn't keep the whole alive
    sregs.fs.base = HOLE
    guest.cpu.change(fs=sregs.fs)
    model, seen = Model(guest), set()
    with kicking(guest):
        while len(seen) < ROUNDS:
            if guest.cpu.enter() == -errno.EINTR:
                guest.cpu.page.immediate_exit = 0
                seen.add((guest.regs.rcx, guest.regs.rip))  # a kick that comes first of all stops nothing new
                model.check()
            else:
                model.take(exits.decode(guest.cpu.page))
    assert model.outs > 0


PLAIN_LOOP = asm("next: inc dword ptr [DATA]; inc ecx; test cl, 63; jnz next; out dx, eax; jmp next")


@pytest.mark.parametrize("mode", MODES)
def test_no_stop_by_budget_loses_or_repeats_an_instruction(start, mode):
    guest = start(mode, PLAIN_LOOP, rdx=PORT)
    engine, budgets, model, stops = engine_of(guest), random.Random(2), Model(guest), 0
    while stops < ROUNDS:
        reason = engine.run(budgets.choice((2, 3, 5, 8, 100, 1000)))
        regs = guest.regs
        ecx, step = regs.rcx & 0xFFFFFFFF, model.steps.get(regs.rip, 5)
        assert guest.word(DATA) == (ecx + 1 if step == 1 else ecx)
        if reason == Stop.INSTRUCTION:
            assert (step, engine.cpu.kind, ecx) == (4, Kind.OUT, 64 * (model.outs + 1))
            lib.soft_retire(engine.cpu, engine.cpu.length)
            model.outs += 1
        else:
            assert reason == Stop.BUDGET
            stops += 1
            before_out = ecx > 0 and ecx % 64 == 0 and step in (2, 3, 4)
            assert model.outs == ecx // 64 - before_out
    assert model.outs > 0


def test_a_kick_before_it_runs_stops_it_at_once(start):
    guest = start(PROTECTED, PLAIN_LOOP)
    engine = engine_of(guest)
    engine.cpu.kick = 1
    assert engine.run(1_000_000) == Stop.KICK
    assert (guest.regs.rip, guest.word(DATA)) == (CODE, 0)


def test_a_budget_is_about_what_it_says(start):
    guest = start(PROTECTED, PLAIN_LOOP)
    engine = engine_of(guest)
    for _ in range(20):
        before = guest.regs.rcx
        assert engine.run(50) in (Stop.BUDGET, Stop.INSTRUCTION)
        assert guest.regs.rcx - before <= 50
        engine.set(x86.UC_X86_REG_RCX, 1)
        engine.set(x86.UC_X86_REG_RIP, CODE)


# ---- it stops before each instruction of interest, with all before it done and nothing of it ----

INTERESTING: list[tuple[Kind, str, dict[int, bytes] | bytes]] = [
    (Kind.OUT, REAL, asm("inc eax; out 0x80, al; inc eax")),
    (Kind.IN, REAL, asm("inc eax; in al, dx; inc eax")),
    (Kind.OUTS, REAL, asm("inc eax; rep outsb; inc eax")),
    (Kind.INS, PROTECTED, asm("inc eax; rep insd; inc eax")),
    (Kind.HLT, LONG, asm("inc eax; hlt; inc eax")),
    (Kind.RDMSR, LONG, asm("inc eax; rdmsr; inc eax")),
    (Kind.WRMSR, PROTECTED, asm("inc eax; wrmsr; inc eax")),
    (Kind.CPUID, REAL, asm("inc eax; cpuid; inc eax")),
    (Kind.SYSCALL, LONG, asm64("inc eax; syscall; inc eax")),
    (Kind.SYSENTER, PROTECTED, asm32("inc eax; sysenter; inc eax")),
    (Kind.HYPERCALL, LONG, asm64("inc eax; vmcall; inc eax")),
    (Kind.HYPERCALL, PROTECTED, asm32("inc eax; vmmcall; inc eax")),
    (Kind.MOV_TO_CR, LONG, asm64("inc eax; mov cr0, rbx; inc eax")),
    (Kind.MOV_TO_CR, LONG, asm64("inc eax; mov cr8, rbx; inc eax")),
    (Kind.MOV_FROM_CR, REAL, asm16("inc eax; mov ebx, cr0; inc eax")),
    (Kind.MOV_TO_DR, LONG, asm64("inc eax; mov dr7, rbx; inc eax")),
    (Kind.MOV_FROM_DR, LONG, asm64("inc eax; mov rbx, dr6; inc eax")),
    (Kind.LMSW, REAL, asm16("inc eax; lmsw bx; inc eax")),
    (Kind.XSETBV, LONG, asm64("inc eax; xsetbv; inc eax")),
    (Kind.ABSENT, LONG, asm64("inc eax; mwait; inc eax")),
    (Kind.ICEBP, REAL, asm16("inc eax; .byte 0xf1; inc eax")),
    (Kind.LOAD_SEGMENT, PROTECTED, asm32("inc eax; mov es, ebx; inc eax")),
    (Kind.LOAD_SEGMENT, PROTECTED, asm32("inc eax; pop ds; inc eax")),
]


@pytest.mark.parametrize(("kind", "mode", "code"), INTERESTING, ids=lambda value: getattr(value, "name", None))
def test_it_stops_before_an_instruction_of_interest(start, kind, mode, code):
    guest = start(mode, code, rcx=3)
    engine, before = engine_of(guest), guest.regs
    assert engine.run(1000) == Stop.INSTRUCTION
    after = guest.regs
    length = {16: 2, 32: 1, 64: 2}[guest.bits]
    assert (engine.cpu.kind, after.rip, engine.cpu.pc) == (kind, CODE + length, CODE + length)
    assert after.rax == before.rax + 1
    assert (after.rbx, after.rcx, after.rdx, after.rsp) == (before.rbx, before.rcx, before.rdx, before.rsp)
    end = bytes(ffi.buffer(engine.cpu.insn, 15)).index((code if isinstance(code, bytes) else code[guest.bits])[:length])
    assert engine.cpu.length == end  # the second INC begins behind it


@pytest.mark.parametrize("mode", MODES)
def test_what_is_not_of_interest_does_not_stop_it(start, mode):
    plain = {
        REAL: asm16("mov eax, cr3; mov cr3, eax; pushf; popf; nop; hlt"),
        PROTECTED: asm32("mov eax, cr3; mov cr3, eax; pushf; popf; nop; hlt"),
        LONG: asm64("mov rax, cr3; mov cr3, rax; pushf; popf; nop; hlt"),
    }
    engine = engine_of(start(mode, plain[mode]))
    assert (engine.run(1000), engine.cpu.kind) == (Stop.INSTRUCTION, Kind.HLT)


def test_it_stops_before_iret_only_where_somebody_asked(start):
    code = asm16("pushf; push cs; push offset there; iret; there: hlt")
    for asked, kind in ((0, Kind.HLT), (1, Kind.IRET)):
        guest = start(REAL, code)
        engine = engine_of(guest)
        engine.cpu.watch_iret = asked
        assert (engine.run(1000), engine.cpu.kind) == (Stop.INSTRUCTION, kind)


def test_other_code_at_the_same_address_goes_on(start):
    """A hook stays where an OUT was; when something else lies there, it must not stop."""
    guest = start(REAL, asm16("out 0x80, al; hlt"))
    engine = engine_of(guest)
    assert (engine.run(100), engine.cpu.kind) == (Stop.INSTRUCTION, Kind.OUT)
    guest.write(CODE, asm16("mov bl, 7; hlt"))
    engine.memory_changed()
    assert (engine.run(100), engine.cpu.kind, guest.regs.rbx) == (Stop.INSTRUCTION, Kind.HLT, 7)


@pytest.mark.parametrize("mode", MODES)
def test_the_window_opens_at_the_first_block_with_interrupts_on(start, mode):
    guest = start(mode, asm("inc ebx; sti; inc ecx; jmp on; on: cli; inc edx; hlt"))
    engine = engine_of(guest)
    engine.cpu.watch_if = 1
    assert engine.run(1000) == Stop.WINDOW
    regs = guest.regs
    assert regs.rflags & 0x200
    assert (regs.rbx, regs.rdx) == (1, 0)


BRIEF_WINDOWS = {
    "sti": asm("next: sti; nop; inc ebx; cli; out dx, al; jmp next"),
    "popf": asm("next: push 0x202; popf; inc ebx; cli; out dx, al; jmp next"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", BRIEF_WINDOWS)
def test_a_brief_window_is_noticed_in_code_that_ran_before(start, mode, name):
    guest = start(mode, BRIEF_WINDOWS[name], rdx=PORT)
    engine = engine_of(guest)
    for _ in range(3):
        assert engine.run(1000) == Stop.INSTRUCTION
        lib.soft_retire(engine.cpu, engine.cpu.length)
    engine.cpu.watch_if = 1
    assert engine.run(1000) == Stop.WINDOW
    assert guest.regs.rflags & 0x200


def test_a_window_that_ends_in_a_fault_is_none(start):
    guest = start(LONG, asm64("popf; hlt"), rsp=SPARE)
    guest.set_page(SPARE, 0)
    engine = engine_of(guest)
    engine.cpu.watch_if = 1
    assert engine.run(1000) == Stop.PAGE_FAULT
    assert (guest.regs.rip, engine.cpu.fault_va) == (CODE, SPARE)


def test_a_breakpoint_stops_before_its_instruction_and_rf_lets_it_pass(start):
    guest = start(PROTECTED, asm32("inc ebx; inc ecx; hlt"))
    engine = engine_of(guest)
    engine.cpu.breakpoints[0], engine.cpu.breakpoint_count = CODE + 1, 1
    lib.soft_add_site(engine.cpu, CODE + 1)
    assert (engine.run(100), engine.cpu.kind) == (Stop.INSTRUCTION, Kind.BREAKPOINT)
    assert (guest.regs.rbx, guest.regs.rcx) == (1, 0)
    engine.set(x86.UC_X86_REG_RFLAGS, engine.get(x86.UC_X86_REG_RFLAGS) | 1 << 16)
    assert (engine.run(100), engine.cpu.kind) == (Stop.INSTRUCTION, Kind.HLT)
    assert guest.regs.rcx == 1


# ---- steps ----


@pytest.mark.parametrize("mode", MODES)
def test_a_step_is_one_instruction(start, mode):
    guest = start(mode, asm("inc ecx; mov eax, [DATA]; inc dword ptr [DATA]; inc edx; jmp on; ud2; on: hlt"))
    engine, places = engine_of(guest), []
    for _ in range(5):
        assert engine.step() == Stop.STEPPED
        places.append(guest.regs.rip)
    assert places == sorted(set(places))
    assert guest.read(places[-1], 1) == b"\xf4"
    assert (guest.regs.rcx, guest.word(DATA), guest.regs.rflags & 0x100) == (1, 1, 0)


def test_a_step_of_a_repeated_instruction_is_one_turn(start):
    guest = start(PROTECTED, asm32("rep stosb; hlt"), rcx=3, rdi=DATA, rax=0x41)
    engine = engine_of(guest)
    engine.step()
    assert (guest.regs.rcx, guest.regs.rdi, guest.read(DATA, 2)) == (2, DATA + 1, b"A\0")


def test_pushf_and_popf_under_a_step_show_the_guests_own_trap_flag(start):
    guest = start(PROTECTED, asm32("pushf; popf; pushf; or dword ptr [esp], 0x100; popf; nop"))
    engine = engine_of(guest)
    assert engine.step() == Stop.STEPPED
    assert guest.word(guest.regs.rsp) & 0x100 == 0
    for _ in range(4):
        assert engine.step() == Stop.STEPPED
    assert guest.regs.rflags & 0x100  # the guest set it itself


def test_a_zero_is_no_prefix(start):
    """Opcode 00 is ADD: what follows it may look like IRET or PUSHF, whose flags a step must mend."""
    guest = start(PROTECTED, asm32("add bh, cl; add [esp + 0x4000], bl; hlt"))
    guest.poke(guest.regs.rsp, 0x100, 4)
    engine = engine_of(guest)
    for _ in range(2):
        assert engine.step() == Stop.STEPPED
        assert (guest.regs.rflags & 0x100, guest.word(guest.regs.rsp)) == (0, 0x100)


def test_a_step_that_faults_leaves_things_as_they_were(start):
    guest = start(LONG, asm64("mov eax, [SPARE]; hlt"), rax=5)
    guest.set_page(SPARE, 0)
    engine = engine_of(guest)
    engine.flush_tlb()
    assert engine.step() == Stop.PAGE_FAULT
    assert (guest.regs.rip, guest.regs.rax, engine.cpu.fault_va, engine.cpu.fault_code) == (CODE, 5, SPARE, 0)
    assert guest.regs.rflags & 0x100 == 0


# ---- code and tables that change ----


@pytest.mark.parametrize("many", [False, True])
def test_code_that_the_host_changed_is_translated_anew(start, many):
    """A few pages are compared at once, of many each at its next fetch."""
    guest = start(REAL, asm16("mov ax, 1; hlt"))
    engine = engine_of(guest)
    if many:
        for page in range(0x1C000, 0x1C000 + 70 * 0x100, 0x1000):
            guest.write(page, b"\xc3")
        engine_run_pages(guest, engine, 70)
    for value in (1, 2, 3):
        guest.write(CODE + 1, bytes((value,)))
        engine.memory_changed()
        guest.cpu.set(rip=CODE)
        assert engine.run(100) == Stop.INSTRUCTION
        assert guest.regs.rax & 0xFFFF == value


def engine_run_pages(guest: Guest, engine: Engine, pages: int) -> None:
    """Runs a HLT in as many pages."""
    guest.slot(1, 0x100000, pages * 0x1000)
    memory = guest.slots[1]
    sregs = guest.cpu.sregs
    for page in range(pages):
        memory[page * 0x1000] = 0xF4
        sregs.cs.base = 0x100000 + page * 0x1000
        sregs.cs.selector = sregs.cs.base >> 4 & 0xFFFF
        guest.cpu.change(cs=sregs.cs)
        guest.cpu.set(rip=0)
        assert engine.run(100) == Stop.INSTRUCTION
    sregs.cs.base = sregs.cs.selector = 0
    guest.cpu.change(cs=sregs.cs)
    guest.cpu.set(rip=CODE)


def test_what_the_processor_wrote_over_code_is_translated_anew(start):
    guest = start(REAL, asm16("mov ax, 1; hlt"))
    engine = engine_of(guest)
    engine.run(100)
    vcpu_of(guest).parts.processor.write(CODE + 1, b"\2")
    guest.cpu.set(rip=CODE)
    engine.run(100)
    assert guest.regs.rax & 0xFFFF == 2


@pytest.mark.parametrize("mode", PAGED)
def test_a_page_that_was_unmapped_faults_after_a_flush(start, mode):
    code = asm64("mov eax, [SPARE]; mov rax, cr3; mov cr3, rax; mov eax, [SPARE]; hlt") if mode == LONG else asm32(
        "mov eax, [SPARE]; mov eax, cr3; mov cr3, eax; mov eax, [SPARE]; hlt")  # fmt: skip
    guest = start(mode, code)
    engine = engine_of(guest)
    assert engine.step() == Stop.STEPPED
    guest.set_page(SPARE, 0)
    assert engine.run(100) == Stop.PAGE_FAULT
    assert (engine.cpu.fault_va, engine.cpu.fault_code) == (SPARE, 0)


@pytest.mark.parametrize("mode", PAGED)
def test_accessed_and_dirty_bits_are_set_as_by_the_processor(start, mode):
    guest = start(mode, asm("mov eax, [SPARE]; mov [SPARE + 0x1000], eax; hlt")[32 if mode != LONG else 64])
    assert engine_of(guest).run(100) == Stop.INSTRUCTION
    bits = [guest.page(SPARE + page) & 0x60 for page in (0, 0x1000, 0x2000)]
    assert bits == [0x20, 0x60, 0]
    # Of the tables above, each entry on the way is accessed and nothing more; PAE's first level has no such bit.
    above = {PAGING32: (PD32,), PAE: (PAE_PD,), LONG: (PML4, PDPT, PD)}[mode]
    assert [guest.word(table) & 0x60 for table in above] == [0x20] * len(above)
    assert mode != PAE or guest.word(PAE_PDPT) & 0x60 == 0


def test_a_device_page_is_a_window_for_one_instruction_only(start):
    guest = start(PROTECTED, asm32("mov eax, [HOLE]; mov [HOLE + 4], eax; mov eax, [HOLE + 8]; hlt"))
    engine = engine_of(guest)
    assert engine.run(100) == Stop.DEVICE
    assert (engine.cpu.fault_gpa, engine.cpu.fault_va, guest.regs.rip) == (HOLE, HOLE, CODE)
    assert guest.trace((7, 8)) == [Load(HOLE, 4), Store(HOLE + 4, 4, 7), Load(HOLE + 8, 4), HLT]
    assert guest.regs.rax == 8


def test_a_closed_engine_may_be_closed_again(start):
    engine = engine_of(start(REAL, b"\xf4"))
    engine.close()
    engine.close()
