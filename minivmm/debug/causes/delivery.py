"""Causes of a triple fault: an exception, and what stood in the way of its handler.

Source: SDM vol. 3, "Interrupt and Exception Handling" and "Interrupt 8—Double Fault Exception (#DF)".
"""

from __future__ import annotations

from minivmm.debug.causes.model import Cause
from minivmm.debug.evidence import Evidence
from minivmm.debug.exceptions import first_exception
from minivmm.debug.handlers import obstacle
from minivmm.debug.vectors import GP
from minivmm.exits import Shutdown

DOUBLE_FAULT = 'SDM vol. 3, "Interrupt 8—Double Fault Exception (#DF)"'


def triple_fault(evidence: Evidence) -> Cause | None:
    if not isinstance(evidence.exit, Shutdown):
        return None
    raised = first_exception(evidence)
    if raised is None:
        # Something was raised; if #GP has no handler, no exception has got one.
        found = obstacle(evidence, GP)
        if found is None:
            return None
        return Cause(
            f"Any exception is a triple fault in this guest, because {found.sentence}.", found.remedy, found.source
        )
    found = obstacle(evidence, raised.vector)
    if found is None:
        return Cause(
            f"{_capital(raised.sentence)}, and a further exception on the way to its handler made that a triple fault.",
            raised.remedy or "Check what the handler's first instructions touch: they raised the next exception.",
            DOUBLE_FAULT,
        )
    return Cause(
        f"{_capital(raised.sentence)}, and became a triple fault, because {found.sentence}.",
        f"{raised.remedy} {found.remedy}".strip(),
        found.source,
    )


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


RULES = (triple_fault,)
