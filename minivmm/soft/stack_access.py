"""Whether an instruction's memory access is one to the stack: a bad address is #SS(0) then, and not #GP(0).

Source: SDM vol. 3, "Interrupt 12—Stack Fault Exception": instructions that refer to SS implicitly, or by a base of
RSP or RBP.
"""

from __future__ import annotations

import capstone
from capstone import x86

_DECODER = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
_DECODER.detail = True
_IMPLICIT = {
    x86.X86_INS_PUSH, x86.X86_INS_POP, x86.X86_INS_PUSHFQ, x86.X86_INS_POPFQ, x86.X86_INS_CALL, x86.X86_INS_RET,
    x86.X86_INS_ENTER, x86.X86_INS_LEAVE, x86.X86_INS_IRETQ, x86.X86_INS_IRETD, x86.X86_INS_LCALL, x86.X86_INS_RETF,
}  # fmt: skip
_STACK_BASES = {x86.X86_REG_RSP, x86.X86_REG_RBP, x86.X86_REG_ESP, x86.X86_REG_EBP}
_OTHER_SEGMENTS = {x86.X86_REG_FS, x86.X86_REG_GS}


def uses_stack(code: bytes) -> bool:
    """`code` begins with the 64-bit instruction in question."""
    instruction = next(_DECODER.disasm(code, 0, 1), None)
    if instruction is None:
        return False
    for operand in instruction.operands:
        if operand.type == x86.X86_OP_MEM and operand.mem.segment not in _OTHER_SEGMENTS:
            return operand.mem.base in _STACK_BASES or instruction.id in _IMPLICIT
    return instruction.id in _IMPLICIT
