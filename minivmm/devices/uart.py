"""A 16550A serial port: what the guest writes is the console, what is typed is its input.

No time passes on our line: a byte is sent the moment it is written, so the transmitter is always idle; and a byte that
came in below the trigger level has already waited for the character time-out.

Source: PC16550D datasheet (National Semiconductor), section 8; register and bit names are the datasheet's.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from minivmm.devices.bytewise import read_bytes, write_bytes
from minivmm.devices.uart_modem import Modem
from minivmm.devices.uart_receiver import BREAK, Receiver

THR = 0
IER_ERBFI, IER_ETBEI, IER_ELSI, IER_EDSSI = 0x01, 0x02, 0x04, 0x08  # data, transmitter empty, line status, modem
IIR_RLS, IIR_RDA, IIR_TIMEOUT, IIR_THRE, IIR_MODEM, IIR_NONE = 0x06, 0x04, 0x0C, 0x02, 0x00, 0x01
IIR_FIFOS_ON = 0xC0
LCR_DLAB = 0x80  # registers 0 and 1 are the divisor while this is set
LSR_IDLE = 0x60  # THRE and TEMT: holding and shift register are empty


def _unconnected(_: bool) -> None:
    pass


class Uart:
    """`sink` gets every byte that the guest sends, `feed` queues bytes for it to read, `set_line` is the interrupt.

    At reset LSR says "ready to send". A VMM that leaves it 0 makes Linux wait for each character (about 15 s a boot).

    Any thread may call it. `sink` is called without the lock, so it may wait for a thread that feeds.
    """

    def __init__(
        self,
        sink: Callable[[bytes], object],
        base: int = 0x3F8,
        name: str = "16550 UART",
        set_line: Callable[[bool], object] = _unconnected,
    ) -> None:
        self.name = name
        self.claim = range(base, base + 8)
        self._sink = sink
        self._set_line = set_line
        self._lock = Lock()
        self._receiver = Receiver()
        self._modem = Modem()
        self._divisor = 0x000C  # 9600 baud; nothing depends on it, nor on the word length in LCR
        self._ier = self._lcr = self._scratch = 0
        self._thr_emptied = False  # the THRE interrupt: LSR says so for ever, IIR once
        self._level = False

    def feed(self, data: bytes) -> None:
        """Queues bytes as if they came in over the line."""
        with self._lock:
            self._receiver.line.extend(data)
            self._update()

    @property
    def backlog(self) -> int:
        """How many bytes wait on the line for the guest to take them."""
        return len(self._receiver.line)

    def feed_break(self) -> None:
        """Queues a break: the line held low for longer than a character. Linux takes it for the SysRq key."""
        with self._lock:
            self._receiver.line.append(BREAK)
            self._update()

    def read(self, offset: int, size: int) -> int:
        with self._lock:
            return read_bytes(self._read, offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        write_bytes(self._write, offset, size, value)

    def _read(self, register: int) -> int:
        if self._lcr & LCR_DLAB and register in (0, 1):
            return self._divisor >> 8 * register & 0xFF
        match register:
            case 0:  # RBR
                self._fill()
                value = self._receiver.take()
            case 2:  # IIR
                value = self._identify()
            case 5:  # LSR
                self._fill()
                value = LSR_IDLE | self._receiver.status()
            case 6:  # MSR
                value = self._modem.status()
            case _:  # IER, LCR, MCR, SCR: what was written
                return {1: self._ier, 3: self._lcr, 4: self._modem.mcr, 7: self._scratch}[register]
        self._update()
        return value

    def _write(self, register: int, value: int) -> None:
        if register == THR and not self._lcr & LCR_DLAB and not self._modem.loops:
            # The byte is out before THRE says so: else another vCPU's next byte could overtake it.
            self._sink(bytes((value,)))
            if not self._ier & IER_ETBEI:
                return  # nobody waits for it, and enabling the interrupt raises it anyway
        with self._lock:
            self._write_register(register, value)
            self._update()

    def _write_register(self, register: int, value: int) -> None:
        if self._lcr & LCR_DLAB and register in (0, 1):
            self._divisor = self._divisor & ~(0xFF << 8 * register) | value << 8 * register
            return
        match register:
            case 0:  # THR, which empties at once
                if self._modem.loops:
                    self._receiver.loop_back(value)
                self._thr_emptied = True
            case 1:  # IER
                if value & ~self._ier & IER_ETBEI:
                    self._thr_emptied = True  # enabled while THR is empty, which it always is
                self._ier = value & 0x0F
            case 2:  # FCR
                self._receiver.control(value)
            case 3:  # LCR
                self._lcr = value
            case 4:  # MCR
                self._modem.control(value)
            case 7:  # SCR
                self._scratch = value

    def _fill(self) -> None:
        """Receives what waits on the line. Called only when someone listens, a polling guest or an enabled interrupt:
        then a FIFO that a driver resets while it probes has lost nothing."""
        if self._modem.may_receive:
            self._receiver.fill()

    def _source(self) -> int:
        """What waits, the highest priority first, as IIR has it (8.6.6, table II)."""
        receiver = self._receiver
        if self._ier & IER_ELSI and receiver.errors:
            return IIR_RLS
        if self._ier & IER_ERBFI and receiver.fifo:
            return IIR_RDA if receiver.at_trigger else IIR_TIMEOUT
        if self._ier & IER_ETBEI and self._thr_emptied:
            return IIR_THRE
        if self._ier & IER_EDSSI and self._modem.deltas:
            return IIR_MODEM
        return IIR_NONE

    def _identify(self) -> int:
        if self._ier & IER_ERBFI:
            self._fill()
        source = self._source()
        if source == IIR_THRE:
            self._thr_emptied = False
        return source | (IIR_FIFOS_ON if self._receiver.has_fifos else 0)

    def _update(self) -> None:
        gate = self._modem.gate
        if gate and self._ier & IER_ERBFI:
            self._fill()
        level = gate and self._source() != IIR_NONE
        if level is not self._level:
            self._level = level
            self._set_line(level)

    _PLAIN = ("divisor", "ier", "lcr", "scratch", "thr_emptied")

    def save(self) -> dict[str, Any]:
        with self._lock:
            plain = {name: getattr(self, f"_{name}") for name in self._PLAIN}
            return {"receiver": self._receiver.save(), "modem": self._modem.save()} | plain

    def load(self, state: dict[str, Any]) -> None:
        """Takes on a saved state, and drives the line as it was."""
        with self._lock:
            self._receiver.load(state["receiver"])
            self._modem.load(state["modem"])
            for name in self._PLAIN:
                setattr(self, f"_{name}", state[name])
            self._update()
