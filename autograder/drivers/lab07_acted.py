"""A guest that is acted, for the run loops of lab 07: what each KVM_RUN does is written down. Sandbox side: no answers.

On a real host it is a matter of luck which state the page shows behind an STI, and a guest that works on without any
exit can only be stopped in real time. What a run loop may count on is in the KVM API, and that is all there is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EFAULT, EINTR
from typing import Any

from autograder.drivers.base import Student, attempt, recording
from autograder.drivers.lab07_rig import MOST, Bounded, Observed, TooManyExitsError, a_guest
from minivmm.kvm import KVM_EXIT_HLT, KVM_EXIT_INTR, KVM_EXIT_IO, KVM_INTERRUPT, KVM_RUN, calls, ffi
from minivmm.lab_time import PAUSE, Ticks, TimedGuest, WorkClock


class BehindTheEndError(RuntimeError):
    """A guest that has halted for good is entered again: on a real host it runs into whatever bytes come there."""


class Stage(Bounded):
    """Answers KVM_RUN by the next of `acts`, and KVM_INTERRUPT by noting the vector; all else goes to the backend.

    An act is {"work": the ticks of each piece of work, "exit": the reason, "flag": IF, "ready": 0 or 1}; one with
    "error", an errno, fails for good. `entered` has [vectors handed over, request_interrupt_window] of each entry.
    """

    def __init__(self, clock: WorkClock, acts: list[dict[str, Any]]) -> None:
        super().__init__()
        self.clock = clock
        self.acts = [{**act, "work": list(act.get("work", ()))} for act in acts]
        self.entered: list[list[Any]] = []
        self.vectors: list[int] = []

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        if request == KVM_RUN:
            return self._enter()
        if request == KVM_INTERRUPT:
            if not isinstance(argument, ffi.CData):
                return -EFAULT
            self.vectors.append(int(ffi.cast("struct kvm_interrupt *", argument).irq))
            return 0
        return super().ioctl(fd, request, argument)

    def _enter(self) -> int:
        assert self.page is not None
        self.entered.append([self.vectors, int(self.page.request_interrupt_window)])
        self.vectors = []
        if len(self.entered) > MOST:
            raise TooManyExitsError(f"more than {MOST} calls of KVM_RUN, and the guest has not come to its end")
        if not self.acts:
            raise BehindTheEndError("KVM_RUN behind the guest's last HLT, whose interrupts are off")
        if self.page.immediate_exit:
            return self._interrupted()
        act = self.acts[0]
        while act["work"]:
            ticks = act["work"].pop(0)
            rings = self.clock.due is not None and self.clock.due <= self.clock.now + ticks
            self.clock.work(ticks)
            if rings:  # the alarm is a signal, and KVM_RUN ends with any
                return self._interrupted()
        if "error" in act:
            return -int(act["error"])
        self.acts.pop(0)
        self.page.exit_reason, self.page.if_flag = act["exit"], act["flag"]
        self.page.ready_for_interrupt_injection = act["ready"]
        if act["exit"] == KVM_EXIT_IO:  # the byte of a port that does nothing
            io = self.page.io
            io.direction, io.size, io.port, io.count, io.data_offset = 0, 1, PAUSE, 1, 4096
        return 0

    def _interrupted(self) -> int:
        self.page.exit_reason = KVM_EXIT_INTR  # type: ignore[union-attr]
        return -EINTR


@contextmanager
def a_stage(inputs: Observed) -> Iterator[tuple[Stage, TimedGuest]]:
    """The stage for the acts of these inputs, in use by everybody, and the guest that seems to run on it."""
    with recording():
        stage = Stage(WorkClock(inputs["start"]), inputs["acts"])
        calls.use(stage)  # recording() puts the former one back
        guest = a_guest(inputs, stage.clock)
        stage.page = guest.page
        yield stage, guest


def acted_ticks(student: Student, inputs: Observed) -> Observed:
    """The student's run loop with a timer: what it handed over, and the window that it asked for, at each entry."""
    with a_stage(inputs) as (stage, guest):
        student.target(guest, Ticks(inputs["due"], inputs["vector"]))
        return {"entered": stage.entered}


def acted_slices(student: Student, inputs: Observed) -> Observed:
    """The student's run_slice, again and again: [what it answered or raised, ticks, is its alarm still set] each."""
    with a_stage(inputs) as (stage, guest):
        log: list[Any] = []
        for length in inputs["lengths"]:
            before = stage.clock.now
            answer = attempt(student.target, guest, stage.clock, length)
            log.append([answer.get("value"), answer.get("raised", ""), stage.clock.now - before,
                        stage.clock.due is not None])  # fmt: skip
            if guest.page.exit_reason == KVM_EXIT_HLT or "raised" in answer:
                break
        return {"log": log}
