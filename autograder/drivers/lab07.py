"""Drivers of lab 07: counters and timers under guests, pages of time, and guests that share a thread. Sandbox side."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from autograder.drivers.base import Student
from autograder.drivers.lab07_acted import acted_ticks
from autograder.drivers.lab07_rig import EXITS, Observed, a_bench, a_guest, play, report
from autograder.drivers.lab07_share import page_of_stolen_time, run_a_slice, shared
from minivmm.lab_time import ApicPage, PitPorts, Ticks, WorkClock

__all__ = [
    "apic_under_a_guest", "called_with", "clock_page", "counter_by_hand", "counter_under_a_guest", "kernel_with_ticks",
    "owed_ticks", "page_of_stolen_time", "run_a_slice", "shared", "timed_guest",
]  # fmt: skip

LOG = 400  # entries that go back


def called_with(student: Student, inputs: Observed) -> Observed:
    """What the student's function answers to each list of arguments."""
    values = [student.target(*arguments) for arguments in inputs["calls"]]
    return {"values": [list(value) if isinstance(value, tuple) else value for value in values]}


# ---- the 8254 ----


class CounterOfTheirs:
    """The student's counter behind the ports; what it answers goes to the bus as it is, if it is a byte at all."""

    def __init__(self, counter: Any) -> None:
        self.control, self.write, self._read = counter.control, counter.write, counter.read
        self.odd: list[Any] = []

    def read(self) -> int:
        value = self._read()
        if type(value) is not int or not 0 <= value <= 0xFF:
            self.odd.append(value)
            return 0
        return value


def counter_under_a_guest(student: Student, inputs: Observed) -> Observed:
    """pit-reader on the student's counter."""
    with a_bench():
        clock = WorkClock(inputs["start"])
        counter = CounterOfTheirs(student.target(lambda: clock.now))
        guest = a_guest(inputs, clock, devices=[PitPorts(counter)])
        play(guest)
        return {"odd": counter.odd[:1], **report(guest)}


def counter_by_hand(student: Student, inputs: Observed) -> Observed:
    """A list of ["control"|"write"|"wait", number] and ["read"], on the student's counter. The reads come back."""
    clock = WorkClock(inputs["start"])
    counter = student.target(lambda: clock.now)
    reads: list[Any] = []
    for step, *number in inputs["script"]:
        if step == "wait":
            clock.work(*number)
        else:
            value = getattr(counter, step)(*number)
            if step == "read":
                reads.append(value)
    return {"reads": reads}


# ---- guests with a timer ----


def timed_guest(student: Student, inputs: Observed) -> Observed:
    """The student's run loop, a guest, and a timer that fires at given ticks. Acted where there are `acts`."""
    if "acts" in inputs:
        return acted_ticks(student, inputs)
    with a_bench() as bench:
        clock = WorkClock(inputs["start"])
        timer = Ticks(inputs["due"])
        guest = a_guest(inputs, clock)
        bench.watch(guest, timer)
        bench.strict = inputs.get("strict", False)
        student.target(guest, timer)
        return {"fired": timer.fired, **report(guest)}


def apic_under_a_guest(student: Student, inputs: Observed) -> Observed:
    """apic-ticker on the student's timer; or one question, without a guest, where there are `calls`."""
    if "calls" in inputs:
        return called_with(student, inputs)
    with a_bench():
        clock = WorkClock(inputs["start"])
        page = ApicPage(clock, student.target)
        guest = a_guest(inputs, clock, memory_mapped=[page])
        play(guest, page)
        return report(guest)


class StuckError(Exception):
    """A timer that is still due after it has fired: the guest would get nothing but interrupts."""


class TimerOfTheirs:
    """The student's timer; `stuck` is [the present, next] where a tick was still due after `fire`."""

    def __init__(self, timer: Any, clock: WorkClock) -> None:
        self._timer, self._clock = timer, clock
        self.stuck: list[int] = []

    @property
    def next(self) -> Any:
        return self._timer.next

    def fire(self) -> Any:
        vector = self._timer.fire()
        after = self._timer.next
        if after is not None and after <= self._clock.now:
            self.stuck = [self._clock.now, after]
            raise StuckError
        return vector


def kernel_with_ticks(student: Student, inputs: Observed) -> Observed:
    """three-tasks on the student's timer, and in the student's run loop. Or the timer by hand, where there is a
    `script`: as for `counter_by_hand`, with ["next"] and ["fire"]."""
    if "script" in inputs:
        return timer_by_hand(student, inputs)
    with a_bench() as bench:
        clock = WorkClock(inputs["start"])
        theirs = student.target(lambda: clock.now)
        early = theirs.next
        timer = TimerOfTheirs(theirs, clock)
        guest = a_guest(inputs, clock, devices=[PitPorts(theirs)])
        bench.watch(guest, timer)
        with suppress(StuckError):
            student.get("run_timed")(guest, timer)
        return {"early": early, "stuck": timer.stuck, **report(guest)}


def timer_by_hand(student: Student, inputs: Observed) -> Observed:
    clock = WorkClock(inputs["start"])
    timer = student.target(lambda: clock.now)
    answers: list[Any] = []
    for step, *number in inputs["script"]:
        if step == "wait":
            clock.work(*number)
        elif step == "next":
            answers.append(timer.next)
        else:
            answer = getattr(timer, step)(*number)
            answers += [answer] if step == "fire" else []
    return {"answers": answers}


def owed_ticks(student: Student, inputs: Observed) -> Observed:
    """The student's patient timer, programmed by hand, asked after each wait for all that is due."""
    clock = WorkClock(inputs["start"])
    timer = student.target(lambda: clock.now)
    clock.work(inputs["idle"])
    timer.control(0x34)
    timer.write(inputs["count"] & 0xFF)
    timer.write(inputs["count"] >> 8)
    fired, vectors = [], []
    for wait in inputs["waits"]:
        clock.work(wait)
        number = 0
        while number < EXITS and timer.next is not None and timer.next <= clock.now:
            vectors.append(timer.fire())
            number += 1
        fired.append(number)
    return {"fired": fired, "vectors": vectors[:EXITS]}


# ---- kvmclock ----


def clock_page(student: Student, inputs: Observed) -> Observed:
    """The student publishes pages, one after the other; the guest reads while the writes of the last ones happen one by
    one. `version`s are what the function returned; `writes` what it wrote for the page with that number."""
    with a_bench():
        clock = WorkClock(inputs["start"])
        guest = a_guest(inputs, clock)
        writes: list[Any] = []
        gpa, version, versions = inputs["parameters"]["address"], inputs["version"], []
        for number, page in enumerate(inputs["pages"]):

            def write(at: int, data: bytes, number: int = number) -> None:
                if len(writes) < LOG:
                    writes.append([number, int(at), bytes(data)])
                (guest.write_later if number else guest.write)(int(at), bytes(data))

            answer = student.target(write, gpa, version, *page)
            versions.append(answer)
            version = answer if type(answer) is int else version + 2
        seen = {"writes": writes, "versions": versions}
        if not inputs["run"]:
            return seen
        play(guest)
        return seen | report(guest)
