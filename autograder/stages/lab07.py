"""Lab 07, time and scheduling: what is checked. Each part has its cases, judges and hints in a file of its own."""

from __future__ import annotations

from autograder.model import Lab
from autograder.stages import (
    lab07_apic,
    lab07_clock,
    lab07_counter,
    lab07_kernel,
    lab07_latch,
    lab07_pit,
    lab07_share,
    lab07_sleep,
    lab07_slice,
    lab07_stretch,
)

LAB = Lab(
    "07",
    "Time and scheduling",
    checks=(
        *lab07_counter.CHECKS,
        *lab07_pit.CHECKS,
        *lab07_latch.CHECKS,
        *lab07_counter.RISES,
        *lab07_sleep.CHECKS,
        *lab07_apic.CHECKS,
        *lab07_clock.CHECKS,
        *lab07_slice.CHECKS,
        *lab07_share.CHECKS,
        *lab07_clock.STEAL_CHECKS,
        *lab07_kernel.CHECKS,
        *lab07_stretch.CHECKS,
    ),
)
