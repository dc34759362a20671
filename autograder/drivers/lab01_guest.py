"""A guest around one part of the student's: what the drivers of lab 01 set up and run themselves."""

from __future__ import annotations

import errno
from collections.abc import Callable
from threading import get_native_id
from typing import Any

from minivmm import guests
from minivmm.exits import Exit, Halted, Interrupted, PortIn, PortOut, decode
from minivmm.kvm import calls
from minivmm.kvm.calls import ioctl, struct
from minivmm.kvm.errors import failure
from minivmm.kvm.ioctls import (
    KVM_CREATE_VCPU,
    KVM_GET_REGS,
    KVM_GET_SREGS,
    KVM_GET_VCPU_MMAP_SIZE,
    KVM_RUN,
    KVM_SET_REGS,
    KVM_SET_SREGS,
)
from minivmm.kvm.run_page import RunPage
from minivmm.memory import GuestMemory
from minivmm.watch import Watch

MOST_EXITS = 5000  # of one guest here; a guest that makes more is lost
GUEST_SECONDS = 0.8  # for a guest that needs a thousandth of it
ENTRY = 0x1000  # where the course's flat guests lie and begin


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
