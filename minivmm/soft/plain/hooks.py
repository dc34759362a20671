"""What the engine calls while it runs (native/hooks.c)."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from minivmm.soft.plain import device_window
from minivmm.soft.plain.code_pages import code_is_current, code_is_known
from minivmm.soft.plain.constants import (
    ANSWER,
    ASK,
    BUDGET,
    DEVICE,
    EXCEPTION,
    FETCH,
    FETCH_DEVICE,
    FOUND,
    HOOK_BLOCK,
    HOOK_EDGE,
    HOOK_INSN,
    HOOK_INTR,
    HOOK_INVALID,
    HOOK_READ_UNMAPPED,
    HOOK_TLB_FILL,
    HOOK_WRITE_UNMAPPED,
    IF,
    KICK,
    PAGE,
    PAGE_FAULT,
    PROT_R,
    PROT_W,
    PROT_X,
    READ,
    STALE,
    STEPPED,
    UC_MEM_FETCH,
    UC_MEM_WRITE,
    UNDEFINED,
    WINDOW,
    WRITE,
    page_of,
)
from minivmm.soft.plain.cpu import Cpu, ffi
from minivmm.soft.plain.instructions import on_site, scan, unreached
from minivmm.soft.plain.memory import is_dirty, mark_dirty, slot_at
from minivmm.soft.plain.paging import walk
from minivmm.soft.plain.system_access import system_access


def _wants_stop(cpu: Cpu) -> bool:
    c = cpu.c
    if c.stepping:
        return False
    if c.kick:
        cpu.stop(KICK)
    elif c.budget <= 0:
        cpu.stop(BUDGET)
    elif c.watch_if and cpu.flags & IF:
        cpu.stop(WINDOW)
    else:
        return False
    return True


def on_counted_block(cpu: Cpu, pc: int, size: int) -> None:
    """A basic block begins, where the clock counts instructions. (Elsewhere there is no such hook: run.py.)"""
    cpu.block_end = 0  # the block before is done, all of it
    if _wants_stop(cpu):
        return
    c, block = cpu.c, (pc, size, cpu.reg(cpu.library.reg_cr3))
    insns = cpu.blocks.get(block)
    if insns is None:
        insns = cpu.blocks[block] = scan(cpu, pc, size)
    if c.stepping:
        insns = 1
    c.retired += insns
    c.budget -= insns
    cpu.block_start, cpu.block_end = pc, pc + size


def on_translation(cpu: Cpu, now: Any) -> None:
    """A new translation, before it first runs."""
    insns = scan(cpu, now.pc, now.size)
    if cpu.counting:
        cpu.blocks[now.pc, now.size, cpu.reg(cpu.library.reg_cr3)] = insns
    if cpu.found and not cpu.c.stepping:
        cpu.stop(FOUND)


def on_tlb_miss(cpu: Cpu, va: int, kind: int, entry: Any) -> int:
    c = cpu.c
    access = WRITE if kind == UC_MEM_WRITE else FETCH if kind == UC_MEM_FETCH else READ
    if c.physical:
        entry.paddr, entry.perms = va, PROT_R | PROT_W | PROT_X
        return 1
    if c.window in (ASK, ANSWER) and access != FETCH:
        for i in range(c.window_count):
            if va == c.window_vas[i]:
                window = device_window.ASK_GPA if c.window == ASK else device_window.ANSWER_GPA
                entry.paddr, entry.perms = window + i * PAGE, PROT_R | PROT_W
                return 1
    user = cpu.user_mode()
    failed, gpa, perms = walk(cpu, va, access, user)
    # The processor reads descriptor tables with its own rights, also for user code; which access this was, the engine
    # does not say.
    if failed == PAGE_FAULT and user and access != FETCH and system_access(cpu, va):
        failed, gpa, perms = walk(cpu, va, access, False)
    c.fault_access = access
    if failed:
        c.reason = failed
        return 0
    slot = slot_at(cpu, gpa)
    if slot is None or (access == WRITE and slot.read_only):
        c.reason = FETCH_DEVICE if access == FETCH else DEVICE
        c.fault_gpa = gpa
        return 0
    if access == WRITE:
        mark_dirty(slot, gpa)
    if slot.read_only or not is_dirty(slot, gpa):  # the first write must come here, to be logged
        perms &= ~PROT_W
    if access == FETCH:
        if not code_is_current(cpu, page_of(gpa)):
            c.reason = STALE
            c.fault_gpa = gpa
            return 0
    elif not code_is_known(cpu, page_of(gpa)):
        perms &= ~PROT_X  # the first fetch must come here, to be compared
    entry.paddr, entry.perms = page_of(gpa), perms
    return 1


def on_exception(cpu: Cpu, vector: int) -> None:
    """An exception, or INT n: the engine delivers none of them."""
    if cpu.c.stepping and vector == 1:
        cpu.stop(STEPPED)
        return
    cpu.c.vector = vector
    cpu.stop(EXCEPTION)


def on_invalid(cpu: Cpu) -> int:
    cpu.stop(UNDEFINED)
    return 1


def on_rdtsc(cpu: Cpu, *, with_aux: bool) -> int:
    """RDTSC and RDTSCP, at the rate of 1 GHz; the engine has looked at CR4.TSD before."""
    c, library = cpu.c, cpu.library
    now = c.retired - unreached(cpu) if cpu.counting else time.monotonic_ns()
    tsc = now + c.tsc_offset
    cpu.set_reg(library.reg_rax, tsc & 0xFFFFFFFF)
    cpu.set_reg(library.reg_rdx, tsc >> 32 & 0xFFFFFFFF)
    if with_aux:
        cpu.set_reg(library.reg_rcx, c.tsc_aux & 0xFFFFFFFF)
    return 1


# ---- how the engine gets to know of them ----


def soft_add_hooks(cpu: Cpu) -> int:
    """0, or what uc_hook_add says. The signatures are those of unicorn.h."""

    def callback(signature: str, hook: Callable[..., Any]) -> Any:
        return _callback(cpu, signature, hook)

    def add(kind: int, hook: Any, *more: Any, begin: int = 1, end: int = 0) -> int:
        begin, end = ffi.cast("uint64_t", begin), ffi.cast("uint64_t", end)
        return int(cpu.calls.uc_hook_add(cpu.uc, ffi.new("size_t *"), kind, hook, cpu.c, begin, end, *more))

    cpu.on_site = callback("void(void *, uint64_t, uint32_t, void *)", lambda uc, pc, size, user: on_site(cpu, pc))
    block = callback(
        "void(void *, uint64_t, uint32_t, void *)", lambda uc, pc, size, user: on_counted_block(cpu, pc, size)
    )
    translation = callback(
        "void(void *, struct block *, struct block *, void *)", lambda uc, now, before, user: on_translation(cpu, now)
    )
    tlb_miss = callback(
        "uint8_t(void *, uint64_t, int, struct tlb_entry *, void *)",
        lambda uc, va, kind, entry, user: on_tlb_miss(cpu, va, kind, entry),
    )
    exception = callback("void(void *, uint32_t, void *)", lambda uc, vector, user: on_exception(cpu, vector))
    invalid = callback("uint8_t(void *, void *)", lambda uc, user: on_invalid(cpu))
    ask = callback(
        "uint8_t(void *, int, uint64_t, int, int64_t, void *)",
        lambda uc, kind, gpa, size, value, user: device_window.on_ask(cpu, kind, gpa, size, value),
    )
    rdtsc = callback("int(void *, void *)", lambda uc, user: on_rdtsc(cpu, with_aux=False))
    rdtscp = callback("int(void *, void *)", lambda uc, user: on_rdtsc(cpu, with_aux=True))
    window_read = callback(
        "uint64_t(void *, uint64_t, unsigned, void *)",
        lambda uc, offset, size, user: device_window.on_window_read(cpu, offset, size),
    )
    window_write = callback(
        "void(void *, uint64_t, unsigned, uint64_t, void *)",
        lambda uc, offset, size, value, user: device_window.on_window_write(cpu, offset, size, value),
    )
    rdtsc_number, rdtscp_number = (
        ffi.cast("int", number) for number in (cpu.library.insn_rdtsc, cpu.library.insn_rdtscp)
    )
    return (
        (add(HOOK_BLOCK, block) if cpu.counting else 0)
        or add(HOOK_EDGE, translation)
        or add(HOOK_TLB_FILL, tlb_miss)
        or add(HOOK_INTR, exception)
        or add(HOOK_INVALID, invalid)
        or add(
            HOOK_READ_UNMAPPED | HOOK_WRITE_UNMAPPED,
            ask,
            begin=device_window.ASK_GPA,
            end=device_window.ASK_GPA + device_window.SIZE - 1,
        )
        or add(HOOK_INSN, rdtsc, rdtsc_number)
        or add(HOOK_INSN, rdtscp, rdtscp_number)
        or int(
            cpu.calls.uc_mmio_map(
                cpu.uc, device_window.ANSWER_GPA, device_window.SIZE, window_read, cpu.c, window_write, cpu.c
            )
        )
    )


def _callback(cpu: Cpu, signature: str, hook: Callable[..., Any]) -> Any:
    """A hook as a C function. What is raised in it (Ctrl-C comes anywhere) stops the engine, and soft_enter raises it
    again."""
    made = ffi.callback(signature, hook, onerror=partial(_trouble, cpu))
    cpu.callbacks.append(made)
    return made


def _trouble(cpu: Cpu, kind: Any, error: BaseException, traceback: Any) -> None:
    cpu.trouble = error
    cpu.calls.uc_emu_stop(cpu.uc)
