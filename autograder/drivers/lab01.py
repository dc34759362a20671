"""Drivers of lab 01: each puts one part of the student's VMM to work on a guest, and reports what happened."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import Any

from autograder.drivers.base import Student, attempt, recording
from autograder.drivers.lab01_guest import (
    ENTRY,
    MOST_EXITS,
    image_of,
    kind,
    listen,
    ram_of,
    real_mode,
    registers,
    vcpu_of,
    walk,
    writable,
)
from autograder.drivers.lab01_kernels import (
    Gathering,
    Interrupting,
    Kernel,
    OfVersion,
    SlotWatcher,
    WithLargerPage,
    kernel,
)
from minivmm import guests
from minivmm.exits import PortIn, PortOut, decode
from minivmm.kvm.calls import ioctl, open_kvm, struct
from minivmm.kvm.constants import KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP
from minivmm.kvm.ioctls import (
    KVM_CREATE_VM,
    KVM_GET_SREGS,
    KVM_RUN,
    KVM_SET_GUEST_DEBUG,
    KVM_SET_SREGS,
)
from minivmm.kvm.run_page import RunPage
from minivmm.machine import Machine

STEP = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP


def call(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """The value of a plain function."""
    return {"value": student.target(*inputs["arguments"])}


def open_system(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """What the student makes of a kernel of this version, and whether a VM can be made of what they return."""
    with kernel(lambda backend: OfVersion(backend, inputs["version"])) as (rec, _):
        outcome = attempt(student.target)
        handle = outcome.get("value")
        made = attempt(ioctl, handle, KVM_CREATE_VM) if isinstance(handle, int) else {}
        return {**outcome, "makes_vm": "value" in made, "calls": rec.calls}


def add_memory(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """Slots made by the student; contents written into the buffers they return; then a guest that runs there."""
    with kernel(SlotWatcher) as (rec, watcher):
        kvm = open_kvm()
        vm = ioctl(kvm, KVM_CREATE_VM)
        kept = [student.target(vm, *slot) for slot in inputs["slots"]]
        seen: dict[str, Any] = {"slots": watcher.slots}
        views = [writable(buffer) for buffer in kept]
        if not all(views):
            return seen | {"value": kept[views.index(None)]}
        for index, offset, data in inputs["contents"]:
            view = views[index]
            if view is None or len(view) < offset + len(data):
                return seen | {"short": index}
            view[offset : offset + len(data)] = data
        vcpu, run = vcpu_of(kvm, vm)
        real_mode(vcpu, ENTRY)
        console, how = listen(vcpu, run)
        return seen | {"console": console, "how": how, "exits": rec.exits}


def create_vcpu(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """A vCPU and its page, made by the student below a kernel with a page of another size; then a guest on them."""
    with kernel(lambda backend: WithLargerPage(backend, inputs["size"])) as (rec, larger):
        kvm = open_kvm()
        vm = ioctl(kvm, KVM_CREATE_VM)
        memory = ram_of(vm)  # kept by its name: the guest lives in it
        memory.write(ENTRY, image_of(inputs))
        value = student.target(kvm, vm)
        kinds = [kind(item) for item in value] if isinstance(value, (tuple, list)) else [kind(value)]
        seen = {"kinds": kinds, "asked": larger.asked, "calls": rec.calls}
        if kinds != ["handle", "page"]:
            return seen
        vcpu, run = value
        real_mode(vcpu, ENTRY)
        console, how = listen(vcpu, run)
        return seen | {"console": console, "how": how, "exits": rec.exits}


def start_at(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """The registers before and after, and what the guest does from there."""
    with recording() as rec:
        kvm = open_kvm()
        vm = ioctl(kvm, KVM_CREATE_VM)
        memory = ram_of(vm)
        memory.write(ENTRY, image_of(inputs))
        memory.write(inputs["entry"], inputs["code"])
        vcpu, run = vcpu_of(kvm, vm)
        sregs = struct("kvm_sregs")
        ioctl(vcpu, KVM_GET_SREGS, sregs)
        sregs.es.selector, sregs.es.base = inputs["es"], inputs["es"] << 4
        ioctl(vcpu, KVM_SET_SREGS, sregs)
        before = registers(vcpu)
        student.target(vcpu, inputs["entry"])
        seen = {"before": before, "after": registers(vcpu)}
        console, how = listen(vcpu, run)
        return seen | {"console": console, "how": how, "exits": rec.exits}


def bytes_of(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """What the student reads from each OUT of a guest."""
    make: Callable[[Any], Kernel] = partial(Gathering, shift=inputs["shift"]) if inputs["shift"] else Kernel
    pieces: list[bytes | str] = []
    shapes: list[list[int]] = []
    with kernel(make) as (rec, _), Machine() as machine:
        machine.load_guest(guests.load(inputs["guest"]), **inputs["parameters"])

        def on_out(exit: PortOut) -> None:
            shapes.append([exit.size, exit.count])
            piece = student.target(machine.vcpu.run_page)
            # A view of the page would show what comes later: say what it is instead.
            pieces.append(bytes(piece) if isinstance(piece, (bytes, bytearray)) else type(piece).__name__)

        how = walk(machine.vcpu.run, on_out)
        return {"pieces": pieces, "shapes": shapes, "how": how, "exits": rec.exits}


def fill(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """What the student's answers to each IN are, and what the guest makes of them."""
    typed = bytearray(inputs["typed"])
    answers: list[bytes] = []
    console = bytearray()
    with recording() as rec, Machine() as machine:
        machine.load_guest(guests.load(inputs["guest"]), **inputs["parameters"])

        def on_in(exit: PortIn) -> None:
            # Linux clears this place, but the API doesn't promise it: what nobody writes must not look like an answer.
            exit.buffer[:] = (inputs["stale"] * len(exit.buffer))[: len(exit.buffer)]
            student.target(machine.vcpu.run_page, typed if exit.port == inputs["port"] else bytearray())
            answers.append(bytes(exit.buffer))

        how = walk(machine.vcpu.run, lambda exit: console.extend(exit.data), on_in)
        return {
            "answers": answers,
            "left": len(typed),
            "console": bytes(console),
            "how": how,
            "exits": rec.exits,
        }


