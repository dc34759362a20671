"""One CPU inside Unicorn, with the hooks that make it precise (native/, or plain.py where they are not compiled).

`run` goes until something needs us, and stops exactly between two instructions; `step` carries out one. What stopped it
is in `cpu.reason` and its neighbours (native/cpu.h). `look` and `put` exchange the whole state with `cpu.env`.
"""

from __future__ import annotations

import ctypes
import mmap
from enum import IntEnum
from functools import cache
from typing import Any

from unicorn import x86_const as x86

from minivmm.soft import library
from minivmm.soft.binding import ffi, lib
from minivmm.soft.library import EngineError, address, capstone, decoders, unicorn

# The model decides which instructions the engine decodes: this one has all that its translator can do but AVX.
CPU_MODEL = x86.UC_CPU_X86_EPYC_ROME
_NAMES = ("RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RSP", "RBP", *(f"R{i}" for i in range(8, 16)))
GPRS = tuple(getattr(x86, f"UC_X86_REG_{name}") for name in _NAMES)  # in the order of struct kvm_regs
RAX, RIP, RFLAGS = x86.UC_X86_REG_RAX, x86.UC_X86_REG_RIP, x86.UC_X86_REG_RFLAGS
PHYSICAL_BITS = 40
BLOCKS_REMEMBERED = 1 << 16  # a power of two

# uc_ctl
_USE_EXITS, _CPU_MODEL, _TLB_TYPE, _TCG_BUFFER = 4, 7, 12, 13
_TLB_VIRTUAL = 1
_PROT_ALL = 7
TRANSLATIONS = 9 << 20  # bytes of translated code that one engine keeps; it drops all when it has so much


class Stop(IntEnum):
    """Why the engine came back (native/engine.h)."""

    BUDGET = 0
    KICK = 1
    WINDOW = 2
    INSTRUCTION = 3
    EXCEPTION = 4
    UNDEFINED = 5
    PAGE_FAULT = 6
    NON_CANONICAL = 7
    DEVICE = 8
    FETCH_DEVICE = 9
    HALTED = 10
    FOUND = 11
    STALE = 12
    STEPPED = 13
    ENGINE = 14


READ, WRITE, FETCH = 0, 1, 2
NO_WINDOW, ASK, ANSWER = 0, 1, 2


@cache
def _library() -> Any:
    """The addresses that the hooks call, gathered once. Raises EngineError."""
    engine, table = unicorn(), ffi.new("struct soft_library *")
    for name in ("uc_emu_start", "uc_emu_stop", "uc_reg_read", "uc_reg_write", "uc_hook_add", "uc_ctl",
                 "uc_context_save", "uc_context_restore", "uc_mmio_map"):  # fmt: skip
        setattr(table, name, ffi.cast("void *", address(engine, name)))
    table.cs_disasm_iter = ffi.cast("void *", address(capstone(), "cs_disasm_iter"))
    table.cs_handles = decoders()
    table.reg_gprs = GPRS
    table.reg_rip, table.reg_rflags, table.reg_cs = RIP, RFLAGS, x86.UC_X86_REG_CS
    table.reg_rax, table.reg_rcx, table.reg_rdx = x86.UC_X86_REG_RAX, x86.UC_X86_REG_RCX, x86.UC_X86_REG_RDX
    table.reg_cr3 = x86.UC_X86_REG_CR3
    table.insn_rdtsc, table.insn_rdtscp = x86.UC_X86_INS_RDTSC, x86.UC_X86_INS_RDTSCP
    return table


def _write(kind: int, count: int) -> ctypes.c_int:
    return ctypes.c_int(kind | count << 26 | 1 << 30)


