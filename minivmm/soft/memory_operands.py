"""What an instruction touches in memory, as Capstone reads it: for the checks that the engine leaves to us."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import capstone
from capstone import x86

_SEGMENTS = {
    x86.X86_REG_CS: "cs", x86.X86_REG_DS: "ds", x86.X86_REG_ES: "es",
    x86.X86_REG_SS: "ss", x86.X86_REG_FS: "fs", x86.X86_REG_GS: "gs",
}  # fmt: skip
_OLD = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp")
_MASK = {16: 0xFFFF, 32: 0xFFFF_FFFF, 64: (1 << 64) - 1}
# A register that an address is made of: its name in `env`, and how much of it counts.
_REGISTERS = (
    {getattr(x86, f"X86_REG_{name[1:].upper()}"): (name, _MASK[16]) for name in _OLD}
    | {getattr(x86, f"X86_REG_E{name[1:].upper()}"): (name, _MASK[32]) for name in _OLD}
    | {getattr(x86, f"X86_REG_{name.upper()}"): (name, _MASK[64]) for name in _OLD}
    | {getattr(x86, f"X86_REG_R{i}"): (f"r{i}", _MASK[64]) for i in range(8, 16)}
    | {getattr(x86, f"X86_REG_R{i}D"): (f"r{i}", _MASK[32]) for i in range(8, 16)}
)
_STACK_BASES = {getattr(x86, f"X86_REG_{name}") for name in ("SP", "BP", "ESP", "EBP", "RSP", "RBP")}
_PUSHES = {x86.X86_INS_PUSH, x86.X86_INS_CALL, x86.X86_INS_PUSHF, x86.X86_INS_PUSHFD, x86.X86_INS_PUSHFQ}
_POPS = {x86.X86_INS_POP, x86.X86_INS_RET, x86.X86_INS_POPF, x86.X86_INS_POPFD, x86.X86_INS_POPFQ}
_OTHER_STACK = {
    x86.X86_INS_ENTER, x86.X86_INS_LEAVE, x86.X86_INS_IRETQ, x86.X86_INS_IRETD, x86.X86_INS_LCALL, x86.X86_INS_RETF,
}  # fmt: skip
_NO_ACCESS = {x86.X86_INS_LEA, x86.X86_INS_NOP}


def _decoder(mode: int) -> capstone.Cs:
    decoder = capstone.Cs(capstone.CS_ARCH_X86, mode)
    decoder.detail = True
    return decoder


_DECODERS = {
    16: _decoder(capstone.CS_MODE_16),
    32: _decoder(capstone.CS_MODE_32),
    64: _decoder(capstone.CS_MODE_64),
}


@dataclass(frozen=True)
class Operand:
    """One operand in memory: `size` bytes at base + index × scale + displacement in `segment`."""

    segment: str
    base: tuple[str, int] | None
    index: tuple[str, int] | None
    scale: int
    displacement: int
    size: int
    writes: bool
    address_mask: int
    behind: int  # what RIP-relative addresses count from, behind the instruction; 0 for all others

    def offset(self, env: Any) -> int:
        """Where in its segment it lies, with the registers as they are before the instruction."""
        offset: int = self.displacement
        if self.behind:
            offset += env.rip + self.behind
        if self.base:
            offset += getattr(env, self.base[0]) & self.base[1]
        if self.index:
            offset += (getattr(env, self.index[0]) & self.index[1]) * self.scale
        return offset & self.address_mask

    def linear(self, env: Any, bits: int) -> int:
        """Its linear address, in a code segment of `bits`: with 64 of them, only FS and GS have a base."""
        if bits == 64 and self.segment not in ("fs", "gs"):
            return self.offset(env)
        return getattr(env, self.segment).base + self.offset(env) & _MASK[max(32, bits)]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Instruction:
    """`length` bytes of code, and its operands in memory; `uses_stack` where it refers to SS by itself."""

    length: int
    operands: tuple[Operand, ...]
    uses_stack: bool


@lru_cache(1024)
def decode(code: bytes, bits: int) -> Instruction:
    """The first instruction of `code`, in a segment of 16, 32 or 64 `bits`."""
    found = next(_DECODERS[bits].disasm(code, 0, 1), None)
    if found is None:
        return Instruction(1, (), False)
    operands = [] if found.id in _NO_ACCESS else [_operand(found, each) for each in found.operands if _in_memory(each)]
    wide = 16 if (found.prefix[2] == 0x66) != (bits == 16) else 32 if bits == 16 else bits
    size, stack = wide // 8, ("rsp", _MASK[64 if bits == 64 else 32])
    if found.id in _PUSHES:
        operands.append(Operand("ss", stack, None, 1, -size, size, True, stack[1], 0))
    elif found.id in _POPS:
        operands.append(Operand("ss", stack, None, 1, 0, size, False, stack[1], 0))
    implicit = found.id in _PUSHES | _POPS | _OTHER_STACK
    return Instruction(found.size, tuple(operands), implicit or any(each.segment == "ss" for each in operands))


def _in_memory(operand: Any) -> bool:
    return bool(operand.type == x86.X86_OP_MEM)


def _operand(found: Any, operand: Any) -> Operand:
    memory = operand.mem
    return Operand(
        _SEGMENTS.get(memory.segment, "ss" if memory.base in _STACK_BASES else "ds"),
        _REGISTERS.get(memory.base),
        _REGISTERS.get(memory.index),
        memory.scale,
        memory.disp,
        operand.size or 1,
        bool(operand.access & capstone.CS_AC_WRITE),
        _MASK[found.addr_size * 8],
        found.size if memory.base in (x86.X86_REG_RIP, x86.X86_REG_EIP) else 0,
    )
