"""Whether Unicorn is as the backend knows it: asked once a process, in a few milliseconds, before anything relies on
it.

What is checked: where each field of the CPU's state lies in a context, where the engine notes the address of a fault,
and the three behaviours on which precision rests: a refused TLB miss leaves the registers alone, a hooked instruction
is not carried out, and the trap flag stops after one instruction.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from dataclasses import dataclass
from functools import cache
from typing import Any

from unicorn import x86_const as x86

from minivmm.soft import engine as soft
from minivmm.soft.binding import ffi
from minivmm.soft.engine import Engine, Stop
from minivmm.soft.library import EngineError, unicorn

_BACK = "Install the released one again: pip install --force-reinstall unicorn==2.1.4."
_DR_MAGIC = 0x7766_5544_3322_1100
_FAULT_MAGIC = 0x5AB3_D010  # behind the memory of the check
_HANDLE_BYTES = 8192  # of the engine's handle, which is larger than that


@dataclass(frozen=True)
class Layout:
    """Byte offsets: of the exception fields behind RAX, and of the fault address in the engine's handle."""

    exception: int
    fault: int


@cache
def layout() -> Layout:
    """The layout of this Unicorn. Raises EngineError, in one sentence, where it isn't the one we know."""
    try:
        exception = _find_exception()
        engine = Engine(exception, 0)
        try:
            memory = mmap.mmap(-1, 0x4000)
            fault = _check(engine, memory)
        finally:
            engine.close()
    except _Unknown as difference:
        raise EngineError(f"This Unicorn behaves unlike 2.1.4 ({difference}). {_BACK}") from None
    return Layout(exception, fault)


class _Unknown(Exception):
    pass


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise _Unknown(what)


def _find_exception() -> int:
    """DR0 follows the error code by 16 bytes."""
    probe = Engine(0, 0)
    try:
        probe.set(x86.UC_X86_REG_DR0, _DR_MAGIC)
        probe.look()
        size = unicorn().uc_context_size(probe._uc)
        start = int(ffi.cast("uintptr_t", probe.env))
        room = (probe._context.value or 0) + size - start
        at = ctypes.string_at(start, room).find(struct.pack("<Q", _DR_MAGIC))
        _expect(at > 16, "the debug registers are elsewhere")
        probe.set(x86.UC_X86_REG_DR0, 0)
        return at - ffi.offsetof("struct soft_exception", "dr")  # type: ignore[no-any-return]
    finally:
        probe.close()


def _check(engine: Engine, memory: mmap.mmap) -> int:
    view = ffi.from_buffer(memory)
    slots = ffi.new("struct soft_slot[1]")
    slots[0].size = len(memory)
    slots[0].host = ffi.cast("uint8_t *", view)
    engine.cpu.slots, engine.cpu.slot_count = slots, 1
    engine.map(0, len(memory), int(ffi.cast("uintptr_t", view)))
    _check_registers(engine)
    _enter_real_mode(engine)
    fault = _check_fault(engine, memory)
    _check_hook_and_step(engine, memory)
    return fault


