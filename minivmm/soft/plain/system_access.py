"""User code loads a segment register, and the processor reads the GDT with its own rights (native/system_access.c)."""

from __future__ import annotations

from typing import Any

from minivmm.soft.plain.constants import HF_CODE64, MASK64, PREFIXES, page_of
from minivmm.soft.plain.cpu import Cpu
from minivmm.soft.plain.instructions import loads_segment
from minivmm.soft.plain.paging import fetch


def reads_a_descriptor(code: bytes, long_code: bool) -> bool:
    """Whether the instruction at the front of `code` reads a descriptor table by itself."""
    at = 0
    while len(code) - at > 1 and (code[at] in PREFIXES or (long_code and code[at] & 0xF0 == 0x40)):
        at += 1
    code = code[at:]
    if len(code) < 2:
        return False
    if code[0] == 0x0F and code[1] in (0x02, 0x03):  # LAR, LSL
        return True
    if code[0] == 0x0F and code[1] == 0x00:  # VERR, VERW
        return len(code) > 2 and code[2] >> 3 & 7 >= 4
    return loads_segment(code)


def _in_table(table: Any, page: int) -> bool:
    return bool(page_of(table.base) <= page <= table.base + table.limit)


def system_access(cpu: Cpu, page: int) -> bool:
    """Whether the access to `page` that the engine is at is the processor's own."""
    env = cpu.look()
    if not (_in_table(env.gdt, page) or _in_table(env.ldt, page) or _in_table(env.tr, page)):
        return False
    code = fetch(cpu, env.cs.base + env.rip & MASK64, True, 16)
    return reads_a_descriptor(code, bool(env.hflags & HF_CODE64))
