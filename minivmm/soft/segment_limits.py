"""Segment limits and rights in protected mode: the engine checks neither, so we do, instruction by instruction.

That is slow, and needed only where a segment is not flat. So the engine stops wherever a segment register is loaded in
protected mode, and state.is_flat says whether it may be left alone after that.

Source: SDM vol. 3, "Limit Checking", "Type Checking".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import capstone
from capstone import x86

from minivmm.soft.port_io import code_bits
from minivmm.soft.processor import PROTECTION, STACK, GuestFault, Processor
from minivmm.soft.state import DESC_CODE, DESC_DB, DESC_P

WHOLE = 0xFFFFFFFF
_WRITABLE = _READABLE = 1 << 9  # of data, of code
_EXPAND_DOWN = 1 << 10

_NAMES = {
    x86.X86_REG_CS: "cs", x86.X86_REG_DS: "ds", x86.X86_REG_ES: "es",
    x86.X86_REG_SS: "ss", x86.X86_REG_FS: "fs", x86.X86_REG_GS: "gs",
}  # fmt: skip
_WIDE = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp")
_REGISTERS = {getattr(x86, f"X86_REG_E{name[1:].upper()}"): (name, 0xFFFFFFFF) for name in _WIDE} | {
    getattr(x86, f"X86_REG_{name[1:].upper()}"): (name, 0xFFFF) for name in _WIDE
}
_STACK_BASES = {x86.X86_REG_EBP, x86.X86_REG_ESP, x86.X86_REG_BP, x86.X86_REG_SP}
_PUSHES = {x86.X86_INS_PUSH, x86.X86_INS_CALL, x86.X86_INS_PUSHF, x86.X86_INS_PUSHFD}
_POPS = {x86.X86_INS_POP, x86.X86_INS_RET, x86.X86_INS_POPF, x86.X86_INS_POPFD}
_NO_ACCESS = {x86.X86_INS_LEA, x86.X86_INS_NOP}


def _decoder(mode: int) -> capstone.Cs:
    decoder = capstone.Cs(capstone.CS_ARCH_X86, mode)
    decoder.detail = True
    return decoder


_DECODERS = {16: _decoder(capstone.CS_MODE_16), 32: _decoder(capstone.CS_MODE_32)}


@dataclass(frozen=True)
class Access:
    """One memory operand: where, how much, and whether it is written."""

    segment: str
    base: tuple[str, int] | None
    index: tuple[str, int] | None
    scale: int
    displacement: int
    size: int
    writes: bool
    address_mask: int


def check(cpu: Processor, code: bytes) -> None:
    """Raises GuestFault where the instruction `code`, at CS:RIP, goes beyond a segment or against its type."""
    env = cpu.env
    bits = code_bits(env, cpu.long)
    if bits == 64:
        return
    length, accesses = _accesses(code, bits)
    if env.rip + length - 1 > env.cs.limit:
        raise GuestFault(PROTECTION, 0)
    for access in accesses:
        offset = access.displacement
        if access.base:
            offset += getattr(env, access.base[0]) & access.base[1]
        if access.index:
            offset += (getattr(env, access.index[0]) & access.index[1]) * access.scale
        _check_access(env, access, offset & access.address_mask)


def _check_access(env: Any, access: Access, offset: int) -> None:
    segment = getattr(env, access.segment)
    fault = GuestFault(STACK if access.segment == "ss" else PROTECTION, 0)
    flags = segment.flags
    if not flags & DESC_P:
        raise fault
    is_code = flags & DESC_CODE
    if (access.writes and (is_code or not flags & _WRITABLE)) or (
        not access.writes and is_code and not flags & _READABLE
    ):
        raise GuestFault(PROTECTION, 0)
    last = offset + access.size - 1
    if not is_code and flags & _EXPAND_DOWN:
        top = WHOLE if flags & DESC_DB else 0xFFFF
        if offset <= segment.limit or last > top:
            raise fault
    elif last > segment.limit:
        raise fault


@lru_cache(4096)
def _accesses(code: bytes, bits: int) -> tuple[int, tuple[Access, ...]]:
    """The length of the instruction, and its memory operands."""
    instruction = next(_DECODERS[bits].disasm(code, 0, 1), None)
    if instruction is None:
        return 1, ()
    found = []
    mask = 0xFFFF if instruction.addr_size == 2 else 0xFFFFFFFF
    if instruction.id not in _NO_ACCESS:
        for operand in instruction.operands:
            if operand.type != x86.X86_OP_MEM:
                continue
            memory = operand.mem
            segment = _NAMES.get(memory.segment, "ss" if memory.base in _STACK_BASES else "ds")
            found.append(
                Access(
                    segment,
                    _REGISTERS.get(memory.base),
                    _REGISTERS.get(memory.index),
                    memory.scale,
                    memory.disp,
                    operand.size or 1,
                    bool(operand.access & capstone.CS_AC_WRITE),
                    mask,
                )
            )
    size = bits // 8 if instruction.prefix[2] != 0x66 else 6 - bits // 8
    stack = ("rsp", 0xFFFFFFFF)
    if instruction.id in _PUSHES:
        found.append(Access("ss", stack, None, 1, -size, size, True, 0xFFFFFFFF))
    elif instruction.id in _POPS:
        found.append(Access("ss", stack, None, 1, 0, size, False, 0xFFFFFFFF))
    return instruction.size, tuple(found)
