"""Lab 07, time and scheduling: what is checked. Each part has its cases, judges and hints in a file of its own."""

from __future__ import annotations

from autograder.model import Lab
from autograder.stages import lab07_clock, lab07_pit, lab07_share, lab07_stretch, lab07_timers

LAB = Lab(
    "07",
    "Time and scheduling",
    checks=(
        *lab07_pit.CHECKS,
        *lab07_timers.CHECKS,
        *lab07_clock.CHECKS,
        *lab07_share.CHECKS,
        *lab07_clock.STEAL_CHECKS,
        *lab07_timers.KERNEL,
        *lab07_stretch.CHECKS,
    ),
)
