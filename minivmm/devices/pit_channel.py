"""One counter of an 8254: what it holds and where its output is, at any tick of its clock.

Nothing counts here. A counter is the tick at which it was loaded and the number it was loaded with; all else follows by
arithmetic, so there is no drift, and asking late is as good as asking often.

Source: Intel 8254 datasheet (231164), "Mode Definitions".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from minivmm.devices.bcd import from_bcd, to_bcd

LOW, HIGH, BOTH = 1, 2, 3  # which byte of the count an access moves ("RW1 RW0")
PERIODIC = (2, 3)  # rate generator, square wave
STROBED = (4, 5)  # low for one tick at the end
TRIGGERED = (1, 5)  # one-shot and strobe that start with the gate


@dataclass
class Channel:
    """Ticks are those of the 1.193182 MHz clock. `reload` is what was written (CR), `count` what is being counted."""

    mode: int = 0
    bcd: bool = False
    access: int = BOTH
    gate: bool = True
    reload: int | None = None
    count: int = 0
    start: int | None = None  # the tick at which the counter held `count`; one after the write
    held: int | None = None  # how far it had come when the gate stopped it
    changes: int | None = None  # modes 2 and 3: the tick at which `reload` replaces `count`
    low_first: bool = False  # mode 3: the half-wave at `start` is the low one
    before: bool = False  # the output until `start`

    # ---- programming ----

    def program(self, mode: int, bcd: bool, access: int) -> None:
        """A control word. The counter stops until a count is written (modes 1, 5: until the gate rises after that)."""
        self.mode = mode if mode < 6 else mode - 4  # "M2 is don't care" in modes 2 and 3
        self.bcd, self.access = bcd, access
        self.stop()

    def stop(self) -> None:
        self.reload = self.start = self.held = self.changes = None
        self.low_first = False

    def write(self, value: int, tick: int) -> None:
        """A whole new count: 16 bits as the guest wrote them; 0 stands for the largest."""
        self.settle(tick)
        first = self.reload is None
        self.reload = (from_bcd(value) % self._modulus if self.bcd else value) or self._modulus
        if self.mode in TRIGGERED:
            return
        if self.mode in PERIODIC:
            self.reload = max(self.reload, 2)  # a count of 1 is illegal there
            if not first and self.start is not None and self.held is None:
                self.changes = self._end_of_wave(tick)
                return
        self._load(tick)

    def set_gate(self, gate: bool, tick: int) -> None:
        """Drives the gate input; what that does depends on the mode (datasheet, "Gate Pin Operations Summary")."""
        self.settle(tick)
        if gate is self.gate:
            return
        self.gate = gate
        if not gate:
            if self.mode not in TRIGGERED and self.start is not None:
                self.held = max(tick - self.start, 0)
        elif self.mode in (0, 4):
            if self.start is not None:
                self.start, self.held = tick - (self.held or 0), None
        elif self.reload is not None:
            self._load(tick)

    def _load(self, tick: int) -> None:
        # The next clock pulse moves the count in. Without the gate it stays there.
        self.before = False if self.mode == 0 else self.output(tick)
        assert self.reload is not None
        self.count, self.start = self.reload, tick + 1
        self.held, self.changes, self.low_first = None if self.gate else 0, None, False

    def _end_of_wave(self, tick: int) -> int:
        # Mode 2 takes a new count at the end of its period, mode 3 at the end of its half-wave.
        assert self.start is not None
        if tick < self.start:
            return self.start + (self.count if self.mode == 2 else self._halves[0])
        periods, into = divmod(tick - self.start, self.count)
        until = self._halves[0] if self.mode == 3 and into < self._halves[0] else self.count
        return self.start + periods * self.count + until

    def shift(self, ticks: int) -> None:
        """The clock that ticks are counted on is another now, `ticks` ahead."""
        self.start = None if self.start is None else self.start + ticks
        self.changes = None if self.changes is None else self.changes + ticks

    def settle(self, tick: int) -> None:
        """Lets a new count take over whose time has come."""
        if self.changes is not None and tick >= self.changes:
            assert self.reload is not None
            self.low_first = self.mode == 3 and not self.output(self.changes)
            self.start, self.count, self.changes = self.changes, self.reload, None

    # ---- what can be seen ----

    @property
    def _modulus(self) -> int:
        return 10_000 if self.bcd else 0x1_0000

    @property
    def _halves(self) -> tuple[int, int]:
        # A square wave of an odd count is high for one tick more.
        high, low = (self.count + 1) // 2, self.count // 2
        return (low, high) if self.low_first else (high, low)

    def _elapsed(self, tick: int) -> int:
        # Ticks since the count was loaded; negative until then.
        if self.held is not None:
            return self.held
        return -1 if self.start is None else tick - self.start

    @property
    def written(self) -> int:
        """The count as the guest wrote it: 0 for the largest, or for none."""
        return self._encoded(self.reload or 0)

    def null_count(self, tick: int) -> bool:
        """The counter doesn't hold yet what was written (status bit 6)."""
        return self.start is None or tick < self.start or self.changes is not None

    def output(self, tick: int) -> bool:
        """OUT at `tick`."""
        elapsed = self._elapsed(tick)
        if self.start is None:
            return self.mode != 0
        if self.mode in PERIODIC and self.held is not None:
            return True  # "if GATE goes low, OUT is set high immediately"
        if elapsed < 0:
            return self.before
        match self.mode:
            case 0 | 1:
                return elapsed >= self.count
            case 2:
                return elapsed % self.count != self.count - 1
            case 3:
                return (elapsed % self.count < self._halves[0]) is not self.low_first
            case _:
                return elapsed != self.count

    def value(self, tick: int) -> int:
        """What the counter holds at `tick`, as 16 bits that the guest reads: binary or four BCD digits."""
        elapsed = max(self._elapsed(tick), 0)
        match self.mode:
            case _ if self.start is None:
                value = 0  # undefined: nothing was loaded since the control word
            case 2:
                value = self.count - elapsed % self.count
            case 3:  # counts by two, an odd count from the even number below it
                into = elapsed % self.count
                value = (self.count & ~1) - 2 * (into if into < self._halves[0] else into - self._halves[0])
            case _:
                value = self.count - elapsed
        return self._encoded(value)

    def next_rise(self, after: int) -> int | None:
        """The first tick behind `after` at which OUT rises, or None. Call it with `settle` done up to `after`."""
        rise = self._rise(after)
        if self.changes is None or rise is None or rise <= self.changes:
            return rise
        later = replace(self)
        later.settle(self.changes)
        return later._rise(self.changes)

    def _rise(self, after: int) -> int | None:
        if self.start is None or self.held is not None:
            return None
        if self.mode not in PERIODIC:
            if self.mode in STROBED and not self.before and after < self.start:
                return self.start  # loaded anew during its strobe, which ends here
            once = self.start + self.count + (self.mode in STROBED)
            return once if once > after else None
        first = self.start + (self._halves[0] if self.low_first else self.count)
        return first if first > after else first + ((after - first) // self.count + 1) * self.count

    def rises(self, after: int, until: int) -> int:
        """How often OUT rose behind `after`, up to and with `until`."""
        number, rise = 0, self._rise(after)
        last = until if self.changes is None else min(until, self.changes)
        if rise is not None and rise <= last:
            number = 1 + (last - rise) // self.count if self.mode in PERIODIC else 1 + self.rises(rise, last)
        if last < until:
            self.settle(last)
            number += self.rises(last, until)
        return number

    def _encoded(self, value: int) -> int:
        return to_bcd(value) if self.bcd else value % self._modulus
