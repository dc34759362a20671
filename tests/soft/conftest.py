"""Guests of the conformance suite's rig, on soft; and their way inside, which other backends don't offer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rig import Guest

sys.path.append(str(Path(__file__).parent))  # for chip_surroundings

from minivmm.soft.backend import SoftBackend


@pytest.fixture
def start() -> Iterator[Callable[..., Guest]]:
    """start(mode, code, counting=False, ring=0, irqchip=False, **regs) -> Guest."""
    guests: list[Guest] = []

    def make(mode: str, code: bytes | dict[int, bytes], *, counting: bool = False, **options: int) -> Guest:
        guests.append(Guest(SoftBackend(counting=counting), mode, code, **options))
        return guests[-1]

    yield make
    for guest in guests:
        guest.close()
