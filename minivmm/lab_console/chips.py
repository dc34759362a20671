"""The state of lab 08's devices: registers with the names of the datasheets, and no behaviour. That is the lab's.

Sources: PC16550D datasheet (National Semiconductor), "Registers"; MC146818 datasheet; IBM PC/AT Technical Reference,
"Keyboard Controller".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Serial:
    """A 16550A after its reset. What the guest sends is appended to `sent`."""

    ier: int = 0  # which interrupts are enabled, bits 0–3
    fcr: int = 0  # bit 0: the FIFOs are on; bits 6–7: the trigger level. 0 while they are off
    lcr: int = 0  # the format of a character; bit 7 is DLAB
    mcr: int = 0  # modem outputs, bits 0–3; bit 4 is loopback
    scr: int = 0  # scratch: a byte that means nothing
    divisor: int = 12
    fifo: list[int] = field(default_factory=list)  # received, the oldest first
    errors: int = 0  # bits 1–4 of LSR, until LSR is read
    deltas: int = 0  # bits 0–3 of MSR, until MSR is read
    thre: bool = False  # the transmitter has become empty, and nobody was told
    sent: bytearray = field(default_factory=bytearray)

    @property
    def dlab(self) -> bool:
        """Whether the divisor has the place of registers 0 and 1."""
        return bool(self.lcr & 0x80)


@dataclass
class Clock:
    """A real-time clock with its CMOS memory."""

    now: int = 0  # µs since 1970
    cost: int = 0  # µs that each access takes
    index: int = 0  # which register port 0x71 means
    a: int = 0x26  # register A without UIP: a chain of 32768 Hz
    b: int = 0x02  # register B: BCD, 24 hours
    flags: int = 0  # register C: bits 4–6, until it is read
    cmos: bytearray = field(default_factory=lambda: bytearray(128))

    @property
    def moment(self) -> datetime:
        """The time that is shown: whole seconds count."""
        return EPOCH + timedelta(microseconds=self.now)

    def store(self, value: int) -> None:
        """A write to port 0x71. Register B and the memory keep it; this clock can't be set."""
        if self.index == 0x0B:
            self.b = value
        else:
            self.cmos[self.index] = value


@dataclass
class Controller:
    """A keyboard controller without a keyboard. It starts as firmware leaves it."""

    config: int = 0x65  # the command byte: interrupt on, self test passed, no mouse, codes translated
    output: list[int] = field(default_factory=list)  # what waits at port 0x60
    expects: int = 0  # the command whose parameter comes next, or 0

    def read(self, port: int) -> int:
        """Port 0x64, the status, or port 0x60, the next byte of the output (0 where there is none)."""
        if port == 0x64:
            return bool(self.output) | self.config & 4
        return self.output.pop(0) if self.output else 0


@dataclass
class Pc:
    """The devices of one PC."""

    uart: Serial = field(default_factory=Serial)
    rtc: Clock = field(default_factory=Clock)
    keyboard: Controller = field(default_factory=Controller)
