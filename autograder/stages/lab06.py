"""Lab 06, interrupts: what is checked. Each part has its cases, judges and hints in a file of its own."""

from __future__ import annotations

from autograder.model import Lab
from autograder.stages import (
    lab06_acknowledge,
    lab06_cascade,
    lab06_end,
    lab06_kernel,
    lab06_keys,
    lab06_lines,
    lab06_loop,
    lab06_offer,
    lab06_priority,
    lab06_stretch,
    lab06_tables,
    lab06_words,
)

LAB = Lab(
    "06",
    "Interrupts",
    checks=(
        *lab06_tables.CHECKS,
        *lab06_lines.CHECKS,
        *lab06_priority.CHECKS,
        *lab06_acknowledge.CHECKS,
        *lab06_end.CHECKS,
        *lab06_words.CHECKS,
        *lab06_cascade.CHECKS,
        *lab06_offer.CHECKS,
        *lab06_loop.CHECKS,
        *lab06_keys.CHECKS,
        *lab06_loop.ALL_PARTS,
        *lab06_kernel.CHECKS,
        *lab06_stretch.CHECKS,
    ),
)
