"""A 16550 serial port: what the guest writes is the console, what is typed is its input.

Polled operation: the divisor latch, line and modem status, scratch, loopback and a receive queue are here; it has no
interrupt line yet, so the identification register always says that none is pending.

Source: PC16550D datasheet (National Semiconductor), section 8.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

LCR_DLAB = 0x80  # registers 0 and 1 are the divisor while this is set
MCR_LOOPBACK = 0x10
LSR_DATA_READY = 0x01
LSR_THR_EMPTY = 0x20  # the holding register can take a byte
LSR_IDLE = 0x40  # and the shift register is empty too
IIR_NONE = 0x01
IIR_FIFOS_ON = 0xC0
FCR_ENABLE, FCR_CLEAR_RX = 0x01, 0x02
MSR_PRESENT = 0xB0  # DCD, DSR, CTS: a terminal is connected and ready


class Uart:
    """`sink` gets every byte that the guest sends; `feed` puts bytes where the guest can read them.

    At reset LSR says "ready to send". A VMM that leaves it 0 makes Linux wait for each character (about 15 s a boot).
    """

    def __init__(self, sink: Callable[[bytes], object], base: int = 0x3F8, name: str = "16550 UART") -> None:
        self.name = name
        self.claim = range(base, base + 8)
        self._sink = sink
        self._received: deque[int] = deque()
        self._divisor = 0x000C  # 9600 baud; nothing depends on it
        self._ier = self._lcr = self._mcr = self._scratch = 0
        self._fifos = False

    def feed(self, data: bytes) -> None:
        """Queues bytes as if they came in over the line."""
        self._received.extend(data)

    def read(self, offset: int, size: int) -> int:
        return sum(self._read(offset + i) << 8 * i for i in range(size))

    def write(self, offset: int, size: int, value: int) -> None:
        for i in range(size):
            self._write(offset + i, value >> 8 * i & 0xFF)

    def _read(self, register: int) -> int:
        if self._lcr & LCR_DLAB and register in (0, 1):
            return self._divisor >> 8 * register & 0xFF
        match register:
            case 0:  # RBR
                return self._received.popleft() if self._received else 0
            case 1:  # IER
                return self._ier
            case 2:  # IIR
                return IIR_NONE | (IIR_FIFOS_ON if self._fifos else 0)
            case 3:  # LCR
                return self._lcr
            case 4:  # MCR
                return self._mcr
            case 5:  # LSR: we send at once, so there is always room
                return LSR_THR_EMPTY | LSR_IDLE | (LSR_DATA_READY if self._received else 0)
            case 6:  # MSR; in loopback, the four outputs of MCR come back as the four inputs
                return _looped(self._mcr) if self._mcr & MCR_LOOPBACK else MSR_PRESENT
            case _:  # SCR
                return self._scratch

    def _write(self, register: int, value: int) -> None:
        if self._lcr & LCR_DLAB and register in (0, 1):
            shift = 8 * register
            self._divisor = self._divisor & ~(0xFF << shift) | value << shift
            return
        match register:
            case 0:  # THR
                if self._mcr & MCR_LOOPBACK:
                    self._received.append(value)
                else:
                    self._sink(bytes((value,)))
            case 1:  # IER: only four sources exist
                self._ier = value & 0x0F
            case 2:  # FCR
                self._fifos = bool(value & FCR_ENABLE)
                if value & FCR_CLEAR_RX:
                    self._received.clear()
            case 3:
                self._lcr = value
            case 4:
                self._mcr = value & 0x1F
            case 7:
                self._scratch = value

    def save(self) -> dict[str, Any]:
        return {
            "received": list(self._received),
            "divisor": self._divisor,
            "registers": [self._ier, self._lcr, self._mcr, self._scratch],
            "fifos": self._fifos,
        }

    def load(self, state: dict[str, Any]) -> None:
        self._received = deque(state["received"])
        self._divisor = state["divisor"]
        self._ier, self._lcr, self._mcr, self._scratch = state["registers"]
        self._fifos = state["fifos"]


def _looped(mcr: int) -> int:
    # DTR→DSR, RTS→CTS, OUT1→RI, OUT2→DCD (datasheet 8.6.7)
    return (mcr & 1) << 5 | (mcr & 2) << 3 | (mcr & 4) << 4 | (mcr & 8) << 4
