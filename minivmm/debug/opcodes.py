"""Exceptions that follow from the instruction and the registers alone.

Source: SDM vol. 2, the exceptions of each instruction; SDM vol. 3, "Privileged Instructions" and "Control Registers".
"""

from __future__ import annotations

from minivmm.debug.evidence import Evidence
from minivmm.debug.operands import register
from minivmm.debug.raised import Raised
from minivmm.debug.vectors import BP, DE, GP, NM, UD
from minivmm.x86 import bits
from minivmm.x86.disassembly import Instruction

PRIVILEGED = (
    "hlt", "lgdt", "lidt", "lldt", "ltr", "lmsw", "clts", "invd", "wbinvd", "invlpg", "rdmsr", "wrmsr", "sysret",
    "swapgs",
)  # fmt: skip
X87 = ("fld", "fst", "fild", "fist", "fadd", "fsub", "fmul", "fdiv", "fninit", "finit", "fnst", "fcom", "fxch")


def by_opcode(evidence: Evidence) -> Raised | None:
    """What the instruction at RIP must raise, whatever memory holds."""
    instruction = evidence.instruction()
    if instruction is None:
        return None
    text, subject, sregs = instruction.text, f"`{instruction.text}` at {evidence.linear_rip:#x}", evidence.sregs
    name = text.split()[0]
    if name == "(bad)":
        return Raised(UD, f"the code at {evidence.linear_rip:#x}", f"the bytes {_bytes(evidence)} are no instruction")
    if name in ("ud0", "ud1", "ud2"):
        return Raised(UD, subject)
    if name in ("int3", "int"):
        return Raised(BP if name == "int3" else int(text.split()[1], 0), subject)
    if name in ("div", "idiv") and divisor_is_zero(evidence, instruction):
        return Raised(DE, subject, "it divided by zero", "Check the divisor.")
    if evidence.user and name in PRIVILEGED:
        return Raised(GP, subject, "it is for ring 0 and the guest is in ring 3")
    if name == "syscall" and not sregs.efer & bits.EFER_SCE:
        return Raised(UD, subject, "EFER.SCE is 0", "Set EFER.SCE before the first SYSCALL.")
    if name.startswith(X87) and sregs.cr0 & (bits.CR0_EM | bits.CR0_TS):
        return Raised(NM, subject, "CR0 has EM or TS set", "Clear CR0.EM and CR0.TS before the first x87 instruction.")
    if "xmm" in text and not name.startswith("v"):
        return _sse(subject, sregs.cr0, sregs.cr4)
    return None


def divisor_is_zero(evidence: Evidence, instruction: Instruction) -> bool:
    operand = instruction.text.split()[-1]
    return not operand.endswith("]") and register(evidence.regs, operand) == 0


def _sse(subject: str, cr0: int, cr4: int) -> Raised | None:
    if cr0 & bits.CR0_EM:
        return Raised(UD, subject, "CR0.EM is 1", "Clear CR0.EM before the first SSE instruction.")
    if not cr4 & bits.CR4_OSFXSR:
        return Raised(UD, subject, "CR4.OSFXSR is 0", "Set CR4.OSFXSR before the first SSE instruction.")
    return None


def _bytes(evidence: Evidence) -> str:
    return evidence.instruction_bytes()[:4].hex(" ")
