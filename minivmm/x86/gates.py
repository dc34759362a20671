"""Gates: what stands in the IDT (and, for call gates, in the GDT): the way into a handler.

A gate names code by selector and offset. In long mode it has 16 bytes, a 64-bit offset, and IST, the number of a known
good stack to switch to.

Source: SDM vol. 3, "IDT Descriptors" and "64-Bit Mode IDT"; APM vol. 2, "Gate Descriptors".
"""

from __future__ import annotations

from dataclasses import dataclass

from minivmm.x86.descriptors import GATE_TYPES, SYSTEM_TYPES, DescriptorError

INTERRUPT_GATE = 14
TRAP_GATE = 15


@dataclass(frozen=True)
class Gate:
    """An interrupt, trap or call gate. `wide` is the 16-byte form of long mode; `ist` 1 … 7 picks a stack, 0 none."""

    offset: int
    selector: int
    type: int = INTERRUPT_GATE
    dpl: int = 0
    present: int = 1
    ist: int = 0
    wide: bool = True

    def encode(self) -> bytes:
        """The gate's 16 bytes, or 8 where it is not `wide`. Raises DescriptorError where a field does not fit."""
        offset_bits = 64 if self.wide else 32
        if not 0 <= self.offset < 1 << offset_bits:
            raise DescriptorError(f"the offset {self.offset:#x} does not fit in {offset_bits} bits")
        if self.type not in GATE_TYPES:
            raise DescriptorError(f"type {self.type} is not a gate: an interrupt gate is 14, a trap gate 15")
        limits = {"selector": 0xFFFF, "dpl": 3, "present": 1, "ist": 7 if self.wide else 0}
        for name, top in limits.items():
            if not 0 <= getattr(self, name) <= top:
                raise DescriptorError(f"{name} is {getattr(self, name)}, but it must lie between 0 and {top}")
        value = (
            (self.offset & 0xFFFF)
            | self.selector << 16
            | self.ist << 32
            | (self.type | self.dpl << 5 | self.present << 7) << 40
            | (self.offset >> 16 & 0xFFFF) << 48
        )
        return value.to_bytes(8, "little") + ((self.offset >> 32).to_bytes(8, "little") if self.wide else b"")

    @classmethod
    def decode(cls, data: bytes) -> Gate:
        """Reads the 8 or 16 bytes of a gate. Raises DescriptorError where they hold something else."""
        if len(data) not in (8, 16):
            raise DescriptorError(f"a gate has 8 bytes, or 16 in long mode, not {len(data)}")
        value = int.from_bytes(data[:8], "little")
        kind = value >> 40 & 15
        if value >> 44 & 1 or kind not in GATE_TYPES:
            raise DescriptorError(f"type {kind} with s={value >> 44 & 1} is not a gate")
        offset = (value & 0xFFFF) | (value >> 48) << 16 | int.from_bytes(data[8:12], "little") << 32
        return cls(
            offset=offset,
            selector=value >> 16 & 0xFFFF,
            type=kind,
            dpl=value >> 45 & 3,
            present=value >> 47 & 1,
            ist=value >> 32 & 7 if len(data) == 16 else 0,
            wide=len(data) == 16,
        )

    def describe(self) -> str:
        """The gate in words, such as "interrupt gate to 0x08:0x1000, ring 0"."""
        words = [f"{SYSTEM_TYPES[self.type]} to {self.selector:#04x}:{self.offset:#x}", f"ring {self.dpl}"]
        words += [f"stack IST{self.ist}"] if self.ist else []
        words += [] if self.present else ["not present"]
        return ", ".join(words)
