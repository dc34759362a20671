"""Lab 05, buses and exits: what is checked. Each part has its cases, judges and hints in a file of its own."""

from __future__ import annotations

from autograder.model import Lab
from autograder.stages import (
    lab05_access,
    lab05_claims,
    lab05_cost,
    lab05_exits,
    lab05_postbox,
    lab05_ring,
    lab05_stretch,
)

LAB = Lab(
    "05",
    "Buses and exits",
    checks=(
        *lab05_claims.CHECKS,
        *lab05_access.CHECKS,
        *lab05_exits.CHECKS,
        *lab05_cost.CHECKS,
        *lab05_ring.CHECKS,
        *lab05_postbox.CHECKS,
        *lab05_stretch.CHECKS,
    ),
)
