"""What the drivers of lab 07 share: a guest on the bench, its run to the end, and a limit on exits. Sandbox side.

Time is the guest's own work, so every number here is the same on any host, in any run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from autograder.drivers.base import recording
from autograder.drivers.passing import PassingOn
from minivmm.bus import Device
from minivmm.kvm import KVM_EXIT_HLT, KVM_INTERRUPT, KVM_RUN, calls, struct
from minivmm.kvm.run_page import RunPage
from minivmm.lab_time import TimedGuest, Timer, WorkClock

Observed = dict[str, Any]

MOST = 6000  # exits of all guests of a case together; none needs half of it
CONSOLE = 4096  # bytes that go back
EXITS = 12  # the last exits that go back


class TooManyExitsError(RuntimeError):
    """The guests don't come to an end."""


class NeedlessWindowError(RuntimeError):
    """A window is asked for with nothing to deliver: some processors then leave the guest before each instruction."""


class ReplacedError(RuntimeError):
    """A second KVM_INTERRUPT before the guest has been entered again: without a chip in the kernel it wins."""


class MissedWindowError(RuntimeError):
    """Nobody asks for the window, and a tick is due."""


class Bounded(PassingOn):
    """Passes calls on until the guests have made too many exits.

    `due` says whether a tick is due on the vCPU whose page is `page`: without one, nobody needs an interrupt window.
    """

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0
        self.page: RunPage | None = None
        self.due: Callable[[], bool] = lambda: True
        self.strict = False  # nothing that is due may be forgotten, or replace what was handed over before
        self.handed = 0  # interrupts since the last entry

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        if request == KVM_RUN:
            self.entries += 1
            if self.entries > MOST:
                raise TooManyExitsError(f"more than {MOST} calls of KVM_RUN, and the guest has not come to its end")
            if self.page is not None and self.page.request_interrupt_window and not self.due():
                raise NeedlessWindowError("KVM_RUN with request_interrupt_window = 1, and no tick is due")
            if self.strict and self.page is not None and not self.page.request_interrupt_window and self.due():
                raise MissedWindowError("KVM_RUN without the window being asked for, and another tick is due")
            self.handed = 0
        elif request == KVM_INTERRUPT:
            self.handed += 1
            if self.strict and self.handed > 1:
                raise ReplacedError("KVM_INTERRUPT twice before KVM_RUN, and the first tick is lost")
        return super().ioctl(fd, request, argument)

    def watch(self, guest: TimedGuest, timer: Timer) -> None:
        """From now on the windows that this guest's vCPU asks for must be needed."""
        self.page = guest.page
        self.due = lambda: timer.next is not None and timer.next <= guest.clock.now


@contextmanager
def a_bench() -> Iterator[Bounded]:
    """A backend for the student's calls and ours; whatever was left open is closed behind it."""
    with recording():
        bounded = Bounded()
        calls.use(bounded)  # recording() puts the former one back
        yield bounded


def a_guest(
    inputs: Observed, clock: WorkClock, devices: Sequence[Device] = (), memory_mapped: Sequence[Device] = ()
) -> TimedGuest:
    """The guest that the inputs name, with its parameters."""
    name, backend = inputs["guest"], calls.current()
    return TimedGuest(
        name, clock, devices=devices, memory_mapped=memory_mapped, backend=backend, **inputs["parameters"]
    )


def report(guest: TimedGuest) -> Observed:
    """What a guest did, for the judge."""
    return {"console": bytes(guest.machine.console[:CONSOLE]), "exits": list(guest.exits)[-EXITS:]}


def play(guest: TimedGuest, timer: Timer | None = None) -> None:
    """Runs a guest that never sleeps to its HLT; the timer interrupts it at exits, where interrupts are on."""
    page = guest.page
    while True:
        calls.ioctl(guest.fd, KVM_RUN)
        if page.exit_reason == KVM_EXIT_HLT:
            guest.halted = True
            return
        guest.serve(page)
        if timer is not None and timer.next is not None and page.ready_for_interrupt_injection:
            calls.ioctl(guest.fd, KVM_INTERRUPT, struct("kvm_interrupt", irq=timer.fire()))
