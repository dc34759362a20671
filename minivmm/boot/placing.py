"""Putting the parts of a kernel into guest memory, or saying in a sentence why they don't fit."""

from __future__ import annotations

from minivmm.boot import layout
from minivmm.boot.e820 import ram_of
from minivmm.boot.errors import BadImageError
from minivmm.memory import PAGE, GuestMemory, GuestMemoryError

Bytes = bytes | memoryview


def put(memory: GuestMemory, gpa: int, data: Bytes, what: str) -> None:
    """Writes `data` at `gpa`. Raises BadImageError, which calls it `what`, where there is no memory for it."""
    try:
        memory.write(gpa, data)
    except GuestMemoryError:
        end = max((slot.end for slot in memory.slots), default=0)
        raise BadImageError(
            f"{what[0].upper()}{what[1:]} needs memory up to {gpa + len(data):#x} and the guest has {end:#x}: "
            "give it more with --memory."
        ) from None


def high_memory_end(memory: GuestMemory) -> int:
    """Where the RAM ends that begins at 1 MiB. Raises BadImageError where there is none."""
    for ram in ram_of(memory):
        if ram.start == 0 and ram.stop > layout.HIGH_MEMORY:
            return min(ram.stop, layout.HOLE.start)
    raise BadImageError("A kernel needs more than 1 MiB of memory, from address 0 up: give it more with --memory.")


def check_room(memory: GuestMemory, start: int, end: int, what: str) -> None:
    """Raises BadImageError, which calls it `what`, unless `start` to `end` is RAM between 1 MiB and the hole."""
    if start < layout.HIGH_MEMORY:
        raise BadImageError(
            f"{what} wants to lie at {start:#x}: below 1 MiB are the tables that a kernel is handed, so it can't."
        )
    top = high_memory_end(memory)
    if end > top:
        advice = "no kernel may be that high" if end > layout.HOLE.start else "give it more with --memory"
        raise BadImageError(f"{what} needs memory up to {end:#x} and the guest has {top:#x}: {advice}.")


def put_high(memory: GuestMemory, data: Bytes, *, above: int, below: int, what: str) -> int:
    """Puts `data` as high as it goes under `below` and the end of RAM, page-aligned, not under `above`.

    High, because kernels unpack themselves upwards from where they are. Returns its address; raises BadImageError.
    """
    top = min(high_memory_end(memory), below)
    start = (top - len(data)) // PAGE * PAGE
    if start < above:
        raise BadImageError(
            f"{what} of {len(data):,} bytes doesn't fit between the kernel's end at {above:#x} and {top:#x}: "
            "give the guest more with --memory, or make it smaller."
        )
    put(memory, start, data, what)
    return start


def page_up(address: int) -> int:
    """`address`, rounded up to a multiple of the page size."""
    return -(-address // PAGE) * PAGE


class Notes:
    """A window of guest memory that fills up from the bottom with small structures that point to each other."""

    def __init__(self, memory: GuestMemory, window: range) -> None:
        self._memory = memory
        self._window = window
        self._next = window.start

    def add(self, data: bytes) -> int:
        """Puts `data` behind what is there, at a multiple of 8, and returns its address. Raises BadImageError when the
        window is full."""
        at = -(-self._next // 8) * 8
        if at + len(data) > self._window.stop:
            raise BadImageError(
                f"The command line or the list of modules is too long: {len(self._window):,} bytes is all there is."
            )
        put(self._memory, at, data, "what the kernel is told")
        self._next = at + len(data)
        return at
