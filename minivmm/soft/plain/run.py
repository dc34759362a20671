"""What the rest of minivmm/soft calls (native/run.c).

C stops at a basic block, by a hook. Called in Python, such a hook costs about 2 µs a block; so here the engine counts
instructions itself and comes back after each SLICE of them. It calls out before every instruction for that, and stays
exact. Only where the clock counts instructions is there the hook, for nothing else says how many were retired.
"""

from __future__ import annotations

from typing import Any

from minivmm.soft.plain.code_pages import flush_tlb, refresh_code
from minivmm.soft.plain.constants import (
    BUDGET,
    DESC_DB,
    ENGINE,
    FETCH_DEVICE,
    FOUND,
    HALTED,
    HF_CODE32,
    HF_CODE64,
    HF_SHADOW,
    IF,
    KICK,
    MASK64,
    PAGE,
    PAGE_FAULT,
    PREFIXES,
    RF,
    STALE,
    STEPPED,
    TF,
    WINDOW,
    WRITE,
    page_of,
)
from minivmm.soft.plain.cpu import Cpu
from minivmm.soft.plain.instructions import LONGEST, hook_found, linear_pc, unreached
from minivmm.soft.plain.memory import host_at, mark_dirty, slot_at
from minivmm.soft.plain.paging import fetch, walk

SLICE = 20_000  # instructions: some 150 µs
STEP_SLICE = 8  # of one step: more than it takes, for a step ends by its trap
_POPF, _PUSHF, _IRET = 0x9D, 0x9C, 0xCF


def _give_back(cpu: Cpu) -> None:
    """Counting: what of the present block was not reached does not count. Brings env up to date."""
    insns = unreached(cpu)
    cpu.c.retired -= insns
    cpu.c.budget += insns
    cpu.block_end = 0


def soft_enter(cpu: Cpu, budget: int) -> int:
    """Runs until something needs the rest of us: reason says what, env how things stand. Budget in instructions."""
    c = cpu.c
    c.budget = budget
    while True:
        c.reason = -1 if c.stepping or cpu.counting else _wanted_stop(cpu)
        if c.reason >= 0:
            break
        _start(cpu)
        if c.reason == FOUND:
            hook_found(cpu)
        elif c.reason == STALE:
            refresh_code(cpu, page_of(c.fault_gpa))
        elif cpu.passes_window:
            cpu.passes_window = False
            if not _step_to_window(cpu):
                break
        elif c.reason >= 0 or c.error or c.stepping or cpu.counting:
            break
    if c.reason < 0:
        c.reason = ENGINE if c.error else HALTED
    if PAGE_FAULT <= c.reason <= FETCH_DEVICE:
        c.fault_va = c.engine_fault[0]
        if c.fault_gpa:
            c.fault_gpa = page_of(c.fault_gpa) | c.fault_va & (PAGE - 1)
    if cpu.counting:
        _give_back(cpu)
    else:
        cpu.look()
    return int(c.reason)


def _wanted_stop(cpu: Cpu) -> int:
    c = cpu.c
    if c.kick:
        return KICK
    if c.budget <= 0:
        return BUDGET
    return WINDOW if c.watch_if and cpu.flags & IF else -1


def _start(cpu: Cpu) -> None:
    """One slice."""
    c = cpu.c
    count = 0 if cpu.counting else STEP_SLICE if c.stepping else min(SLICE, c.budget)
    c.error = cpu.calls.uc_emu_start(cpu.uc, cpu.reg(cpu.library.reg_rip), 0, 0, count)
    if c.reason < 0 and not c.error:
        c.budget -= count
    if cpu.trouble is not None:
        trouble, cpu.trouble = cpu.trouble, None
        raise trouble


def _step_to_window(cpu: Cpu) -> bool:
    """Before an instruction that may set IF, while somebody waits for that: one step, after which soft_enter looks.
    False where the step ended otherwise, and so does soft_enter."""
    c, left = cpu.c, cpu.c.budget
    reason = soft_step(cpu)
    c.budget = left
    return reason == STEPPED


