"""Drivers of lab 07: guests that share one thread, and hear of the time they lost. Sandbox side."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from autograder.drivers.base import Student
from autograder.drivers.lab07_acted import acted_slices
from autograder.drivers.lab07_rig import Observed, a_bench, a_guest, play, report
from minivmm.kvm import KVM_EXIT_HLT, KVM_RUN, KvmError, calls
from minivmm.lab_time import TimedGuest, WorkClock

LOG = 400  # entries that go back
MOST_SLICES = 2000


def run_a_slice(student: Student, inputs: Observed) -> Observed:
    """The student's run_slice, again and again, until each guest has halted; between two slices others may work.
    Where `acts` are given the guest is acted."""
    if "acts" in inputs:
        return acted_slices(student, inputs)
    with a_bench():
        clock = WorkClock(inputs["start"])
        guests = [a_guest({"guest": "worker", "parameters": each}, clock) for each in inputs["guests"]]
        log: list[Any] = []
        for number, length in inputs["slices"]:
            guest = guests[number]
            if guest.halted:
                continue  # behind its HLT there is nothing to run
            before, printed = clock.now, len(guest.console)
            answer = student.target(guest, clock, length)
            alarm = clock.due is not None
            guest.halted = guest.page.exit_reason == KVM_EXIT_HLT
            log.append([number, answer, clock.now - before, guest.console[printed:], alarm])
            clock.work(inputs["between"])
        return {"log": log, "exits": report(guests[-1])["exits"]}


@dataclass
class Vm:
    """What `share` is given: a guest, or pieces of work that stand for one."""

    name: str
    pieces: list[int] = field(default_factory=list)
    guest: TimedGuest | None = None
    ran: int = 0
    stolen: int = 0
    halted: bool = False
    weight: int = 1


class RunAgainError(Exception):
    """`share` runs a VM that has halted; the log has it."""


class TooManySlicesError(RuntimeError):
    """`share` doesn't come to an end."""


def shared(student: Student, inputs: Observed) -> Observed:
    """`share` on VMs: real guests where `guests` is given, else lists of pieces of work."""
    with a_bench():
        clock = WorkClock()
        vms = []
        for number, each in enumerate(inputs["vms"]):
            vm = Vm("ABCDEFGH"[number], weight=each.get("weight", 1))
            if "pieces" in each:
                vm.pieces = list(each["pieces"])
            else:
                vm.guest = a_guest({"guest": "worker", "parameters": each["parameters"]}, clock)
            vms.append(vm)
        log: list[Any] = []

        def run(vm: Vm, length: int) -> int:
            if len(log) >= MOST_SLICES:
                raise TooManySlicesError(f"more than {MOST_SLICES} slices, and the guests have not come to their end")
            before, dead = clock.now, vm.halted
            if not dead:
                vm.halted = slice_of(vm, clock, length)
            log.append([vm.name, clock.now - before, dead, length])
            if dead:
                raise RunAgainError
            return clock.now - before

        with suppress(RunAgainError):
            student.target(list(vms), inputs["length"], run)  # theirs to sort, or to cross out from
        consoles = [vm.guest.console.encode() if vm.guest else b"" for vm in vms]
        result = [[vm.name, vm.ran, vm.stolen, vm.halted] for vm in vms]
        return {"log": log[:LOG], "vms": result, "consoles": consoles, "slices": len(log)}


def slice_of(vm: Vm, clock: WorkClock, length: int) -> bool:
    """One slice: true if the VM has halted in it. A piece of work is never cut short."""
    end = clock.now + length
    if vm.guest is None:
        while clock.now < end and vm.pieces:
            clock.work(vm.pieces.pop(0))
        return not vm.pieces
    guest, page = vm.guest, vm.guest.page
    while True:
        page.immediate_exit = clock.now >= end  # a way in that only completes what is open
        try:
            calls.ioctl(guest.fd, KVM_RUN)
        except KvmError:
            page.immediate_exit = 0
            return False
        if page.exit_reason == KVM_EXIT_HLT:
            return True
        guest.serve(page)


def page_of_stolen_time(student: Student, inputs: Observed) -> Observed:
    """steal-reader reads while the student's writes happen one by one: all of them, a page behind the other."""
    with a_bench():
        guest = a_guest(inputs, WorkClock())
        gpa, version = inputs["parameters"]["address"], inputs["version"]
        guest.write(gpa, inputs["before"])
        writes: list[Any] = []
        versions = []

        def write(at: int, data: bytes) -> None:
            if len(writes) < LOG:
                writes.append([int(at), bytes(data)])
            guest.write_later(int(at), bytes(data))

        for stolen in inputs["stolen"]:
            answer = student.target(write, gpa, version, stolen)
            versions.append(answer)
            version = answer if type(answer) is int else version + 2
        if inputs["run"]:
            play(guest)
        return {"writes": writes, "versions": versions, **report(guest)}
