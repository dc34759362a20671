"""The first exception: what the failing instruction raised, and why.

Source: SDM vol. 3, "Exception and Interrupt Reference".
"""

from __future__ import annotations

from functools import partial

from minivmm.debug.evidence import Evidence, attempt
from minivmm.debug.opcodes import by_opcode
from minivmm.debug.operands import is_noncanonical, touches
from minivmm.debug.privileged import by_privilege
from minivmm.debug.raised import Raised
from minivmm.debug.vectors import GP, PF, SS, error_in_words
from minivmm.x86 import bits
from minivmm.x86.disassembly import MAX_INSTRUCTION


def first_exception(evidence: Evidence) -> Raised | None:
    """What the instruction at RIP raised: as the state says, else as KVM remembers; None if neither tells."""
    judges = (by_fetch, by_opcode, by_privilege, by_memory, as_remembered, by_cr2)
    answers = (attempt(partial(judge, evidence), None) for judge in judges)
    return next((raised for raised in answers if raised), None)


def by_fetch(evidence: Evidence) -> Raised | None:
    at = evidence.linear_rip
    fault = evidence.fetch().walk.fault
    if fault is None and 0 < len(evidence.code(MAX_INSTRUCTION)) < MAX_INSTRUCTION:
        instruction = evidence.instruction()
        if instruction is not None and instruction.text == "(bad)":  # cut off by the end of what can be fetched
            at += len(evidence.code(MAX_INSTRUCTION))
            fault = evidence.view.reach(at, fetch=True, user=evidence.user).walk.fault
    if fault is None:
        return None
    return Raised(PF if fault.exception == "#PF" else GP, f"the fetch at {at:#x}", fault.reason)


def by_memory(evidence: Evidence) -> Raised | None:
    """The first operand that paging or the canonical rule refuses."""
    instruction = evidence.instruction()
    if instruction is None:
        return None
    subject = f"`{instruction.text}` at {evidence.linear_rip:#x}"
    for touch in touches(evidence):
        reason = f"it {touch.verb} {touch.linear:#x}"
        if is_noncanonical(evidence, touch.linear):
            return Raised(SS if touch.stack else GP, subject, f"{reason}, which is not a canonical address")
        for at in (touch.linear, touch.linear + touch.size - 1):
            reach = evidence.view.reach(at, write=touch.write, user=evidence.user)
            if reach.walk.fault is not None:
                return Raised(PF, subject, f"{reason}, {reach.problem}")
    return None


def as_remembered(evidence: Evidence) -> Raised | None:
    """What KVM remembers. It may be an older exception, so anything that follows from the state goes first."""
    if evidence.vector is None:
        return None
    instruction = evidence.instruction()
    code = f"`{instruction.text}`" if instruction else "the code"
    why = ""
    if evidence.error_code:
        words = error_in_words(evidence.vector, evidence.error_code)
        why = f"of something that the error code {evidence.error_code:#x} calls “{words}”"
    return Raised(evidence.vector, f"{code} at {evidence.linear_rip:#x}", why, remembered=True)


def by_cr2(evidence: Evidence) -> Raised | None:
    """CR2 keeps the address of the last page fault, so it counts only while that address still has no page."""
    cr2 = evidence.sregs.cr2
    if not cr2 or not evidence.sregs.cr0 & bits.CR0_PG:
        return None
    reach = evidence.view.reach(cr2, user=evidence.user)
    return Raised(PF, f"the access to {cr2:#x} (CR2)", reach.walk.fault.reason) if reach.walk.fault else None
