"""Hints that many checks of lab 06 share: what a guest looks like whose interrupts go astray."""

from __future__ import annotations

from dataclasses import replace

from autograder.model import Hint
from autograder.stages.common import LOOP

STRAY = Hint("stray", "The vector is `base` plus the number of the line, 0 to 7, of the chip that has the line.")
ODD = Hint("odd", "Return a number: `base` plus the line.")
ENDLESS = Hint("endless", "An interrupt that comes for ever: its request is never taken back, or nobody lets it end.")
ENDLESS_LOOP = replace(LOOP, key="loop")  # "endless" is a guest here
DIED = Hint("died", "The guest died: a vector with no handler, or an interrupt at a bad time, kills a guest.")
ASLEEP = Hint("asleep", "An interrupt was lost on the way: raised, but never offered to the guest.")
TIMEOUT = Hint("timeout", "The guest spins and waits for an interrupt that does not come.")
HALTED = Hint("halted", "The guest ended early: it runs into a HLT that is none of its own.")
GUEST = (STRAY, ODD, ENDLESS, ENDLESS_LOOP, DIED, ASLEEP, TIMEOUT, HALTED)


def hints(*own: Hint) -> tuple[Hint, ...]:
    """A check's own hints, then those for a guest that goes astray; where both have a key, the check's own."""
    keys = {hint.key for hint in own}
    return own + tuple(hint for hint in GUEST if hint.key not in keys)
