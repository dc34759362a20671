"""The 82093AA IOAPIC: 24 pins, each with an entry that says which message to send when it is raised.

Edge-triggered, a pin sends one message a rise. Level-triggered, it sends one and then waits (remote IRR) until the
processor's end of interrupt comes back; if the pin is still high, it sends the next.

Source: Intel 82093AA datasheet (290566), section 3, "Register description".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minivmm.devices.msi import LOWEST, Message

PINS = 24
BASE = 0xFEC0_0000
INDEX, DATA = 0x00, 0x10  # the two registers in the window; all others are behind them
REG_ID, REG_VERSION, REG_ARBITRATION, REG_TABLE = 0, 1, 2, 0x10
VERSION = 0x11 | (PINS - 1) << 16

LOGICAL = 1 << 11
DELIVERY_STATUS = 1 << 12  # read-only: we send at once, so it is always 0
REMOTE_IRR = 1 << 14  # read-only
LEVEL = 1 << 15
MASKED = 1 << 16
DEST_SHIFT = 56


def message_of(entry: int) -> Message:
    """The message that a redirection entry sends. `.to_msi()` makes it what KVM_SIGNAL_MSI and MSI routes take."""
    return Message(
        vector=entry & 0xFF,
        dest=entry >> DEST_SHIFT,
        logical=bool(entry & LOGICAL),
        delivery_mode=entry >> 8 & 7,
        level_triggered=bool(entry & LEVEL),
    )


def _nobody(_: int) -> None:
    pass


class IoApic:
    """`deliver` sends a message and returns how many processors took it. `on_eoi` hears of each pin whose interrupt
    ended, edge-triggered ones too."""

    name = "IOAPIC"

    def __init__(
        self, deliver: Callable[[Message], int], on_eoi: Callable[[int], object] = _nobody, base: int = BASE
    ) -> None:
        self.claim = range(base, base + 0x100)
        self.deliver = deliver
        self.on_eoi = on_eoi
        self.identity = 0
        self.index = 0
        self.table = [MASKED] * PINS
        self.lines = 0  # one bit a pin: high
        self.sent = 0  # one bit a pin: high, edge-triggered, and its message is on its way

    def set_line(self, pin: int, level: bool) -> int:
        """Drives a pin. Returns how many processors took a message, 0 where an edge was there already, -1 while the
        pin is masked or waits for an end of interrupt, and 1 for a fall."""
        bit = 1 << pin
        if not level:
            self.lines &= ~bit
            self.sent &= ~bit
            return 1
        if self.lines & bit and not self.table[pin] & LEVEL:
            self.sent &= ~bit  # an edge that was not sent: KVM shows it in its state
            return 0
        self.lines |= bit
        return self._send(pin)

    def _send(self, pin: int) -> int:
        entry = self.table[pin]
        if entry & MASKED or (entry & LEVEL and entry & REMOTE_IRR):
            return -1
        taken = self.deliver(message_of(entry))
        if not entry & LEVEL:
            self.sent |= 1 << pin
        elif taken > 0 and message_of(entry).delivery_mode <= LOWEST:
            self.table[pin] |= REMOTE_IRR  # only these come back with an end of interrupt
        return taken

    def eoi(self, vector: int, level_triggered: bool = True) -> None:
        """A processor ended the interrupt `vector` (a broadcast: it doesn't know whose it was). `level_triggered` is
        how it had been accepted."""
        for pin, entry in enumerate(self.table):
            if entry & 0xFF != vector:
                continue
            self.on_eoi(pin)
            if level_triggered and self.table[pin] & LEVEL:
                self.table[pin] &= ~REMOTE_IRR
                if self.lines >> pin & 1:
                    self._send(pin)

    # ---- the window: an index and what it points at ----

    def read(self, offset: int, size: int) -> int:
        if offset == DATA:
            return self._read_register(self.index)
        return self.index if offset == INDEX else 0

    def write(self, offset: int, size: int, value: int) -> None:
        if offset == INDEX:
            self.index = value & 0xFF
        elif offset == DATA:
            self._write_register(self.index, value & 0xFFFF_FFFF)

    def _read_register(self, register: int) -> int:
        if register in (REG_ID, REG_ARBITRATION):
            return self.identity << 24
        if register == REG_VERSION:
            return VERSION
        pin, high = divmod(register - REG_TABLE, 2)
        if 0 <= pin < PINS:
            return self.table[pin] >> 32 * high & 0xFFFF_FFFF
        return 0xFFFF_FFFF

    def _write_register(self, register: int, value: int) -> None:
        if register == REG_ID:
            self.identity = value >> 24 & 0xF
        pin, high = divmod(register - REG_TABLE, 2)
        if not 0 <= pin < PINS:
            return
        old = self.table[pin]
        if high:
            entry = value << 32 | old & 0xFFFF_FFFF
        else:
            kept = old & REMOTE_IRR
            entry = old & ~0xFFFF_FFFF | value & ~(REMOTE_IRR | DELIVERY_STATUS) | kept
        if not entry & LEVEL:
            entry &= ~REMOTE_IRR  # how Linux clears a stuck one: to edge and back
        self.table[pin] = entry
        if entry & LEVEL and self.lines >> pin & 1:
            self._send(pin)  # it was raised while masked

    # ---- state ----

    def save(self) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "index": self.index,
            "table": list(self.table),
            "lines": self.lines,
            "sent": self.sent,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.identity, self.index = state["identity"], state["index"]
        self.table = list(state["table"])
        self.lines, self.sent = state["lines"], state["sent"]
