"""The memory map: which guest-physical addresses are RAM that a kernel may use.

It is called after the BIOS call that used to give it (INT 15h, AX=E820h). Linux finds it in the zero page; multiboot
and PVH have the same types in a form of their own.

Source: ACPI specification, "System Address Map Interfaces".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from minivmm.boot import layout
from minivmm.memory import GuestMemory

RAM, RESERVED = 1, 2


@dataclass(frozen=True)
class Region:
    """Guest-physical addresses from `start` up to, not including, `end`; `kind` is RAM or RESERVED."""

    start: int
    end: int
    kind: int

    @property
    def size(self) -> int:
        return self.end - self.start

    def pack(self) -> bytes:
        """The 20 bytes of an entry: base, length, type."""
        return struct.pack("<QQI", self.start, self.size, self.kind)


def ram_of(memory: GuestMemory) -> list[range]:
    """The ranges that the machine gave its guest as RAM, in order; neighbours are joined."""
    found: list[range] = []
    for slot in memory.slots:
        if slot.name != "ram" or slot.read_only:
            continue  # a ROM, or a window shared with somebody: not the kernel's to use
        if found and found[-1].stop == slot.gpa:
            found[-1] = range(found[-1].start, slot.end)
        else:
            found.append(range(slot.gpa, slot.end))
    return found


def memory_map(ram: Iterable[range]) -> list[Region]:
    """The map of a PC with this RAM, in order: the last KiB of base memory and the BIOS area are the firmware's.

    From 640 KiB up to the BIOS area, where a PC has its display, nothing is listed, whatever is there.
    """
    reserved = [
        Region(layout.EBDA, layout.BASE_MEMORY_END, RESERVED),
        Region(layout.BIOS_AREA, layout.HIGH_MEMORY, RESERVED),
    ]
    usable = []
    for each in ram:
        for start, end in ((0, layout.EBDA), (layout.HIGH_MEMORY, 1 << 64)):
            low, high = max(each.start, start), min(each.stop, end)
            if low < high:
                usable.append(Region(low, high, RAM))
    return sorted(usable + reserved, key=lambda region: region.start)
