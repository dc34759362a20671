"""The divider chain of the RTC: 32768 ticks make a second, counted from the moment when the chain was at zero.

In integers from that moment on, so that it never drifts. All times are ns of the machine's clock.

Source: Motorola MC146818 datasheet, "Register A", divider control.
"""

from __future__ import annotations

from typing import Any

TICKS = 32_768  # in a second
_TICK_NS = 1_953_125, 64  # 30517.578125 ns as a fraction
_UPDATE = 73  # ticks: a new second is announced 244 µs before its update, which takes 1984 µs (table 6)


def period(rate: int) -> int:
    """Ticks between periodic interrupts by the rate in register A, 0 for none. Rates 1 and 2 are odd (table 5)."""
    return 1 << (rate + 6 if rate in (1, 2) else rate - 1) if rate else 0


class Chain:
    """At time `at`, a new chain shows `unix_ns` (ns since 1970)."""

    def __init__(self, at: int, unix_ns: int) -> None:
        self.held = False
        self._base, fraction = divmod(unix_ns, 1_000_000_000)  # what it showed when it was at zero
        self._zero = at - fraction

    def ticks(self, at: int) -> int:
        """How many ticks since zero."""
        return 0 if self.held else (at - self._zero) * _TICK_NS[1] // _TICK_NS[0]

    def seconds(self, at: int) -> int:
        """The time shown: seconds since 1970."""
        return self._base + self.ticks(at) // TICKS

    def updating(self, at: int) -> bool:
        """UIP: the time shown is about to change."""
        return not self.held and TICKS - self.ticks(at) % TICKS <= _UPDATE

    def when(self, tick: int) -> int:
        """The first moment at which `ticks` is `tick`."""
        return self._zero - (-tick * _TICK_NS[0] // _TICK_NS[1])

    def when_shown(self, seconds: int) -> int:
        """The first moment at which `seconds` is shown."""
        return self.when((seconds - self._base) * TICKS)

    def set(self, at: int, seconds: int) -> None:
        """Shows another time from now on. The next second begins when it would have."""
        self._base = seconds - self.ticks(at) // TICKS

    def hold(self, at: int) -> None:
        """Stops at zero."""
        self._base, self.held = self.seconds(at), True

    def release(self, at: int) -> None:
        """Runs again. The first second ends after half a second, so that a clock can be set to the point."""
        self._zero, self.held = at - 500_000_000, False

    def save(self, at: int) -> dict[str, Any]:
        return {"held": self.held, "base": self._base, "age": at - self._zero}

    def load(self, at: int, state: dict[str, Any]) -> None:
        self.held, self._base, self._zero = state["held"], state["base"], at - state["age"]
