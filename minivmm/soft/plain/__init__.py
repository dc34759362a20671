"""The hooks of the soft backend in Python, for where native/ could not be compiled: no C compiler at install, or
MINIVMM_FFI=abi asks for it. They do the same, slower; each file here has its model there, and comments on it.

`ffi` has the structures of native/cpu.h, `lib` the functions that build_native.py lists.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from minivmm.soft.plain import code_pages, hooks, instructions, run
from minivmm.soft.plain.cpu import Cpu, ffi

__all__ = ["ffi", "lib"]

_cpus: dict[Any, Cpu] = {}  # by the address of their struct soft_cpu


def _soft_add_hooks(c: Any) -> int:
    _cpus[c] = Cpu(c)
    return hooks.soft_add_hooks(_cpus[c])


def _soft_free(c: Any) -> None:
    _cpus.pop(c, None)
    ffi.buffer(c)[:] = bytes(ffi.sizeof("struct soft_cpu"))


def _on_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """As in C, callers name the CPU by its structure."""
    return lambda c, *arguments: function(_cpus[c], *arguments)


lib = SimpleNamespace(
    soft_add_hooks=_soft_add_hooks,
    soft_free=_soft_free,
    soft_enter=_on_cpu(run.soft_enter),
    soft_step=_on_cpu(run.soft_step),
    soft_translate=_on_cpu(run.soft_translate),
    soft_flush_tlb=_on_cpu(run.soft_flush_tlb),
    soft_peek=_on_cpu(instructions.soft_peek),
    soft_retire=_on_cpu(run.soft_retire),
    soft_add_site=_on_cpu(instructions.soft_add_site),
    soft_written=_on_cpu(code_pages.soft_written),
    soft_get_regs=_on_cpu(run.soft_get_regs),
    soft_set_regs=_on_cpu(run.soft_set_regs),
    soft_get=_on_cpu(Cpu.reg),
    soft_set=_on_cpu(Cpu.set_reg),
    soft_look=_on_cpu(Cpu.look),
    soft_put=_on_cpu(Cpu.put),
    soft_begin=_on_cpu(code_pages.soft_begin),
    soft_memory_changed=_on_cpu(code_pages.soft_memory_changed),
    soft_forget_code=_on_cpu(code_pages.soft_forget_code),
)
