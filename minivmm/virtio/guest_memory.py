"""Guest memory as a device sees it: addresses that a guest wrote down, none of them to be trusted.

Everything that a device reads or writes in the guest goes through the two functions here. They give views of the
memory itself, so that a disk can read straight into it; a view never reaches beyond its slot.
"""

from __future__ import annotations

from typing import Protocol

from minivmm.virtio.errors import DriverError


class Slot(Protocol):
    """One range of guest memory, as in `minivmm.memory.MemorySlot`."""

    @property
    def gpa(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def read_only(self) -> bool: ...
    @property
    def data(self) -> memoryview: ...


class GuestMemory(Protocol):
    """What a device needs of guest memory; `minivmm.memory.GuestMemory` has it."""

    def slot_at(self, gpa: int) -> Slot | None:
        """The slot that `gpa` lies in, or None in a hole."""
        ...


def views(memory: GuestMemory, gpa: int, size: int, *, writable: bool) -> list[memoryview]:
    """The `size` bytes at `gpa`, one view a slot. Raises DriverError where part of them isn't there to be used so.

    A device must not write ROM either: DMA would be the hole in the fence around it. Views that aren't for writing
    are read-only, so that a device can't break 2.7.5.1, "a device MUST NOT write to a device-readable buffer".
    """
    found = []
    while size:  # once, as a rule: a range over two slots is rare
        slot = memory.slot_at(gpa)
        if slot is None:
            raise DriverError(f"{gpa:#x} is not guest memory")
        if writable and slot.read_only:
            raise DriverError(f"{gpa:#x} is read-only memory, and the device is to write there")
        start, here = gpa - slot.gpa, min(size, slot.end - gpa)
        view = slot.data[start : start + here]
        found.append(view if writable else view.toreadonly())
        gpa += here
        size -= here
    return found


def ring(memory: GuestMemory, gpa: int, size: int, *, alignment: int, writable: bool, what: str) -> memoryview:
    """The `size` bytes at `gpa` as one view: a part of a queue. Raises DriverError, which names it by `what`.

    Queue parts are "physically-contiguous" (2.7); we want them in one slot, so that a field can be read in one access.
    """
    if gpa % alignment:
        raise DriverError(f"the {what} at {gpa:#x} is not aligned to {alignment} bytes")
    try:
        pieces = views(memory, gpa, size, writable=writable)
    except DriverError as error:
        raise DriverError(f"the {what} at {gpa:#x} doesn't lie in guest memory: {error}") from None
    if len(pieces) != 1:
        raise DriverError(f"the {what} at {gpa:#x} doesn't lie within one memory slot")
    return pieces[0]