class Engine:
    """A CPU in Unicorn, at reset values of Unicorn's own; whoever makes one loads a state before the first `run`.

    `offsets` come from selfcheck.py: where the exception fields lie behind RAX, and the fault address in the handle.
    """

    def __init__(self, exception_offset: int, fault_offset: int, *, counting: bool = False) -> None:
        self._uc = ctypes.c_void_p()
        self._context = ctypes.c_void_p()
        engine = unicorn()
        self._must(engine.uc_open(library.ARCH_X86, library.MODE_64, ctypes.byref(self._uc)), "uc_open")
        self._must(engine.uc_ctl(self._uc, _write(_CPU_MODEL, 1), ctypes.c_int(CPU_MODEL)), "choosing the CPU model")
        self._must(engine.uc_ctl(self._uc, _write(_TCG_BUFFER, 1), ctypes.c_uint32(TRANSLATIONS)), "its buffer")
        # With an address to stop at, emu_start probes it and spoils CR2; with a list of exits, empty, it does not.
        self._must(engine.uc_ctl(self._uc, _write(_USE_EXITS, 1), ctypes.c_int(1)), "exits")
        self._must(engine.uc_ctl(self._uc, _write(_TLB_TYPE, 1), ctypes.c_int(_TLB_VIRTUAL)), "the TLB")
        self._must(engine.uc_context_alloc(self._uc, ctypes.byref(self._context)), "uc_context_alloc")
        self.cpu = ffi.new("struct soft_cpu *")
        self._library = self.cpu.library = _library()
        # Decoding writes into this buffer, and each engine may run in a thread of its own.
        self._insn = capstone().cs_malloc(ctypes.c_size_t(decoders()[2]))
        self.cpu.cs_insn = ffi.cast("void *", self._insn)
        uc, context = self._uc.value or 0, self._context.value or 0
        self.cpu.uc, self.cpu.context = ffi.cast("void *", uc), ffi.cast("void *", context)
        offset = _env_offset(self._uc, self._context)
        self.cpu.env = ffi.cast("struct soft_env *", context + offset)
        self.cpu.exception = ffi.cast("struct soft_exception *", context + offset + exception_offset)
        self.cpu.engine_fault = ffi.cast("uint64_t *", uc + fault_offset)
        self.cpu.physical_mask = (1 << PHYSICAL_BITS) - 1
        self.cpu.counting = counting
        if counting:
            self._blocks = ffi.new("uint64_t[]", BLOCKS_REMEMBERED), ffi.new("uint32_t[]", BLOCKS_REMEMBERED)
            self.cpu.block_pcs, self.cpu.block_insns = self._blocks
            self.cpu.block_mask = BLOCKS_REMEMBERED - 1
        self._warm_up()
        self._must(lib.soft_add_hooks(self.cpu), "its hooks")
        self.env = self.cpu.env

    @staticmethod
    def _must(error: int, what: str) -> None:
        if error:
            raise EngineError(f"Unicorn refuses {what} (uc_err {error}): is there enough memory on this host?")

    def _warm_up(self) -> None:
        """Runs two blocks of no consequence: the engine tells of a new translation only once it has finished one."""
        page = mmap.mmap(-1, mmap.PAGESIZE)
        page[:3] = b"\xeb\x00\xf4"  # jmp to the next instruction, which is hlt
        host = ffi.from_buffer(page)
        self.map(0x1000, len(page), int(ffi.cast("uintptr_t", host)))
        engine, zero = unicorn(), ctypes.c_uint64(0)
        self._must(engine.uc_emu_start(self._uc, ctypes.c_uint64(0x1000), zero, zero, ctypes.c_size_t(0)), "to start")
        self._must(engine.uc_mem_unmap(self._uc, ctypes.c_uint64(0x1000), ctypes.c_size_t(len(page))), "to unmap")

    # ---- running ----

    def run(self, budget: int) -> int:
        """Runs at most about `budget` basic blocks (instructions, if the clock counts them). Returns a `Stop`."""
        return lib.soft_enter(self.cpu, budget)  # type: ignore[no-any-return]

    def step(self) -> int:
        """Carries out one instruction. Stop.STEPPED, or why it could not be done."""
        return lib.soft_step(self.cpu)  # type: ignore[no-any-return]

    # ---- state ----

    def look(self) -> None:
        """Copies the CPU's state to `env`."""
        lib.soft_look(self.cpu)

    def put(self) -> None:
        """Takes `env` for the CPU's state."""
        lib.soft_put(self.cpu)

    def get(self, register: int) -> int:
        """A register by its Unicorn number (x86_const), as 64 bits."""
        return lib.soft_get(self.cpu, register)  # type: ignore[no-any-return]

    def set(self, register: int, value: int) -> None:
        lib.soft_set(self.cpu, register, value)

    def raw_get(self, register: int, kind: str, initial: Any = None) -> Any:
        """A register that is no plain number (x87, SSE): a new `kind`, as cffi calls it, filled.

        `initial` is what it holds before; an MSR's number is told so.
        """
        value = ffi.new(kind, initial)
        unicorn().uc_reg_read(self._uc, register, ctypes.c_void_p(int(ffi.cast("uintptr_t", value))))
        return value

    def raw_set(self, register: int, value: Any) -> None:
        """Sets such a register from the cffi pointer `value`."""
        unicorn().uc_reg_write(self._uc, register, ctypes.c_void_p(int(ffi.cast("uintptr_t", value))))

    # ---- memory ----

    def map(self, gpa: int, size: int, host: int) -> None:
        """Shows `size` bytes of host memory at `host` as guest-physical memory."""
        error = unicorn().uc_mem_map_ptr(
            self._uc, ctypes.c_uint64(gpa), ctypes.c_size_t(size), _PROT_ALL, ctypes.c_void_p(host)
        )
        self._must(error, f"memory at {gpa:#x}")

    def unmap(self, gpa: int, size: int) -> None:
        """Takes it away again, with all that was translated from it."""
        lib.soft_forget_code(self.cpu, gpa, size)
        self.cpu.physical = 1
        self._must(unicorn().uc_mem_unmap(self._uc, ctypes.c_uint64(gpa), ctypes.c_size_t(size)), f"to unmap {gpa:#x}")
        self.cpu.physical = 0
        lib.soft_flush_tlb(self.cpu)

    def flush_tlb(self) -> None:
        lib.soft_flush_tlb(self.cpu)

    def memory_changed(self) -> None:
        """Somebody else may have written memory since the last `run`: code is compared before it runs again."""
        lib.soft_memory_changed(self.cpu)

    def close(self) -> None:
        """Gives everything back; a second call does nothing."""
        if self._uc.value:
            unicorn().uc_context_free(self._context)
            unicorn().uc_close(self._uc)
            self._uc = ctypes.c_void_p()
            lib.soft_free(self.cpu)
            capstone().cs_free(ctypes.c_void_p(self._insn), ctypes.c_size_t(1))


def _env_offset(uc: ctypes.c_void_p, context: ctypes.c_void_p) -> int:
    """Where the CPU's state begins in a uc_context: found by a value that nothing else there has."""
    magic = 0x1122_3344_5566_7788
    value = ctypes.c_uint64(magic)
    unicorn().uc_reg_write(uc, x86.UC_X86_REG_RAX, ctypes.byref(value))
    unicorn().uc_context_save(uc, context)
    size = unicorn().uc_context_size(uc)
    offset = ctypes.string_at(context.value or 0, size).find(magic.to_bytes(8, "little"))
    value.value = 0
    unicorn().uc_reg_write(uc, x86.UC_X86_REG_RAX, ctypes.byref(value))
    if offset < 0:
        raise EngineError("Unicorn's context does not hold the registers: is this the released 2.1.4?")
    return offset
