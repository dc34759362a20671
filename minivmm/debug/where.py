"""Where a guest is that has not died: the address and the instruction, for one that ran out of time."""

from __future__ import annotations

from minivmm.debug.evidence import gather
from minivmm.exits import Interrupted
from minivmm.vcpu import Vcpu
from minivmm.x86.state import MemoryLike


def where(vcpu: Vcpu, memory: MemoryLike) -> str:
    """ "at 0x1003, `jmp 0x1003`": RIP and the instruction there, as far as they can be told. Never raises."""
    evidence = gather(vcpu, memory, Interrupted(), ())
    if evidence is None:
        return "at an address that can't be read any more"
    instruction = evidence.instruction()
    return f"at {evidence.regs.rip:#x}" + (f", `{instruction.text}`" if instruction else "")
