"""Reading descriptors as the processor does, with the faults that bad ones cause.

Source: SDM vol. 3, "Segment Descriptors", "Code-Segment Descriptor" and table "Error Code".
"""

from __future__ import annotations

from dataclasses import dataclass

from minivmm.soft.processor import PROTECTION, GuestFault, Processor


@dataclass(frozen=True)
class Descriptor:
    """A segment descriptor of 8 bytes: its halves, and what they mean."""

    low: int
    high: int

    @property
    def base(self) -> int:
        return self.low >> 16 | (self.high & 0xFF) << 16 | self.high & 0xFF000000

    @property
    def limit(self) -> int:
        limit = self.low & 0xFFFF | self.high & 0xF0000
        return limit << 12 | 0xFFF if self.high & 1 << 23 else limit

    @property
    def dpl(self) -> int:
        return self.high >> 13 & 3

    @property
    def present(self) -> bool:
        return bool(self.high & 1 << 15)

    @property
    def is_segment(self) -> bool:
        return bool(self.high & 1 << 12)

    @property
    def is_code(self) -> bool:
        return self.is_segment and bool(self.high & 1 << 11)

    @property
    def conforming(self) -> bool:
        return bool(self.high & 1 << 10)

    @property
    def is_writable_data(self) -> bool:
        return self.is_segment and not self.is_code and bool(self.high & 1 << 9)


def read_descriptor(cpu: Processor, selector: int, *, external: int, fault: int = PROTECTION) -> Descriptor:
    """The descriptor that `selector` names in the GDT or LDT. Raises GuestFault(fault) with the selector's error code
    where it is null or beyond the table."""
    error = selector & ~3 & 0xFFFF | external
    if not selector & ~3:
        raise GuestFault(fault, external)
    table = cpu.env.ldt if selector & 4 else cpu.env.gdt
    offset = selector & ~7
    if offset + 7 > table.limit:
        raise GuestFault(fault, error)
    value = cpu.read_int(table.base + offset, 8)
    return Descriptor(value & 0xFFFFFFFF, value >> 32)
