"""Guest-physical memory: the slots, and which of their pages were written (native/memory.c)."""

from __future__ import annotations

from typing import Any

from minivmm.soft.plain.constants import PAGE
from minivmm.soft.plain.cpu import Cpu, ffi


def slot_at(cpu: Cpu, gpa: int) -> Any | None:
    """The slot that `gpa` lies in, as a `struct soft_slot`."""
    c = cpu.c
    if c.last_slot < c.slot_count:
        slot = c.slots[c.last_slot]
        if 0 <= gpa - slot.gpa < slot.size:
            return slot
    for i in range(c.slot_count):
        slot = c.slots[i]
        if 0 <= gpa - slot.gpa < slot.size:
            c.last_slot = i
            return slot
    return None


def host_at(cpu: Cpu, gpa: int) -> Any | None:
    """The host's pointer to the byte at `gpa`."""
    slot = slot_at(cpu, gpa)
    return slot.host + (gpa - slot.gpa) if slot is not None else None


def page_at(cpu: Cpu, gpa: int) -> bytes | None:
    """A copy of the page that begins at `gpa`."""
    host = host_at(cpu, gpa)
    return None if host is None else ffi.buffer(host, PAGE)[:]


def mark_dirty(slot: Any, gpa: int) -> None:
    if slot.dirty:
        page = (gpa - slot.gpa) // PAGE
        slot.dirty[page // 8] |= 1 << page % 8


def is_dirty(slot: Any, gpa: int) -> bool:
    page = (gpa - slot.gpa) // PAGE
    return not slot.dirty or bool(slot.dirty[page // 8] >> page % 8 & 1)
