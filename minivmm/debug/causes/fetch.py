"""Causes that lie in where RIP points: nowhere, into a hole, into memory that nobody wrote.

Source: SDM vol. 3, "Page-Fault Exceptions"; SDM vol. 1, "Canonical Addressing".
"""

from __future__ import annotations

from minivmm.debug.causes.model import Cause
from minivmm.debug.evidence import Evidence
from minivmm.exits import InternalError, Shutdown
from minivmm.x86.modes import linear_address

SLIDE = 32  # bytes of zeros in a row: no program has them between two instructions
ENTRY_ALIGNMENT = 16
WORD = {16: 2, 32: 4, 64: 8}


def died_executing(evidence: Evidence) -> bool:
    return isinstance(evidence.exit, Shutdown | InternalError)


def bad_return(evidence: Evidence) -> Cause | None:
    """A RET through a stack in a hole reads all ones, for nobody answers there."""
    rip, size = evidence.regs.rip, WORD[evidence.bits]
    if not died_executing(evidence) or rip != (1 << 8 * size) - 1 or not stack_hole(evidence):
        return None
    return Cause(
        f"The guest returned to {rip:#x}, all ones, because {stack_hole(evidence)}.",
        "Point the stack pointer into a memory slot before the first PUSH, CALL or interrupt.",
        'SDM vol. 1, "Stacks"',
    )


def stack_hole(evidence: Evidence) -> str:
    """Why the stack can't be used, as a clause; "" where it can."""
    offset = evidence.regs.rsp - WORD[evidence.bits] & (1 << 64) - 1
    if evidence.bits != 64:
        offset &= 0xFFFF_FFFF if evidence.sregs.ss.db else 0xFFFF
    linear = linear_address(evidence.sregs, "ss", offset)
    reach = evidence.view.reach(linear, write=True)
    return f"the stack pointer {evidence.regs.rsp:#x} leads to {linear:#x}, {reach.problem}" if reach.problem else ""


def unmapped(evidence: Evidence) -> Cause | None:
    if not died_executing(evidence):
        return None
    fault = evidence.fetch().walk.fault
    if fault is None:
        return None
    rip = evidence.linear_rip
    if fault.exception == "#GP":
        return Cause(
            f"RIP is {evidence.regs.rip:#x}, and {fault.reason}.",
            "A corrupted return address or function pointer looks like this: check the stack and the last jump.",
            'SDM vol. 1, "Canonical Addressing"',
        )
    null = ", a jump through a null pointer" if rip < 0x1000 else ""
    return Cause(
        f"RIP is {rip:#x}{null}, which the page tables do not let it execute: {fault.reason}.",
        "Map the code (and its target) before CR3 or CR0.PG is loaded, or correct the jump that led here.",
        'SDM vol. 3, "Page-Fault Exceptions"',
    )


def hole(evidence: Evidence) -> Cause | None:
    if not died_executing(evidence) or not evidence.fetch().problem:
        return None
    return Cause(
        f"RIP is {evidence.linear_rip:#x}, {evidence.fetch().problem}, so there is nothing to execute.",
        "Load the image where it is entered, give the guest more memory, or correct the jump that led here.",
        'KVM API, KVM_SET_USER_MEMORY_REGION; SDM vol. 1, "Instruction Pointer"',
    )


def table(evidence: Evidence) -> Cause | None:
    """Nobody means to execute a descriptor table; a guest that slid through empty memory ends up in one."""
    if not died_executing(evidence):
        return None
    rip = evidence.linear_rip
    for name, place in (("GDT", evidence.sregs.gdt), ("IDT", evidence.sregs.idt)):
        # Limits of 0x3ff and 0xffff are real mode's and reset's: nobody has loaded a table yet.
        if place.limit not in (0, 0x3FF, 0xFFFF) and place.base <= rip <= place.base + place.limit:
            return Cause(
                f"RIP is {rip:#x}, inside the {name} ({place.base:#x} to {place.base + place.limit:#x}): the guest "
                "left its code and executes a table.",
                "End the code with HLT or a loop, and check the last jump.",
                'SDM vol. 1, "Instruction Pointer"',
            )
    return None


def zeros(evidence: Evidence) -> Cause | None:
    """Memory that nobody wrote is all zeros, and 00 00 is an ADD: the CPU slides through it until something breaks."""
    if not died_executing(evidence):
        return None
    here = evidence.code(8)
    if not here or any(here):
        return None
    return Cause(
        f"RIP is {evidence.linear_rip:#x}, in memory that holds only zeros, which execute as {_as_code(evidence)}: the "
        "guest ran past the end of its code, or was entered at the wrong address.",
        "Check the load address, the entry point and the last jump, and end the code with HLT or a loop.",
        'SDM vol. 2, "ADD"',
    )


def slid(evidence: Evidence) -> Cause | None:
    """Programs start at aligned addresses; what else comes right behind zeros was not meant to be entered."""
    if not died_executing(evidence) or evidence.linear_rip % ENTRY_ALIGNMENT == 0:
        return None
    before = evidence.view.read_some(evidence.linear_rip - SLIDE, SLIDE, fetch=True, user=evidence.user)
    if len(before) < SLIDE or any(before):
        return None
    return Cause(
        f"The {SLIDE} bytes before RIP {evidence.linear_rip:#x} are zeros, which execute as {_as_code(evidence)}: the "
        "guest slid here through memory that nobody wrote.",
        "Check the load address, the entry point and the last jump, and end the code with HLT or a loop.",
        'SDM vol. 2, "ADD"',
    )


def _as_code(evidence: Evidence) -> str:
    operand = {16: "[bx+si]", 32: "[eax]", 64: "[rax]"}[evidence.bits]
    return f"`add {operand}, al` (bytes 00 00)"


RULES = (bad_return, unmapped, hole, table, zeros, slid)
