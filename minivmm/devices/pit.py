"""The 8254 interval timer of a PC: three counters, and port 0x61 beside them.

Counter 0 drives IRQ0. Counter 1 once paced the refresh of memory; nothing needs it now. Counter 2 drives the speaker,
and guests measure time with it: they open its gate through port 0x61 and watch its output there.

The clock is pulled: whoever runs the machine asks `next_event` when counter 0 fires next, and calls `advance` then, or
later. How many ticks were missed is known exactly. What becomes of them is `reinject`: by default they are one tick, as
on a real PC whose interrupts were off for too long; with `reinject` they follow one by one, each when the one before
has been acknowledged, which is what KVM does, so that old guests that count ticks don't lose time.

Source: Intel 8254 datasheet (231164); for port 0x61, the Intel 82371AB (PIIX4) datasheet, "NMI status and control".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from minivmm.devices.bytewise import read_bytes, window, write_bytes
from minivmm.devices.pit_channel import PERIODIC, Channel
from minivmm.devices.pit_latch import Port
from minivmm.line import Line

HZ = 1_193_182
SECOND = 1_000_000_000
# A guest may program no shorter period; ticks that would come closer are one. KVM has the same limit
# (min_timer_period_us).
CLOSEST_NS = 200_000
READ_BACK = 3  # "counter 3" of a control word
GATE2, SPEAKER, REFRESH, OUT2 = 0x01, 0x02, 0x10, 0x20
REFRESH_TICKS = 18  # about 15 µs


def to_ticks(ns: int) -> int:
    """The tick of the 1.193182 MHz clock that `ns` lies in."""
    return ns * HZ // SECOND


def to_ns(ticks: int) -> int:
    """The first ns of a tick."""
    return -(-ticks * SECOND // HZ)


class Pit:
    """`now` is the time in ns; `line` is IRQ0, which gets a pulse at each rise of OUT0. `devices` are for the bus."""

    name = "8254 PIT"
    claim = range(0x40, 0x44)

    def __init__(self, now: Callable[[], int], line: Line, *, reinject: bool = False) -> None:
        self._now = now
        self._line = line
        self.reinject = reinject
        self.channels = Channel(), Channel(), Channel(gate=False)
        self.ports = tuple(Port(channel) for channel in self.channels)
        self.port61 = 0
        self.owed = 0  # ticks that wait for the one before them to be acknowledged
        self.waiting = False  # for `acknowledged`
        self._seen = to_ticks(now())  # OUT0 has been followed up to this tick
        self._pulsed = 0  # ns of the last pulse
        self._next: int | None = None
        speaker = window("port 0x61", 0x61, 1, self._read_port61, self._write_port61)  # saved with the counters
        self.devices = self, speaker

    def tick(self) -> int:
        return to_ticks(self._now())

    # ---- IRQ0 ----

    def next_event(self) -> int | None:
        """When, in ns, the next pulse on IRQ0 is due; None while counter 0 has none to come."""
        return self._next

    def advance(self) -> None:
        """Pulses IRQ0 if it is due by now."""
        now = self._now()
        if self._next is not None and now >= self._next:
            self._follow(to_ticks(now))
            if self._may_pulse:
                self._pulsed = now
                self._pulse()
            self._plan()

    def _follow(self, tick: int) -> None:
        rises = self.channels[0].rises(self._seen, tick)
        self._seen = tick
        if rises:
            self.owed = self.owed + rises if self.reinject else 1

    @property
    def _may_pulse(self) -> bool:
        return bool(self.owed) and not (self.reinject and self.waiting)

    def _pulse(self) -> None:
        self.owed -= 1
        self.waiting = True
        self._line.pulse()

    def acknowledged(self) -> None:
        """The guest has dealt with IRQ0 (its end of interrupt): the next tick that is owed may follow."""
        self.waiting = False
        if self.reinject and self.owed:
            self._pulse()

    def forget_owed(self) -> None:
        """The guest unmasked IRQ0, or starts anew: ticks from before don't matter to it."""
        self.owed, self.waiting = 0, False

    def _plan(self) -> None:
        rise = self._seen if self._may_pulse else self.channels[0].next_rise(self._seen)
        self._next = None if rise is None else to_ns(rise)
        counter = self.channels[0]
        if self._next is not None and counter.mode in PERIODIC and to_ns(counter.count) < CLOSEST_NS:
            self._next = max(self._next, self._pulsed + CLOSEST_NS)

    def replan(self, tick: int | None = None) -> None:
        """Counter 0 was changed, at `tick`: follow it from there on. By default that is now; but who has set a short
        count may be interrupted here, and must not find it over before it was looked at."""
        self._seen = self.tick() if tick is None else tick
        self.forget_owed()
        self._plan()

    # ---- ports 0x40 to 0x43 ----

    def read(self, offset: int, size: int) -> int:
        return read_bytes(self._read, offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        write_bytes(self._write, offset, size, value)

    def _read(self, register: int) -> int:
        if register == 3:
            return 0  # the control word can't be read
        tick = self.tick()
        self._follow(tick)
        return self.ports[register].read(tick)

    def _write(self, register: int, value: int) -> None:
        tick = self.tick()
        self._follow(tick)
        if register < 3:
            if self.ports[register].write(value, tick) and register == 0:
                self.replan(tick)
        elif value >> 6 == READ_BACK:
            for number, port in enumerate(self.ports):
                if value & 2 << number:
                    if not value & 0x20:
                        port.latch_count(tick)
                    if not value & 0x10:
                        port.latch_status(tick)
        elif access := value >> 4 & 3:
            self.ports[value >> 6].program(value >> 1 & 7, bool(value & 1), access)
            if value >> 6 == 0:
                self.replan(tick)
        else:
            self.ports[value >> 6].latch_count(tick)

    # ---- port 0x61: the gate of counter 2, the speaker, and OUT2 to be read back ----

    def _read_port61(self, _: int) -> int:
        tick = self.tick()
        counter = self.channels[2]
        counter.settle(tick)
        refresh = REFRESH if tick // REFRESH_TICKS & 1 else 0
        return self.port61 | refresh | (OUT2 if counter.output(tick) else 0)

    def _write_port61(self, _: int, value: int) -> None:
        self.port61 = value & 0x0F  # bits 2 and 3 enable NMI sources that we don't have
        self.channels[2].set_gate(bool(value & GATE2), self.tick())

    # ---- state ----

    def save(self) -> dict[str, Any]:
        """Ticks are saved as they are, with the present one: `load` moves them to its own present."""
        tick = self.tick()
        self._follow(tick)
        return {
            "channels": [asdict(channel) for channel in self.channels],
            "ports": [port.save() for port in self.ports],
            "port61": self.port61,
            "tick": tick,
            "since_pulse": self._now() - self._pulsed,
            "owed": [self.owed, self.waiting],
        }

    def load(self, state: dict[str, Any]) -> None:
        self._seen = self.tick()
        self.channels = tuple(Channel(**saved) for saved in state["channels"])  # type: ignore[assignment]
        self.ports = tuple(Port(channel) for channel in self.channels)
        for channel in self.channels:
            channel.shift(self._seen - state["tick"])
        for port, saved in zip(self.ports, state["ports"], strict=True):
            port.load(saved)
        self.port61 = state["port61"]
        self._pulsed = self._now() - state["since_pulse"]
        self.owed, self.waiting = state["owed"]
        self._plan()
