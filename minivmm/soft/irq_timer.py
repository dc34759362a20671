"""The PIT as KVM wires it: to GSI 0, with ticks made up for that the guest had no time for.

A tick that was missed follows when the guest has acknowledged the one before it. What counts is the end of interrupt at
any pin that GSI 0 leads to. A tick that was sent into a mask is never acknowledged: when the guest unmasks the pin,
counting starts afresh.

Source: KVM API 4.71 KVM_CREATE_PIT2, 4.83 KVM_REINJECT_CONTROL.
"""

from __future__ import annotations

from collections.abc import Callable

from minivmm.devices.ioapic import MASKED, IoApic
from minivmm.devices.pic import Pic
from minivmm.devices.pit import Pit
from minivmm.line import Line
from minivmm.soft.irq_routing import Pin, Route, Routing

TIMER_GSI = 0


class TimerInput:
    """A PIT and the pins that it drives. `routing` gives the present table."""

    def __init__(
        self,
        now: Callable[[], int],
        irq_line: Callable[[int, bool], int],
        routing: Callable[[], Routing],
        pic: Pic,
        ioapic: IoApic,
    ) -> None:
        self.pit = Pit(now, Line(irq_line, TIMER_GSI), reinject=True)
        self._routing = routing
        self._pic = pic
        self._ioapic = ioapic

    def _routes(self) -> tuple[Route, ...]:
        return self._routing().get(TIMER_GSI, ())

    def ended_at(self, pin: Pin) -> None:
        """The interrupt of a pin was acknowledged."""
        if pin in self._routes():
            self.pit.acknowledged()

    def masks(self) -> list[bool]:
        """Which of the timer's pins are masked, to be held against `unmasked` later."""
        return [self._is_masked(route) for route in self._routes()]

    def _is_masked(self, route: Route) -> bool:
        if not isinstance(route, Pin):
            return False
        if route.chip == "pic":
            return bool(self._pic.chips[route.number >> 3].imr >> (route.number & 7) & 1)
        return bool(self._ioapic.table[route.number] & MASKED)

    def unmasked(self, before: list[bool]) -> None:
        """A register of a chip was written: if that unmasked a pin, earlier ticks are forgotten."""
        if any(was and not now for was, now in zip(before, self.masks(), strict=True)):
            self.pit.forget_owed()