def _check_registers(engine: Engine) -> None:
    """Every general register, RIP, the control registers and EFER: written by the interface, found in `env`."""
    names = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", *(f"r{i}" for i in range(8, 16)))
    for i, register in enumerate(soft.GPRS):
        engine.set(register, 0x1000_0000_0000 + i)
    engine.set(soft.RIP, 0x1234_5678)
    engine.set(x86.UC_X86_REG_CR2, 0x2222)
    engine.set(x86.UC_X86_REG_CR3, 0x3000)
    engine.look()
    env = engine.env
    for i, name in enumerate(names):
        _expect(getattr(env, name) == 0x1000_0000_0000 + i, f"{name} is elsewhere")
    _expect(env.rip == 0x1234_5678, "RIP is elsewhere")
    _expect((env.cr2, env.cr3) == (0x2222, 0x3000), "the control registers are elsewhere")
    for name, register in (("gdt", x86.UC_X86_REG_GDTR), ("idt", x86.UC_X86_REG_IDTR)):
        table = ffi.new("char[24]")  # uc_x86_mmr: selector, base, limit, flags
        struct.pack_into("<H6xQII", ffi.buffer(table), 0, 0, 0x1111_0000 + register, 0x77, 0)
        engine.raw_set(register, table)
        engine.look()
        field = getattr(env, name)
        _expect((field.base, field.limit) == (0x1111_0000 + register, 0x77), f"the {name.upper()} is elsewhere")
    entry = ffi.new("char[16]")  # uc_x86_msr: number, value
    struct.pack_into("<I4xQ", ffi.buffer(entry), 0, 0xC000_0080, 0x800)
    engine.raw_set(x86.UC_X86_REG_MSR, entry)
    engine.look()
    _expect(env.efer & 0x800 == 0x800, "EFER is elsewhere")
    _expect(engine.cpu.exception.old_exception == -1, "the pending exception is elsewhere")


def _enter_real_mode(engine: Engine) -> None:
    engine.look()
    env = engine.env
    for name in ("es", "cs", "ss", "ds", "fs", "gs"):
        segment = getattr(env, name)
        segment.selector, segment.base, segment.limit, segment.flags = 0, 0, 0xFFFF, 0x9300
    env.cr0, env.cr4, env.efer, env.hflags = 0x10, 0, 0, 1 << 6
    env.rflags = 2
    engine.cpu.cr0, engine.cpu.cr4, engine.cpu.efer = 0x10, 0, 0
    engine.put()
    engine.flush_tlb()


def _check_fault(engine: Engine, memory: mmap.mmap) -> int:
    """mov [0x10], ax with DS far away: nothing of it may happen, and the address must be noted in the handle."""
    memory[0x1000:0x1003] = b"\xa3\x10\x00"
    engine.look()
    engine.env.ds.base = _FAULT_MAGIC - 0x10
    engine.put()
    engine.set(soft.RIP, 0x1000)
    before = engine.get(x86.UC_X86_REG_RAX)
    engine.cpu.engine_fault = ffi.cast("uint64_t *", engine._uc.value)
    _expect(engine.run(100) == Stop.DEVICE, "a refused TLB miss goes unnoticed")
    _expect(engine.get(soft.RIP) == 0x1000 and engine.get(x86.UC_X86_REG_RAX) == before, "a refused access counts")
    handle = ctypes.string_at(engine._uc.value or 0, _HANDLE_BYTES)
    at = handle.find(struct.pack("<Q", _FAULT_MAGIC))
    _expect(at >= 0 and at % 8 == 0, "the address of a fault is not noted")
    engine.cpu.engine_fault = ffi.cast("uint64_t *", (engine._uc.value or 0) + at)
    engine.env.ds.base = 0
    return at


def _check_hook_and_step(engine: Engine, memory: mmap.mmap) -> None:
    """inc ax; out 0x80, al; inc ax: it stops before the OUT; a step from behind it does one INC."""
    memory[0x2000:0x2004] = b"\x40\xe6\x80\x40"
    engine.look()
    engine.env.rax, engine.env.ds.base = 0, 0
    engine.put()
    engine.set(soft.RIP, 0x2000)
    stopped: Any = engine.run(100)
    seen = (stopped, engine.get(soft.RIP), engine.get(x86.UC_X86_REG_RAX))
    _expect(seen == (Stop.INSTRUCTION, 0x2001, 1), "it does not stop before an OUT")
    engine.set(soft.RIP, 0x2003)
    stopped = engine.step()
    seen = (stopped, engine.get(soft.RIP), engine.get(x86.UC_X86_REG_RAX))
    _expect(seen == (Stop.STEPPED, 0x2004, 2), "the trap flag does not stop it after one instruction")