def enter(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """One call, under a kernel whose KVM_RUN fails the first few times."""
    code = getattr(errno, inputs["error"])
    with kernel(lambda backend: Interrupting(backend, code, inputs["times"])) as (rec, below), Machine() as machine:
        machine.load_guest(guests.load(inputs["guest"]), **inputs["parameters"])
        outcome = attempt(student.target, machine.vcpu.fd)
        outcome.pop("value", None)
        return {**outcome, "runs": below.runs, "reason": machine.vcpu.run_page.exit_reason, "exits": rec.exits}


def run_loop(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """The student's loop around a guest, with handlers of ours."""
    typed = iter(inputs["typed"])
    console = bytearray()
    handled: list[str] = []
    with recording() as rec, Machine(memory=0) as machine:
        for gpa, size in inputs["slots"]:
            machine.memory.add(gpa, size)
        machine.load_guest(guests.load(inputs["guest"]), **inputs["parameters"])
        vcpu, run = machine.vcpu.fd, machine.vcpu.run_page
        if inputs["single_step"]:
            ioctl(vcpu, KVM_SET_GUEST_DEBUG, struct("kvm_guest_debug", control=STEP))

        def go() -> None:
            if sum(rec.counts.values()) > MOST_EXITS:
                raise OverflowError(f"your loop made {MOST_EXITS} exits, far more than this guest needs")
            ioctl(vcpu, KVM_RUN)

        def on_out(page: RunPage) -> None:
            handled.append("out")
            if isinstance(exit := decode(page), PortOut):
                console.extend(exit.data)

        def on_in(page: RunPage) -> None:
            handled.append("in")
            if isinstance(exit := decode(page), PortIn):
                exit.buffer[:] = bytes(next(typed, 0xFF) for _ in exit.buffer)

        outcome = attempt(student.target, go, run, on_out, on_in)
        return {**outcome, "console": bytes(console), "handled": handled[:200], "exits": rec.exits}


def vmm(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """The whole VMM on one guest."""
    with recording() as rec:
        value = student.target(image_of(inputs), inputs["typed"])
        return {"value": value, "exits": rec.exits}
