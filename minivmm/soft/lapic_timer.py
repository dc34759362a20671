"""The timer of a local APIC: one-shot, periodic, or at a value of the time-stamp counter.

It counts nothing: it knows when it is due. Its input clock is 1 GHz (a bus cycle of 1 ns, as in KVM), divided by 1 to
128. Periods that were missed are one interrupt: the request bit is set already.

Source: Intel SDM vol. 3, "APIC Timer", "TSC-Deadline Mode"; KVM API, KVM_CAP_X86_APIC_BUS_CYCLES_NS for the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

ONE_SHOT, PERIODIC, DEADLINE = 0, 1, 2  # bits 18:17 of the LVT entry
# No period is shorter, whatever the guest asks for; KVM has the same limit (min_timer_period_us).
SHORTEST_NS = 200_000


class Tsc(Protocol):
    """The time-stamp counter of a processor: its frequency in kHz, and what it reads now."""

    khz: int

    def read(self) -> int: ...


class ApicTimer:
    """`expired` is called when it is due, by `advance`. `now` is the time in ns."""

    def __init__(self, now: Callable[[], int], tsc: Tsc, expired: Callable[[], object]) -> None:
        self._now = now
        self._tsc = tsc
        self._expired = expired
        self.reset()

    def reset(self) -> None:
        self.mode = ONE_SHOT
        self.initial = 0
        self.divide = 0  # the register: bits 3, 1 and 0
        self.deadline = 0  # in TSC ticks; 0: not armed
        self.due: int | None = None  # ns

    @property
    def divisor(self) -> int:
        """By how much the clock is divided: 2, 4 … 128 for 0b000 … 0b110, and 1 for 0b111."""
        code = self.divide & 3 | self.divide >> 1 & 4
        return 1 << (code + 1 & 7)

    @property
    def _period(self) -> int:
        period = self.initial * self.divisor
        return max(period, SHORTEST_NS) if self.mode == PERIODIC else period

    def set_mode(self, mode: int) -> None:
        """ "Transitioning between TSC-deadline mode and others disarms the timer." """
        if (mode == DEADLINE) is not (self.mode == DEADLINE):
            self.initial = self.deadline = 0
            self.due = None
        self.mode = mode

    def set_initial(self, count: int) -> None:
        """Starts the timer, or stops it with 0. In TSC-deadline mode it is ignored."""
        if self.mode != DEADLINE:
            self.initial = count
            self.due = self._now() + self._period if count else None

    def set_divide(self, value: int) -> None:
        """A new divider; a count in progress goes on at the new speed."""
        left, before = self.current(), self.divisor
        self.divide = value & 0xB
        if self.mode != DEADLINE and self.due is not None and self.divisor != before:
            self.due = self._now() + left * self.divisor

    def set_deadline(self, value: int) -> None:
        """MSR IA32_TSC_DEADLINE: due when the TSC reaches `value`; 0 disarms. Ignored in the other modes."""
        if self.mode == DEADLINE:
            self.deadline = value
            self.retime()

    def retime(self) -> None:
        """The TSC was written, or runs at another frequency: when is the deadline now?"""
        if self.mode == DEADLINE:
            left = max(self.deadline - self._tsc.read(), 0)
            self.due = self._now() - (-left * 1_000_000 // self._tsc.khz) if self.deadline else None

    def current(self) -> int:
        """The current-count register. It is 0 only once the timer is due."""
        if self.mode == DEADLINE or self.due is None:
            return 0
        left = self.due - self._now()
        if left < 0 and self.mode == PERIODIC:
            left %= self._period
        return max(-(-left // self.divisor), 0)

    def resume(self, initial: int, current: int) -> None:
        """Goes on from saved counts, with mode and divider set before."""
        self.initial = initial
        if self.mode != DEADLINE:
            running = current or (self.mode == PERIODIC and initial)
            self.due = self._now() + running * self.divisor if running else None

    def advance(self) -> None:
        """Expires, if it is due by now."""
        if self.due is None or self._now() < self.due:
            return
        if self.mode == PERIODIC and self.initial:
            self.due += ((self._now() - self.due) // self._period + 1) * self._period
        else:
            self.due = None
            self.deadline = 0
        self._expired()
