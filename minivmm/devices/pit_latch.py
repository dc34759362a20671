"""The port of one 8254 counter: 16-bit counts through an 8-bit window, and what was latched to be read.

Source: Intel 8254 datasheet (231164), "Programming the 8254", "Read Operations".
"""

from __future__ import annotations

from typing import Any

from minivmm.devices.pit_channel import BOTH, HIGH, Channel


class Port:
    """Reads and writes go to low or high byte, or to both in turn, as the control word said."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.low: int | None = None  # the low byte of a count whose high byte is to come
        self.read_high = False  # the next read gives the high byte
        self.count = 0  # as latched; `count_bytes` says what of it is still to be read: 0, LOW, HIGH or BOTH
        self.count_bytes = 0
        self.status: int | None = None

    def program(self, mode: int, bcd: bool, access: int) -> None:
        """A control word: everything starts afresh."""
        self.channel.program(mode, bcd, access)
        self.low = self.status = None
        self.read_high = False
        self.count_bytes = 0

    def write(self, value: int, tick: int) -> bool:
        """A byte of a count. True: the counter was told."""
        match self.channel.access:
            case 1:  # LOW
                self.channel.write(value, tick)
            case 2:  # HIGH
                self.channel.write(value << 8, tick)
            case _ if self.low is None:
                self.low = value
                if self.channel.mode != 0:
                    return False
                self.channel.stop()  # mode 0: "writing the first byte disables counting"
            case _:
                self.channel.write(value << 8 | self.low, tick)
                self.low = None
        return True

    def read(self, tick: int) -> int:
        """The next byte: a latched status first, then a latched count, else the count as it is."""
        if self.status is not None:
            status, self.status = self.status, None
            return status
        if self.count_bytes:
            high = self.count_bytes == HIGH
            self.count_bytes = HIGH if self.count_bytes == BOTH else 0
            return self.count >> 8 * high & 0xFF
        access = self.channel.access
        high = self.read_high if access == BOTH else access == HIGH
        self.read_high = access == BOTH and not high
        self.channel.settle(tick)
        return self.channel.value(tick) >> 8 * high & 0xFF

    def latch_count(self, tick: int) -> None:
        """Freezes the count until it is read; a second latch before that is ignored."""
        if not self.count_bytes:
            self.channel.settle(tick)
            self.count, self.count_bytes = self.channel.value(tick), self.channel.access

    def latch_status(self, tick: int) -> None:
        """Freezes the status byte until it is read: OUT, null count, and the control word."""
        if self.status is None:
            channel = self.channel
            channel.settle(tick)
            self.status = (
                channel.output(tick) << 7
                | channel.null_count(tick) << 6
                | channel.access << 4
                | channel.mode << 1
                | channel.bcd
            )

    def save(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "channel"}

    def load(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
