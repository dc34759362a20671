"""Wide accesses to registers that are one byte each: a word touches two neighbours, the lower address first.

Source: Intel 8086 Family User's Manual, "I/O Space": a 16-bit transfer to an 8-bit device becomes two bus cycles.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from minivmm.devices.window import Window


def read_bytes(read: Callable[[int], int], offset: int, size: int) -> int:
    """Reads `size` registers from `offset` up, each by `read(register)`, as one little-endian number."""
    if size == 1:
        return read(offset)
    return sum(read(offset + i) << 8 * i for i in range(size))


def write_bytes(write: Callable[[int, int], object], offset: int, size: int, value: int) -> None:
    """Writes the bytes of `value` to `size` registers from `offset` up, each by `write(register, byte)`."""
    if size == 1:
        write(offset, value & 0xFF)
        return
    for i in range(size):
        write(offset + i, value >> 8 * i & 0xFF)


def window(
    name: str, start: int, size: int, read: Callable[[int], int], write: Callable[[int, int], object], *state: Any
) -> Window:
    """A claim of `size` such registers from `start` up. `state` is `save` and `load`, where the window has any."""
    claim = range(start, start + size)
    return Window(name, claim, partial(read_bytes, read), partial(write_bytes, write), *state)
