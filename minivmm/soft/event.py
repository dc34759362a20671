"""An exception or interrupt on its way to the guest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """What is to be delivered. `soft` events are INT n, INT3 and INTO: their gate must admit the caller (DPL)."""

    vector: int
    error: int | None = None
    soft: bool = False
    external: bool = False  # an interrupt or NMI, not an exception
    cr2: int | None = None
