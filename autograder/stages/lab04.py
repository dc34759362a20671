"""Lab 04, paging: what is checked. Each part has its cases, judges and hints in a file of its own."""

from __future__ import annotations

from autograder.model import Lab
from autograder.stages import (
    lab04_build,
    lab04_edits,
    lab04_faults,
    lab04_harvest,
    lab04_refusals,
    lab04_shadows,
    lab04_spaces,
    lab04_walk,
)

LAB = Lab(
    "04",
    "Paging",
    checks=(
        *lab04_walk.CHECKS,
        *lab04_refusals.CHECKS,
        *lab04_build.CHECKS,
        *lab04_harvest.CHECKS,
        *lab04_faults.CHECKS,
        *lab04_spaces.CHECKS,
        *lab04_shadows.CHECKS,
        *lab04_edits.CHECKS,
        *lab04_faults.STRETCH,
        *lab04_spaces.STRETCH,
    ),
)
