"""Guest memory by virtual address, as a debugger wants it: through the vCPU's page tables, past their rights.

A debugger reads where SMAP keeps the kernel out, and writes to code that is read-only for the guest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minivmm.debug.view import PAGE
from minivmm.x86.bits import RFLAGS_AC
from minivmm.x86.paging import translate
from minivmm.x86.state import MemoryLike


class NoMemoryError(ValueError):
    """An address where the guest has no memory: not mapped, or mapped to a hole."""


class VirtualMemory:
    """The memory that a vCPU in state `sregs` sees. In real mode, and without paging, an address is a linear one."""

    def __init__(self, memory: MemoryLike, sregs: Any) -> None:
        self._memory = memory
        self._sregs = sregs

    def physical(self, virtual: int) -> int:
        """Where `virtual` leads. Raises NoMemoryError."""
        try:
            walk = translate(self._memory, self._sregs, virtual, rflags=RFLAGS_AC)
        except ValueError as error:  # an address wider than there are
            raise NoMemoryError(str(error)) from None
        if walk.physical is None:
            raise NoMemoryError(walk.fault.reason if walk.fault else f"{virtual:#x} is not mapped")
        return walk.physical

    def pieces(self, virtual: int, size: int) -> Iterator[tuple[int, int]]:
        """The guest-physical (address, size) of each page's part of a range. Raises NoMemoryError on the way."""
        while size > 0:
            here = min(size, PAGE - virtual % PAGE)
            yield self.physical(virtual), here
            virtual, size = virtual + here, size - here

    def read(self, virtual: int, size: int) -> list[tuple[int, bytes]]:
        """Pieces of (guest-physical address, bytes), as far as there is memory. Raises NoMemoryError where none is."""
        found = []
        try:
            for gpa, here in self.pieces(virtual, size):
                found.append((gpa, self._memory.read(gpa, here)))
        except ValueError as error:
            if not found:
                raise NoMemoryError(str(error)) from None
        return found