def _opcode(cpu: Cpu) -> int:
    """The opcode at CS:RIP behind its prefixes, if it is of one byte; else 0."""
    pc = linear_pc(cpu)
    long_code = cpu.env.hflags & HF_CODE64
    for byte in fetch(cpu, pc, cpu.user_mode(), LONGEST):
        if byte not in PREFIXES and not (long_code and byte & 0xF0 == 0x40):
            return byte
    return 0


def _hide_trap_flag(cpu: Cpu) -> None:
    """PUSHF pushed our trap flag: takes it out again."""
    env = cpu.look()
    if env.hflags & HF_CODE64:
        top = env.rsp
    elif env.ss.flags & DESC_DB:
        top = env.ss.base + env.rsp & 0xFFFF_FFFF
    else:
        top = env.ss.base + (env.rsp & 0xFFFF)
    failed, gpa, _ = walk(cpu, top + 1, WRITE, cpu.user_mode())
    host: Any = None if failed else host_at(cpu, gpa)
    if host is not None:
        host[0] &= ~(TF >> 8) & 0xFF


def soft_step(cpu: Cpu) -> int:
    """Executes one instruction, by the trap flag, as a debugger does. The guest's own TF comes back as it was, or as
    the instruction set it."""
    c, rflags = cpu.c, cpu.library.reg_rflags
    flags, code = cpu.flags, _opcode(cpu)
    c.stepping = 1
    cpu.set_reg(rflags, flags | TF)
    try:
        soft_enter(cpu, 1 << 20)
    finally:
        c.stepping = 0
    if code not in (_POPF, _IRET) or c.reason != STEPPED:
        cpu.set_reg(rflags, cpu.flags & ~TF | flags & TF)
    if code == _PUSHF and c.reason == STEPPED and not flags & TF:
        _hide_trap_flag(cpu)
    if cpu.found:
        hook_found(cpu)
    cpu.look()
    return int(c.reason)


def soft_translate(cpu: Cpu, va: int, access: int, user: int, into: Any) -> int:
    """The GPA of a linear address, as the processor itself (user = 0) or user code would find it: 0, or why not."""
    failed, gpa, _ = walk(cpu, va, access, bool(user))
    if failed:
        return failed
    into[0] = gpa
    slot = slot_at(cpu, gpa) if access == WRITE else None
    if slot is not None:
        mark_dirty(slot, gpa)
    return 0


def soft_retire(cpu: Cpu, length: int) -> int:
    """Goes on behind an instruction of `length` bytes that somebody emulated. Returns RFLAGS.TF: a trap is due."""
    env = cpu.look()
    hflags = env.hflags
    env.rip = env.rip + length & (MASK64 if hflags & HF_CODE64 else 0xFFFF_FFFF if hflags & HF_CODE32 else 0xFFFF)
    env.hflags = hflags & ~(HF_SHADOW | RF)
    env.rflags &= ~RF
    cpu.c.retired += 1
    cpu.put()
    return int(bool(env.rflags & TF))


def soft_get_regs(cpu: Cpu, regs: Any) -> None:
    """The registers in the order of struct kvm_regs: 16 general ones, RIP, RFLAGS."""
    library = cpu.library
    for i in range(16):
        regs[i] = cpu.reg(library.reg_gprs[i])
    regs[16], regs[17] = cpu.reg(library.reg_rip), cpu.flags


def soft_set_regs(cpu: Cpu, regs: Any) -> None:
    library = cpu.library
    for i in range(16):
        cpu.set_reg(library.reg_gprs[i], regs[i])
    cpu.set_reg(library.reg_rflags, regs[17])
    cpu.set_reg(library.reg_rip, regs[16])


def soft_flush_tlb(cpu: Cpu) -> None:
    flush_tlb(cpu)
