"""The real-time clock of a PC and the CMOS memory beside it: ports 0x70 (which register) and 0x71 (its value).

Time comes from a divider chain at 32768 Hz: a second is 32768 ticks, and the periodic interrupt is one of its taps.
Nothing runs in the background: a look at the machine's clock tells what must have happened since the last look.

Source: Motorola MC146818 datasheet; for the PC's use of the memory, IBM PC/AT Technical Reference, "Real-Time Clock/
CMOS RAM Information", and Ralf Brown's Interrupt List, CMOS.LST.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any

from minivmm.devices.bytewise import read_bytes, write_bytes
from minivmm.devices.rtc_calendar import REGISTERS, decode, encode, next_alarm
from minivmm.devices.rtc_chain import Chain, period
from minivmm.devices.rtc_memory import cmos_memory

A_UIP, A_RATE, A_HOLD = 0x80, 0x0F, 0x60  # divider bits 11x hold the chain at zero
B_SET, B_UIE = 0x80, 0x10
C_IRQF, C_PF, C_AF, C_UF = 0x80, 0x40, 0x20, 0x10  # register B enables each at the same place
D_VALID = 0x80  # the battery is good


class Rtc:
    """Starts at `unix_time()` (ns since 1970) and goes by `now`, the machine's clock in ns. `set_line` is IRQ8.

    `low_memory` and `high_memory` are the RAM below and above 4 GiB, in bytes. `nmi_disabled` is what the guest wants
    with bit 7 of port 0x70. The owner calls `advance` at `next_event`; any thread may.
    """

    name = "RTC"
    claim = range(0x70, 0x72)

    def __init__(
        self,
        set_line: Callable[[bool], object],
        now: Callable[[], int],
        unix_time: Callable[[], int] = time.time_ns,
        *,
        low_memory: int = 0,
        high_memory: int = 0,
    ) -> None:
        self.nmi_disabled = False
        self._set_line = set_line
        self._now = now
        self._lock = Lock()
        self._index = 0x0D
        self._a, self._b, self._c = 0x26, 0x02, 0  # 32768 Hz, taps at 1024 Hz; BCD, 24 hours
        self._cmos = cmos_memory(low_memory, high_memory)  # the alarm too
        self._seen = now()  # up to here, register C knows what happened
        self._chain = Chain(self._seen, unix_time())
        self._frozen: dict[int, int] | None = None  # the time registers while SET holds updates back

    def read(self, offset: int, size: int) -> int:
        with self._lock:
            return read_bytes(self._read_port, offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        with self._lock:
            write_bytes(self._write_port, offset, size, value)

    def _read_port(self, port: int) -> int:
        if port == 0:
            return 0xFF  # the index can't be read
        match self._index:
            case 0x0A:
                return self._a | (A_UIP if not self._frozen and self._chain.updating(self._now()) else 0)
            case 0x0B:
                return self._b
            case 0x0C:
                return self._read_flags()
            case 0x0D:
                return D_VALID
            case index if index in REGISTERS:
                return self._time()[index]
            case index:
                return self._cmos[index]

    def _write_port(self, port: int, value: int) -> None:
        if port == 0:
            self._index, self.nmi_disabled = value & 0x7F, bool(value & 0x80)
            return
        match self._index:
            case 0x0A:
                self._write_a(value & 0x7F)
            case 0x0B:
                self._write_b(value)
            case index if index in REGISTERS:
                self._write_time(self._time() | {index: value})
            case index:  # an alarm or memory; what is written to C and D is never seen
                self._catch_up()  # the alarm as it was may have gone off
                self._cmos[index] = value

    def _time(self) -> dict[int, int]:
        return encode(self._chain.seconds(self._now()), self._b) if self._frozen is None else self._frozen

    def _write_time(self, registers: dict[int, int]) -> None:
        self._catch_up()
        if self._frozen is None:
            self._chain.set(self._seen, decode(registers, self._b))
        else:
            self._frozen = registers

    def _write_a(self, value: int) -> None:
        self._catch_up()
        hold = value & A_HOLD == A_HOLD
        if hold is not self._chain.held:
            (self._chain.hold if hold else self._chain.release)(self._seen)
        self._a = value

    def _write_b(self, value: int) -> None:
        self._catch_up()
        if value & B_SET:
            self._frozen = self._time()
            value &= ~B_UIE  # there will be no updates to tell of
        elif self._frozen is not None:
            self._chain.set(self._seen, decode(self._frozen, value))
            self._frozen = None
        self._b = value
        self._update()

    def next_event(self) -> int | None:
        """When, in ns of `now`, `advance` has an interrupt to raise; None while nothing is to come."""
        with self._lock:
            if self._c & self._b:
                return None  # the line is up until the guest reads register C
            return min(self._coming(), default=None)

    def _coming(self) -> Iterator[int]:
        chain, seen = self._chain, self._seen
        if chain.held:
            return
        if self._b & C_PF and (every := period(self._a & A_RATE)):
            yield chain.when((chain.ticks(seen) // every + 1) * every)
        if self._frozen is None:
            if self._b & C_UF:
                yield chain.when_shown(chain.seconds(seen) + 1)
            if self._b & C_AF and (alarm := self._next_alarm(chain.seconds(seen))) is not None:
                yield chain.when_shown(alarm)

    def advance(self) -> None:
        """Lets all happen that is due by now. Interrupts that a guest was too slow for become one, as on the chip."""
        with self._lock:
            self._catch_up()

    def _catch_up(self) -> None:
        chain, before, now = self._chain, self._seen, self._now()
        self._seen = now
        every = period(self._a & A_RATE)
        if every and chain.ticks(now) // every > chain.ticks(before) // every:
            self._c |= C_PF
        old, new = chain.seconds(before), chain.seconds(now)
        if new > old and self._frozen is None:
            self._c |= C_UF
            if (alarm := self._next_alarm(old)) is not None and alarm <= new:
                self._c |= C_AF
        self._update()

    def _next_alarm(self, after: int) -> int | None:
        return next_alarm(after, (self._cmos[1], self._cmos[3], self._cmos[5]), self._b)

    def _read_flags(self) -> int:
        self._catch_up()
        flags, self._c = self._c, 0
        self._update()
        return flags | (C_IRQF if flags & self._b else 0)

    def _update(self) -> None:
        self._set_line(bool(self._c & self._b))

    def save(self) -> dict[str, Any]:
        """Times are saved as distances from now: between `save` and `load` the clock stands still."""
        with self._lock:
            now = self._now()
            return {
                "index": self._index | self.nmi_disabled << 7,
                "control": [self._a, self._b, self._c],
                "cmos": list(self._cmos),
                "frozen": None if self._frozen is None else [self._frozen[register] for register in REGISTERS],
                "unseen": now - self._seen,
                "chain": self._chain.save(now),
            }

    def load(self, state: dict[str, Any]) -> None:
        """Takes on a saved state, and drives the line as it was."""
        with self._lock:
            now = self._now()
            self._index, self.nmi_disabled = state["index"] & 0x7F, state["index"] > 0x7F
            self._a, self._b, self._c = state["control"]
            self._cmos = bytearray(state["cmos"])
            frozen = state["frozen"]
            self._frozen = None if frozen is None else dict(zip(REGISTERS, frozen, strict=True))
            self._seen = now - state["unseen"]
            self._chain.load(now, state["chain"])
            self._update()
