"""The modem side of a 16550A: MCR drives its outputs, MSR shows its inputs, and loopback ties the ones to the others.

Source: PC16550D datasheet (National Semiconductor), 8.6.7 "Modem Control Register", 8.6.8 "Modem Status Register".
"""

from __future__ import annotations

from typing import Any

MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP = 0x01, 0x02, 0x04, 0x08, 0x10
MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = 0x10, 0x20, 0x40, 0x80
TERMINAL = MSR_DCD | MSR_DSR | MSR_CTS  # the far end: there, and ready


class Modem:
    """A terminal at the far end, which heeds flow control: once the guest has used DTR or RTS, it sends only while RTS
    is set. So what was typed before Linux opens the port is not lost in the driver's probing."""

    def __init__(self) -> None:
        self.mcr = 0
        self.deltas = 0  # the MSR bits that a read of MSR clears
        self._heeds_rts = False

    @property
    def loops(self) -> bool:
        return bool(self.mcr & MCR_LOOP)

    @property
    def gate(self) -> bool:
        """Whether the chip's interrupt reaches the line: on a PC, OUT2 opens the way, and loopback drops OUT2."""
        return self.mcr & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2

    @property
    def may_receive(self) -> bool:
        return not self.loops and (bool(self.mcr & MCR_RTS) or not self._heeds_rts)

    def control(self, value: int) -> None:
        """A write to MCR."""
        before = self._inputs()
        self.mcr = value & 0x1F
        self._heeds_rts = self._heeds_rts or bool(value & (MCR_DTR | MCR_RTS))
        after = self._inputs()
        changed = (before ^ after) & (MSR_CTS | MSR_DSR | MSR_DCD)
        self.deltas |= (changed | before & ~after & MSR_RI) >> 4  # of a ring only the end counts: TERI

    def status(self) -> int:
        """A read of MSR. Its changes are told once."""
        value, self.deltas = self._inputs() | self.deltas, 0
        return value

    def _inputs(self) -> int:
        if not self.loops:
            return TERMINAL
        # DTR comes back as DSR, RTS as CTS, OUT1 as RI, OUT2 as DCD.
        mcr = self.mcr
        return (mcr & MCR_DTR) << 5 | (mcr & MCR_RTS) << 3 | (mcr & MCR_OUT1) << 4 | (mcr & MCR_OUT2) << 4

    def save(self) -> dict[str, Any]:
        return {"mcr": self.mcr, "deltas": self.deltas, "heeds_rts": self._heeds_rts}

    def load(self, state: dict[str, Any]) -> None:
        self.mcr, self.deltas, self._heeds_rts = state["mcr"], state["deltas"], state["heeds_rts"]
