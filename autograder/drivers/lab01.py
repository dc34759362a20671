"""Drivers of lab 01: each puts one part of the student's VMM to work on a guest, and reports what happened."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from threading import get_native_id
from typing import Any

from autograder.drivers.base import Student, attempt, recording
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
from minivmm.exits import Exit, Halted, Interrupted, PortIn, PortOut, decode
from minivmm.kvm import calls
from minivmm.kvm.calls import ioctl, open_kvm, struct
from minivmm.kvm.constants import KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP
from minivmm.kvm.errors import failure
from minivmm.kvm.ioctls import (
    KVM_CREATE_VCPU,
    KVM_CREATE_VM,
    KVM_GET_REGS,
    KVM_GET_SREGS,
    KVM_GET_VCPU_MMAP_SIZE,
    KVM_RUN,
    KVM_SET_GUEST_DEBUG,
    KVM_SET_REGS,
    KVM_SET_SREGS,
)
from minivmm.kvm.run_page import RunPage
from minivmm.machine import Machine
from minivmm.memory import GuestMemory
from minivmm.watch import Watch

MOST_EXITS = 5000  # of one guest here; a guest that makes more is lost
GUEST_SECONDS = 0.8  # for a guest that needs a thousandth of it
ENTRY = 0x1000  # where the course's flat guests lie and begin


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


# ---- what the drivers share ----

STEP = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP


def writable(buffer: object) -> memoryview | None:
    """The bytes of a buffer, or None for something that is none or that can't be written."""
    try:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
    except TypeError:
        return None
    return None if view.readonly else view


def kind(value: object) -> str:
    """What a student's value is, in one word for a judge."""
    if isinstance(value, RunPage):
        return "page"
    return "handle" if isinstance(value, int) else type(value).__name__


def image_of(inputs: dict[str, Any]) -> bytes:
    return guests.load(inputs["guest"]).patched(**inputs["parameters"])


def ram_of(vm: int) -> GuestMemory:
    """64 KiB from 0 on: all that real mode needs."""
    memory = GuestMemory(calls.current(), vm)
    memory.add(0, 0x10000)
    return memory


def vcpu_of(kvm: int, vm: int) -> tuple[int, RunPage]:
    vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)
    return vcpu, calls.mmap_run(vcpu, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE))


def real_mode(vcpu: int, entry: int) -> None:
    """From the state after reset to `entry` in the first 64 KiB. The stack lies below the guest, out of its data."""
    sregs, regs = struct("kvm_sregs"), struct("kvm_regs", rip=entry, rsp=ENTRY, rflags=2)
    ioctl(vcpu, KVM_GET_SREGS, sregs)
    sregs.cs.base = sregs.cs.selector = 0
    ioctl(vcpu, KVM_SET_SREGS, sregs)
    ioctl(vcpu, KVM_SET_REGS, regs)


def registers(vcpu: int) -> dict[str, int]:
    """The registers that matter when a guest starts in real mode."""
    sregs, regs = struct("kvm_sregs"), struct("kvm_regs")
    ioctl(vcpu, KVM_GET_SREGS, sregs)
    ioctl(vcpu, KVM_GET_REGS, regs)
    seen = {"rip": regs.rip, "rflags": regs.rflags, "cr0": sregs.cr0, "efer": sregs.efer}
    for name in ("cs", "ds", "es", "ss"):
        segment = getattr(sregs, name)
        seen |= {f"{name}.{field}": getattr(segment, field) for field in ("base", "selector", "limit", "present")}
    return seen


def all_ones(exit: PortIn) -> None:
    """What a port reads that nobody drives."""
    exit.buffer[:] = b"\xff" * len(exit.buffer)


def walk(
    step: Callable[[], Exit],
    on_out: Callable[[PortOut], None],
    on_in: Callable[[PortIn], None] = all_ones,
) -> str:
    """Runs a guest to its end and says how it ended: "halted", or the exit that nobody here handles."""
    for _ in range(MOST_EXITS):
        match step():
            case PortOut() as exit:
                on_out(exit)
            case PortIn() as exit:
                on_in(exit)
            case Halted():
                return "halted"
            case exit:
                return str(exit)
    return f"not ended after {MOST_EXITS} exits"


def listen(vcpu: int, run: RunPage) -> tuple[bytes, str]:
    """What a guest sends to any port, and how it ends: the student set it up, so it may never do so."""
    console = bytearray()
    thread = get_native_id()

    def kick() -> None:
        run.immediate_exit = 1
        calls.current().kick(thread)

    def step() -> Exit:
        result = calls.current().ioctl(vcpu, KVM_RUN)
        if result == -errno.EINTR:
            run.immediate_exit = 0
            return Interrupted()
        if result < 0:
            raise failure(KVM_RUN, -result)
        return decode(run)

    with Watch(kick, GUEST_SECONDS) as clock:
        while (how := walk(step, lambda exit: console.extend(exit.data))) == str(Interrupted()) and not clock.expired:
            pass  # a heartbeat, not the end
    return bytes(console), f"still running after {GUEST_SECONDS} s" if clock.expired else how
