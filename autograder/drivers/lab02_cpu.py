"""Drivers of lab 02, tasks 9 to 13: CPUID, model-specific registers, and one guest in three modes."""

from __future__ import annotations

from typing import Any

from autograder.drivers.base import Student, attempt, recording
from autograder.drivers.lab02_common import (
    ENTRY,
    load,
    new_vm,
    run,
)
from autograder.drivers.recorder import Recorder
from minivmm.boot import layout
from minivmm.kvm import KVM_GET_MSRS, KVM_SET_MSRS, calls

# ---- CPUID and MSRs ----


def announced(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """The entries as they come back, and as they are afterwards: the caller's list is not the student's to change."""
    given = [dict(entry) for entry in inputs["entries"]]
    return {"value": student.target(given, inputs["name"]), "given": given}


def cpuid(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """The host's leaves, with those of the case in place of their namesakes, handed to the student's call."""
    with new_vm(cpuid=False) as (rec, vm, vcpu):
        load(vm, inputs)
        new = {entry["function"] for entry in inputs["leaves"]}
        host = [entry for entry in vm.supported_cpuid() if entry["function"] not in new]
        student.target(vcpu.fd, host + inputs["leaves"])
        layout.enter(vcpu, vm.memory, "real", ENTRY)
        return run(rec, vcpu) | {"calls": [call for call in rec.calls if "CPUID2" in call]}


class Refusing(Recorder):
    """A KVM that has one MSR less: its answer is a count of 0, and no errno."""

    def __init__(self, backend: Any, index: int) -> None:
        super().__init__(backend)
        self.index = index

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        if request in (KVM_GET_MSRS, KVM_SET_MSRS) and argument and argument.entries[0].index == self.index:
            return 0
        return super().ioctl(fd, request, argument)


def msr_after_guest(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """The guest writes a register; the student reads it."""
    with new_vm() as (rec, vm, vcpu):
        load(vm, inputs)
        layout.enter(vcpu, vm.memory, "long", ENTRY)
        done = run(rec, vcpu)
        return done | {"value": student.target(vcpu.fd, inputs["index"])}


def msr_before_guest(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """The student writes a register; the guest reads it."""
    with new_vm() as (rec, vm, vcpu):
        load(vm, inputs)
        layout.enter(vcpu, vm.memory, "long", ENTRY)
        student.target(vcpu.fd, inputs["index"], inputs["value"])
        return run(rec, vcpu)


def msr_refused(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """A register that this KVM does not have."""
    with new_vm() as (rec, _, vcpu):
        previous = calls.use(Refusing(rec, inputs["index"]))
        try:
            return attempt(student.target, vcpu.fd, inputs["index"], *inputs["more"])
        finally:
            calls.use(previous)


def msr(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """One of the three, as the case says."""
    return {"after": msr_after_guest, "before": msr_before_guest, "refused": msr_refused}[inputs["what"]](
        student, inputs
    )


# ---- all together ----


def three_modes(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """The student's own machine, from the image to what the guest said."""
    with recording() as rec:
        value = student.target(inputs["mode"], inputs["image"])
        return {"value": value, "exits": rec.exits}
