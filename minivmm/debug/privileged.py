"""Exceptions of the instructions that change the CPU's state: control registers, MSRs, segment registers.

Source: SDM vol. 2, "MOV—Move to/from Control Registers", "RDMSR", "MOV—Move", "JMP", "IRET"; SDM vol. 3, "Segment
Descriptors".
"""

from __future__ import annotations

import re
from typing import Any

from minivmm.debug.evidence import Evidence
from minivmm.debug.operands import register
from minivmm.debug.raised import Raised
from minivmm.debug.vectors import GP, NP
from minivmm.x86 import bits, msrs
from minivmm.x86.descriptors import DescriptorError
from minivmm.x86.gdt import read_descriptor
from minivmm.x86.rules import errors

TO_CONTROL = re.compile(r"mov cr([034]), (\w+)")
TO_SEGMENT = re.compile(r"mov ([defgs]s), (\w+)")
FAR_JUMP = re.compile(r"(?:ljmp|lcall) (\w+):")
FAR_RETURN = {"lret": 1, "retf": 1, "retfq": 1, "lretq": 1, "iret": 1, "iretd": 1, "iretq": 1}  # CS is the second word
FILL_GDT = "Check the selector, the GDT's base and limit in LGDT's operand, and the descriptor itself."


class Changed:
    """The special registers with some of them replaced: the state that an instruction wanted to make."""

    def __init__(self, sregs: Any, **values: int) -> None:
        self.__dict__.update(values)
        self._sregs = sregs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sregs, name)


def by_privilege(evidence: Evidence) -> Raised | None:
    """What a change of the CPU's state must raise, or did raise where KVM remembers a #GP."""
    instruction = evidence.instruction()
    if instruction is None:
        return None
    subject = f"`{instruction.text}` at {evidence.linear_rip:#x}"
    return (
        _control(evidence, instruction.text, subject)
        or _msr(evidence, instruction.text, subject)
        or _selector(evidence, instruction.text, subject)
    )


def _control(evidence: Evidence, text: str, subject: str) -> Raised | None:
    match = TO_CONTROL.fullmatch(text)
    if match is None:
        return None
    value, sregs = register(evidence.regs, match[2]), evidence.sregs
    changes = {f"cr{match[1]}": value}
    if match[1] == "0" and value & bits.CR0_PG and sregs.efer & bits.EFER_LME:
        changes["efer"] = sregs.efer | bits.EFER_LMA  # the processor sets it itself
    already = {rule.name for rule in errors(sregs)}
    for rule in errors(Changed(sregs, **changes)):
        if rule.name not in already:
            return Raised(GP, subject, f"CR{match[1]} = {value:#x} breaks a rule: {rule.sentence.rstrip('.')}")
    if match[1] == "0" and value & bits.CR0_PG and not sregs.efer & bits.EFER_LME and evidence.interpreted:
        kind = "PAE" if sregs.cr4 & bits.CR4_PAE else "32-bit"
        why = f"it switches {kind} paging on, and this host's KVM (kvm_pvm) has paging in long mode only"
        return Raised(GP, subject, why, "Use long mode, or run the guest on a host with VT-x or AMD-V.")
    return None


def _msr(evidence: Evidence, text: str, subject: str) -> Raised | None:
    if text not in ("rdmsr", "wrmsr") or evidence.vector != GP:
        return None
    index = register(evidence.regs, "ecx")
    name = f"{msrs.name_of(index)} ({index:#x})" if index in msrs.NAMES else f"MSR {index:#x}"
    value = register(evidence.regs, "edx") << 32 | register(evidence.regs, "eax")
    refused = f"KVM does not know {name}" if text == "rdmsr" else f"KVM refuses {value:#x} for {name}"
    return Raised(GP, subject, refused, "Correct ECX, or let unknown MSRs exit (Vm.exit_on_unknown_msrs).")


def _selector(evidence: Evidence, text: str, subject: str) -> Raised | None:
    found = _loaded(evidence, text)
    if found is None or not evidence.sregs.cr0 & bits.CR0_PE:
        return None
    selector, is_code = found
    if not is_code and selector & ~3 == 0:
        return None  # the null selector is legal in a data segment register, until it is used
    gdt = evidence.sregs.gdt
    try:
        target = read_descriptor(evidence.view, gdt.base, gdt.limit, selector)
    except DescriptorError as error:
        return Raised(GP, subject, str(error), FILL_GDT)
    except ValueError as error:
        return Raised(GP, subject, f"the GDT at {gdt.base:#x} can't be read: {error}", FILL_GDT)
    if is_code and not target.is_code:
        return Raised(GP, subject, f"entry {selector:#x} of the GDT is no code segment ({target.describe()})", FILL_GDT)
    if not target.present:
        return Raised(NP, subject, f"entry {selector:#x} of the GDT has P=0", FILL_GDT)
    return None


def _loaded(evidence: Evidence, text: str) -> tuple[int, bool] | None:
    """The selector that the instruction loads, and whether it is one of code."""
    if match := TO_SEGMENT.fullmatch(text):
        return register(evidence.regs, match[2]) & 0xFFFF, False
    if match := FAR_JUMP.match(text):
        return int(match[1], 0), True
    if place := FAR_RETURN.get(text):
        width = evidence.bits // 8 if text[-1] != "q" else 8
        stack = evidence.sregs.ss.base if evidence.bits != 64 else 0
        return int.from_bytes(evidence.view.read(stack + evidence.regs.rsp + place * width, 2), "little"), True
    return None
