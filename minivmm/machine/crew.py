"""The vCPUs of a machine at work: each on its own thread, and how all of them pause, go on and stop.

The first of them runs on the thread that calls `run`, so that Ctrl-C and a time-out find it there. `hold` is what every
run loop looks at after each exit; whoever sets it kicks the vCPUs out of KVM_RUN after that, so that none misses it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from minivmm.exits import Halted, Interrupted
from minivmm.machine.signals import PutOff
from minivmm.machine.stop import TIMED_OUT, Stop
from minivmm.vcpu import Vcpu
from minivmm.watch import Watch

AGAIN = 0.05  # seconds after which a vCPU that should stand still is kicked once more
SURE = 2  # heartbeats through which all vCPUs must sleep before they count as gone


class Work(Protocol):
    """The run loop of one vCPU."""

    @property
    def vcpu(self) -> Vcpu: ...

    def go(self) -> None:
        """Runs the guest until the crew holds."""
        ...

    def settle(self) -> None:
        """Completes what the last exit left open."""
        ...


class Crew:
    """Runs the loops of `size` vCPUs, or of some of them. `stop` and `resume` may be called from any thread, `pause`
    from one that runs no vCPU."""

    def __init__(self, size: int) -> None:
        self.hold = False
        self.stops: list[Stop] = []  # of the present run, or of the last one; the first is why it ended
        self._size = size
        self._changed = threading.Condition()
        self._members: Sequence[Work] = ()
        self._busy = 0  # how many are in their loops
        self._pauses = 0
        self._error: BaseException | None = None
        self._watch = Watch(self._beat)
        self._beats = 0
        self._asleep: dict[int, int] = {}  # vCPU → the heartbeat at which it was found asleep for good

    def run(self, members: Sequence[Work], timeout: float | None) -> Stop:
        """Runs the loops, the first one here, until `stop` is called or `timeout` seconds pass. Raises what a loop
        raises. When it returns, no vCPU runs."""
        with self._changed:
            self.stops, self._members, self._error = [], members, None
            self._asleep.clear()
            self.hold = False
        self._watch = Watch(self._beat, timeout)
        threads = [
            threading.Thread(target=self._guarded, args=(each,), name=f"minivmm vCPU {each.vcpu.index}", daemon=True)
            for each in members[1:]
        ]
        with PutOff(lambda: self.stop(Stop("asked", 0))):
            try:
                with self._watch:
                    for thread in threads:
                        thread.start()
                    self._work(members[0])
            finally:
                self.stop(Stop("asked", 0))  # nothing new, unless an exception has ended the first one's loop
                for thread in threads:
                    while thread.is_alive():
                        self._kick()
                        thread.join(AGAIN)
        if self._error is not None:
            raise self._error
        return self.stops[0]

    def _guarded(self, member: Work) -> None:
        try:
            self._work(member)
        except BaseException as error:  # a device failed: `run` says so
            self._error = error
            self.stop(Stop("asked", 0))

    def _work(self, member: Work) -> None:
        member.vcpu.claim()
        while self._may_go():
            try:
                member.go()
                if self._pauses:
                    member.settle()
            finally:
                with self._changed:
                    self._busy -= 1
                    self._changed.notify_all()

    def _may_go(self) -> bool:
        """Waits while the machine is paused. False: the run is over."""
        with self._changed:
            self._changed.wait_for(lambda: self.stops or not self._pauses)
            if self.stops:
                return False
            self._busy += 1
            return True

    # ---- stopping ----

    def stop(self, stop: Stop) -> None:
        """Ends the run in progress. The first stop is the reason; breakpoints that others came to are kept too."""
        with self._changed:
            if not self.stops or stop.reason == "debug":
                self.stops.append(stop)
            self.hold = True
            self._changed.notify_all()
        self._kick()

    def pause(self) -> None:
        """Returns when no vCPU runs, and each has its last access to a device behind it. Pauses add up."""
        with self._changed:
            self._pauses += 1
            self.hold = True
            while self._busy:
                self._kick()
                self._changed.wait(AGAIN)

    def resume(self) -> None:
        """Takes back one `pause`."""
        with self._changed:
            self._pauses -= 1
            self.hold = bool(self._pauses or self.stops)
            self._changed.notify_all()

    def _kick(self) -> None:
        for member in self._members:
            if not member.vcpu.is_here:  # this one's loop looks at `hold` anyway
                member.vcpu.kick()

    # ---- the heartbeat (watch.py) ----

    def _beat(self) -> None:
        self._beats += 1
        if self._watch.expired:
            self.stop(Stop("timeout", TIMED_OUT, Interrupted()))
        else:
            self._kick()

    def note(self, vcpu: Vcpu, *, asleep: bool) -> None:
        """A vCPU reports whether it sleeps and could be woken by another vCPU only. When all do, the run is over."""
        with self._changed:
            if not asleep:
                self._asleep.pop(vcpu.index, None)
                return
            self._asleep.setdefault(vcpu.index, self._beats)
            gone = len(self._asleep) == self._size and self._beats - max(self._asleep.values()) >= SURE
        if gone:
            self.stop(Stop("halted", 0, Halted(), cpu=vcpu.index))
