"""The 8259A pair and the 8254 of a PC, in Python, with a lock around both and a wire to the first vCPU."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from minivmm.bus import Device
from minivmm.devices.pic import Pic
from minivmm.devices.pit import Pit
from minivmm.irqchip.guarded import Guarded
from minivmm.irqchip.injector import Injector
from minivmm.line import Line
from minivmm.timers import Timers
from minivmm.vcpu import Vcpu

TIMER = 0  # the line of counter 0
PIC_LINES = 16


class Legacy:
    """What `user` and `split` have in common. Lines may be driven from any thread."""

    def __init__(self, timers: Timers) -> None:
        self._lock = threading.RLock()
        self._pic = Pic(on_intr=self._intr)
        self._pit = Pit(time.monotonic_ns, Line(self._drive, TIMER))
        self._injector: Injector | None = None
        self._first: Vcpu | None = None
        self.ports: Sequence[Device] = [
            *(Guarded(device, self._lock) for device in self._pic.devices),
            *(Guarded(device, self._lock, timers.changed) for device in self._pit.devices),
        ]
        timers.add(self)

    def line(self, number: int) -> Line:
        return Line(self._drive, number)

    def _drive(self, number: int, level: bool) -> None:
        with self._lock:
            if number < PIC_LINES:
                self._pic.set_line(number, level)

    def _connect(self, vcpu: Vcpu) -> Injector:
        self._first = vcpu
        self._injector = Injector(vcpu, self._pic, self._lock)
        return self._injector

    def _intr(self, level: bool) -> None:
        # The vCPU's own thread comes by the injector anyway, before it runs the guest again.
        if level and self._first is not None and not self._first.is_here:
            self._first.kick()

    # ---- the 8254's time ----

    def next_event(self) -> int | None:
        with self._lock:
            return self._pit.next_event()

    def advance(self) -> None:
        with self._lock:
            self._pit.advance()
