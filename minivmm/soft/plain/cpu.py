"""One engine's hooks: the structure that Python and C share (native/cpu.h), and what plain.py keeps besides.

The engine's functions are called through cffi's ABI mode: their addresses, cast to pointers to functions.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from cffi import FFI

from minivmm.soft.build_native import STRUCTS
from minivmm.soft.plain.constants import CR0_PE, EFER_LMA, VM

ffi: Any = FFI()
ffi.cdef(STRUCTS)
ffi.cdef("""
struct tlb_entry { uint64_t paddr; int perms; };
struct block { uint64_t pc; uint16_t icount, size; };
struct decoded { unsigned int id; uint64_t address; uint16_t size; }; /* the head of Capstone's cs_insn */
""")

_SIGNATURES = {
    "uc_emu_start": "int(*)(void *, uint64_t, uint64_t, uint64_t, size_t)",
    "uc_emu_stop": "int(*)(void *)",
    "uc_reg_read": "int(*)(void *, int, void *)",
    "uc_reg_write": "int(*)(void *, int, const void *)",
    "uc_hook_add": "int(*)(void *, size_t *, int, void *, void *, uint64_t, uint64_t, ...)",
    "uc_ctl": "int(*)(void *, int, ...)",
    "uc_context_save": "int(*)(void *, void *)",
    "uc_context_restore": "int(*)(void *, void *)",
    "uc_mmio_map": "int(*)(void *, uint64_t, size_t, void *, void *, void *, void *)",
    "cs_disasm_iter": "unsigned char(*)(size_t, const uint8_t **, size_t *, uint64_t *, void *)",
}


class Calls:
    """The functions of Unicorn and Capstone, to be called from here."""

    def __init__(self, library: Any) -> None:
        for name, signature in _SIGNATURES.items():
            setattr(self, name, ffi.cast(signature, getattr(library, name)))

    def __getattr__(self, name: str) -> Any:  # for mypy: all are set above
        raise AttributeError(name)


@cache
def _calls(library: Any) -> Calls:
    return Calls(library)


class Cpu:
    """One engine. `c` is its `struct soft_cpu *`; tables that C keeps there are dictionaries here."""

    def __init__(self, c: Any) -> None:
        self.c, self.env, self.uc, self.context = c, c.env, c.uc, c.context
        self.calls = _calls(c.library)
        self.library = c.library
        self.counting = bool(c.counting)
        self.code: dict[int, tuple[int, int]] = {}  # by GPA of the page: the epoch it was compared in, and its digest
        self.epoch = 0
        self.sites: set[int] = set()
        self.found: list[int] = []
        # Counting: the present block; and how many instructions each one has, by linear address, size and CR3.
        self.block_start = self.block_end = 0
        self.blocks: dict[tuple[int, int, int], int] = {}
        self.passes_window = False  # stopped before an instruction that may set IF
        self.callbacks: list[Any] = []  # kept for as long as the engine may call them
        self.on_site: Any = None
        self.trouble: BaseException | None = None  # raised in a hook: Ctrl-C, say
        self._word = ffi.new("uint64_t[1]")

    # ---- the engine ----

    def reg(self, which: int) -> int:
        self.calls.uc_reg_read(self.uc, which, self._word)
        return int(self._word[0])

    def set_reg(self, which: int, value: int) -> None:
        self._word[0] = value
        self.calls.uc_reg_write(self.uc, which, self._word)

    @property
    def flags(self) -> int:
        return self.reg(self.library.reg_rflags)

    def look(self) -> Any:
        """Brings `env` up to date."""
        self.calls.uc_context_save(self.uc, self.context)
        return self.env

    def put(self) -> None:
        """Takes `env` for the engine's state."""
        self.calls.uc_context_restore(self.uc, self.context)

    def control(self, what: int, *arguments: int) -> None:
        self.calls.uc_ctl(self.uc, what, *(ffi.cast("uint64_t", argument) for argument in arguments))

    def stop(self, reason: int) -> None:
        self.c.reason = reason
        self.calls.uc_emu_stop(self.uc)

    # ---- the mode ----

    @property
    def long(self) -> bool:
        return bool(self.c.efer & EFER_LMA)

    def user_mode(self) -> bool:
        c = self.c
        if not c.cr0 & CR0_PE:
            return False
        if self.reg(self.library.reg_cs) & 3 == 3:
            return True
        return not self.long and bool(self.flags & VM)
