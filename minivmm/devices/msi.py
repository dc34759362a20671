"""An interrupt as a message: what an IOAPIC, a PCI device or a processor sends to the local APICs.

Source: Intel SDM vol. 3, "Message Signalled Interrupts" (address and data), "Interrupt Command Register" (the modes).
"""

from __future__ import annotations

from typing import NamedTuple

# Delivery modes: bits 10:8 of a redirection entry, of MSI data, of the ICR and of the LVT.
FIXED, LOWEST, SMI, NMI, INIT, STARTUP, EXTINT = 0, 1, 2, 4, 5, 6, 7

ADDRESS = 0xFEE0_0000  # bits 31:20 say "this write is an interrupt"


class Message(NamedTuple):
    """One interrupt message. `dest` is an APIC ID, or a set of them where `logical`; `level_triggered` says that the
    processor's end of interrupt goes back to the IOAPIC; `level` False is the de-assertion of an INIT."""

    vector: int
    dest: int
    logical: bool = False
    delivery_mode: int = FIXED
    level_triggered: bool = False
    level: bool = True

    @classmethod
    def from_msi(cls, address: int, data: int) -> Message:
        """The message of an MSI write. The redirection hint (address bit 3) asks for lowest priority."""
        mode = data >> 8 & 7
        if mode == FIXED and address & 8:
            mode = LOWEST
        return cls(
            vector=data & 0xFF,
            dest=address >> 12 & 0xFF,
            logical=bool(address & 4),
            delivery_mode=mode,
            level_triggered=bool(data & 0x8000),
        )

    def to_msi(self) -> tuple[int, int]:
        """Address and data that send this message. Destinations have 8 bits here."""
        address = ADDRESS | (self.dest & 0xFF) << 12 | self.logical << 2
        data = self.vector | self.delivery_mode << 8 | self.level << 14 | self.level_triggered << 15
        return address, data
