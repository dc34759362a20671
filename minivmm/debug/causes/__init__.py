"""The likely cause: ordered rules, the most telling first. Each looks at the evidence and answers, or passes.

The order is the argument: what the exit itself says; then code that isn't there; then state that contradicts itself;
then the exception and why it found no handler. A rule may raise on odd evidence: it is then passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from minivmm.debug.causes import delivery, emulator, exits, fetch, modes
from minivmm.debug.causes.model import Cause
from minivmm.debug.evidence import Evidence, attempt

__all__ = ["RULES", "Cause", "likely_cause"]

Rule = Callable[[Evidence], Cause | None]

NOTHING = Cause("Nothing in the state says why; the last exits are the best lead.")
RULES: tuple[Rule, ...] = (
    *exits.RULES,
    *fetch.RULES,
    *modes.RULES,
    *emulator.RULES,
    *delivery.RULES,
    exits.anything,
)


def likely_cause(evidence: Evidence) -> Cause:
    """The answer of the first rule that has one."""
    answers = (attempt(partial(rule, evidence), None) for rule in RULES)
    return next((cause for cause in answers if cause), NOTHING)
