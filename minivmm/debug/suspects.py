"""Which address to show the page walk of: the one that faulted, as far as that can be known."""

from __future__ import annotations

from dataclasses import dataclass

from minivmm.debug.evidence import Evidence
from minivmm.debug.exceptions import first_exception
from minivmm.debug.operands import touches
from minivmm.debug.vectors import PF
from minivmm.debug.view import Reach
from minivmm.x86 import bits


@dataclass(frozen=True)
class Suspect:
    """A linear address, why it is the one, and where it leads."""

    address: int
    why: str
    reach: Reach


def suspect(evidence: Evidence) -> Suspect:
    """RIP where it can't be fetched; else what the instruction can't reach; else CR2 after a page fault; else RIP."""
    rip = Suspect(evidence.linear_rip, "where RIP points", evidence.fetch())
    if rip.reach.problem:
        return rip
    operands = [
        Suspect(
            touch.linear,
            f"which the instruction {touch.verb}",
            evidence.view.reach(touch.linear, write=touch.write, user=evidence.user),
        )
        for touch in touches(evidence)
    ]
    for found in operands:
        if found.reach.problem:
            return found
    raised = first_exception(evidence)
    if raised is not None and raised.vector == PF and evidence.sregs.cr0 & bits.CR0_PG:
        cr2 = int(evidence.sregs.cr2)
        return Suspect(cr2, "the address in CR2", evidence.view.reach(cr2, user=evidence.user))
    return next(iter(operands), rip)
