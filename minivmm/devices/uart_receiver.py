"""The receiving half of a 16550A: RBR or the 16-byte FIFO, and the line that it is fed from.

An entry of the FIFO is a byte with, above it, the LSR bits of its errors. Source: PC16550D datasheet (National
Semiconductor), 8.6.3 "Line Status Register", 8.6.5 "FIFO Control Register", 8.7 "FIFO Interrupt Mode Operation".
"""

from __future__ import annotations

from collections import deque
from typing import Any

LSR_DR, LSR_OE, LSR_PE, LSR_FE, LSR_BI, LSR_FIFO_ERROR = 0x01, 0x02, 0x04, 0x08, 0x10, 0x80
FCR_ENABLE, FCR_CLEAR_RECEIVER, FCR_TRIGGER = 0x01, 0x02, 0xC0
FIFO_SIZE = 16
TRIGGER_LEVELS = 1, 4, 8, 14  # by FCR bits 7 and 6
BREAK = LSR_BI << 8


class Receiver:
    """What comes in waits in `line`, on the host's side, until `fill` finds room for it. `line` has no end."""

    def __init__(self) -> None:
        self.line: deque[int] = deque()
        self.fifo: deque[int] = deque()
        self.fcr = 0
        self.errors = 0  # the LSR bits that a read of LSR clears

    @property
    def has_fifos(self) -> bool:
        return bool(self.fcr & FCR_ENABLE)

    @property
    def capacity(self) -> int:
        return FIFO_SIZE if self.has_fifos else 1

    @property
    def at_trigger(self) -> bool:
        """Whether there is data enough for an interrupt. Below it, a FIFO with something in it is a time-out."""
        return len(self.fifo) >= (TRIGGER_LEVELS[self.fcr >> 6] if self.has_fifos else 1)

    def control(self, value: int) -> None:
        """A write to FCR. Turning the FIFOs on or off empties them; without bit 0 no other bit is programmed."""
        enable = value & FCR_ENABLE
        if enable != self.fcr & FCR_ENABLE or (enable and value & FCR_CLEAR_RECEIVER):
            self.fifo.clear()
        self.fcr = value & (FCR_ENABLE | FCR_TRIGGER) if enable else 0

    def fill(self) -> None:
        """Receives from the line as far as there is room. What finds none stays there: it is not overrun."""
        while self.line and len(self.fifo) < self.capacity:
            self._arrive(self.line.popleft())

    def loop_back(self, value: int) -> None:
        """A byte from our own transmitter, which can't be made to wait: here there are overruns."""
        if len(self.fifo) == self.capacity:
            self.errors |= LSR_OE
            if self.has_fifos:
                return  # a full FIFO keeps what it has; RBR is overwritten
            self.fifo.clear()
        self._arrive(value)

    def take(self) -> int:
        """A read of RBR: the next byte, or 0 where there is none."""
        value = self.fifo.popleft() if self.fifo else 0
        self._reveal()
        return value & 0xFF

    def status(self) -> int:
        """The receiver's bits of LSR. Its errors are told once."""
        status = self.errors | (LSR_DR if self.fifo else 0)
        if self.has_fifos and (status & (LSR_PE | LSR_FE | LSR_BI) or any(entry >> 8 for entry in self.fifo)):
            status |= LSR_FIFO_ERROR
        self.errors = 0
        return status

    def _arrive(self, entry: int) -> None:
        self.fifo.append(entry)
        self._reveal()

    def _reveal(self) -> None:
        # A character's errors show in LSR when the character has come to the top of the FIFO.
        if self.fifo:
            self.errors |= self.fifo[0] >> 8
            self.fifo[0] &= 0xFF

    def save(self) -> dict[str, Any]:
        return {"line": list(self.line), "fifo": list(self.fifo), "fcr": self.fcr, "errors": self.errors}

    def load(self, state: dict[str, Any]) -> None:
        self.line, self.fifo = deque(state["line"]), deque(state["fifo"])
        self.fcr, self.errors = state["fcr"], state["errors"]
