"""What memory an instruction touches: its effective addresses, worked out from the registers.

Source: SDM vol. 1, "Operand Addressing"; vol. 2, the instructions with an implicit stack operand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minivmm.debug.evidence import Evidence
from minivmm.x86 import bits
from minivmm.x86.canonical import is_canonical
from minivmm.x86.modes import linear_address

# They name an address and don't touch it.
HARMLESS = ("lea", "nop", "prefetch", "invlpg", "clflush")
PUSHES = ("push", "call", "enter")
POPS = ("pop", "ret", "leave", "iret")
# What capstone can't tell from the operands: segment registers and stack words have the operand size.
SEGMENT_FOR_STACK = ("rsp", "rbp", "esp", "ebp", "sp", "bp")


@dataclass(frozen=True)
class Touch:
    """One access: the linear address, its size in bytes, and whether it writes."""

    linear: int
    size: int
    write: bool
    stack: bool = False

    @property
    def verb(self) -> str:
        what = "pushes to" if self.write else "pops from"
        return what if self.stack else "writes to" if self.write else "reads"


def touches(evidence: Evidence) -> list[Touch]:
    """The accesses of the instruction at RIP, explicit ones first; none where it can't be decoded."""
    decoded = _decode(evidence)
    if decoded is None or decoded.mnemonic.startswith(HARMLESS):
        return []
    found = [_operand(evidence, decoded, operand) for operand in decoded.operands if operand.type == _mem()]
    return [*found, *_stack(evidence, decoded)]


def is_noncanonical(evidence: Evidence, linear: int) -> bool:
    """True where a 64-bit address breaks the rule that its top bits are copies of one bit."""
    if not (evidence.sregs.efer & bits.EFER_LMA and evidence.sregs.cs.l):
        return False
    return not is_canonical(linear, 57 if evidence.sregs.cr4 & bits.CR4_LA57 else 48)


def _mem() -> int:
    from capstone import x86

    return int(x86.X86_OP_MEM)


def _decode(evidence: Evidence) -> Any:
    import capstone

    width = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}[evidence.bits]
    decoder = capstone.Cs(capstone.CS_ARCH_X86, width)
    decoder.detail = True
    return next(decoder.disasm(evidence.instruction_bytes(), evidence.regs.rip, 1), None)


def _operand(evidence: Evidence, decoded: Any, operand: Any) -> Touch:
    import capstone

    memory = operand.mem
    parts = {name: decoded.reg_name(number) for name, number in _registers(memory) if number}
    base = _value(evidence, parts.get("base", ""), decoded)
    index = _value(evidence, parts.get("index", ""), decoded)
    offset = (base + index * memory.scale + memory.disp) & (1 << 8 * decoded.addr_size) - 1
    default = "ss" if parts.get("base", "") in SEGMENT_FOR_STACK else "ds"
    if decoded.mnemonic.split()[-1].startswith(("stos", "scas", "ins", "movs", "cmps")) and _is_di(parts):
        default = "es"  # the destination of a string instruction, whatever the prefix
    segment = parts.get("segment", default)
    write = bool(operand.access & capstone.CS_AC_WRITE)
    return Touch(linear_address(evidence.sregs, segment, offset), int(operand.size), write)


def _registers(memory: Any) -> tuple[tuple[str, int], ...]:
    return (("base", memory.base), ("index", memory.index), ("segment", memory.segment))


def _is_di(parts: dict[str, str]) -> bool:
    return parts.get("base", "") in ("rdi", "edi", "di") and "segment" not in parts


def _value(evidence: Evidence, name: str, decoded: Any) -> int:
    if name in ("", "eiz", "riz"):
        return 0
    if name in ("rip", "eip"):
        return int(evidence.regs.rip) + int(decoded.size)
    return register(evidence.regs, name)


def register(regs: Any, name: str) -> int:
    """The value of a general register by its name in assembly: rax, eax, ax, ah, al, r8, r8d, r8w, r8b, sil.

    Raises AttributeError for anything else.
    """
    if name[1:2].isdigit():
        full, width = name.rstrip("dwb"), {"d": 32, "w": 16, "b": 8}.get(name[-1], 64)
    elif len(name) == 3 and name[0] in "er":
        full, width = f"r{name[1:]}", 32 if name[0] == "e" else 64
    elif name[-1] in "lh":
        full, width = f"r{name[0]}x" if len(name) == 2 else f"r{name[:2]}", 8
    else:
        full, width = f"r{name}", 16
    value = int(getattr(regs, full))
    return (value >> 8 if name in ("ah", "bh", "ch", "dh") else value) & (1 << width) - 1


def _stack(evidence: Evidence, decoded: Any) -> list[Touch]:
    name = decoded.mnemonic
    if not name.startswith((*PUSHES, *POPS)):
        return []
    size = {16: 2, 32: 4, 64: 8}[evidence.bits]
    write = name.startswith(PUSHES)
    offset = evidence.regs.rsp - size if write else evidence.regs.rsp
    if evidence.bits != 64:
        offset &= 0xFFFF_FFFF if evidence.sregs.ss.db else 0xFFFF
    return [Touch(linear_address(evidence.sregs, "ss", offset & (1 << 64) - 1), size, write, stack=True)]
