"""Lab 08, a console and power: what is checked. Each part has its cases, judges and hints in a file of its own."""

from __future__ import annotations

from autograder.model import Lab
from autograder.stages import (
    lab08_clock,
    lab08_interrupts,
    lab08_line,
    lab08_machine,
    lab08_power,
    lab08_receiver,
    lab08_registers,
    lab08_stretch,
)

LAB = Lab(
    "08",
    "A console, and power",
    checks=(
        *lab08_line.CHECKS,
        *lab08_receiver.CHECKS,
        *lab08_interrupts.CHECKS,
        *lab08_registers.CHECKS,
        *lab08_interrupts.WIRE,
        *lab08_clock.CHECKS,
        *lab08_power.CHECKS,
        *lab08_machine.CHECKS,
        *lab08_stretch.CHECKS,
    ),
)
