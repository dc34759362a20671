"""What the drivers of lab 02 share: a VM, a guest in it, its run, and the CPU state as plain numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from autograder.drivers.base import recording
from autograder.drivers.recorder import Recorder
from minivmm.exits import Halted, Interrupted, PortOut
from minivmm.vcpu import InvalidStateError, Vcpu
from minivmm.vm import Vm
from minivmm.watch import Watch

MIB = 1 << 20
LARGE = 2 * MIB
ENTRY = 0x1000
STACK = {"real": 0xF000, "protected": 0x7F000, "long": 0x7F000}
GDT = 0x7F000
TIMEOUT = 1.0  # seconds on the clock, for a guest that takes a few milliseconds of a processor
CONSOLE_KEPT = 1 << 14
SEGMENT = ("base", "limit", "selector", "type", "s", "dpl", "present", "avl", "l", "db", "g", "unusable")
SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss")


@contextmanager
def new_vm(memory: int = MIB, cpuid: bool = True) -> Iterator[tuple[Recorder, Vm, Vcpu]]:
    """A VM with `memory` bytes of RAM and one vCPU as reset leaves it. `cpuid`: the guest sees what the host offers."""
    with recording() as rec, Vm(rec) as vm:
        vm.memory.add(0, memory)
        vcpu = vm.create_vcpu()
        if cpuid:
            vm.show_supported_cpuid(vcpu)
        yield rec, vm, vcpu


def load(vm: Vm, inputs: dict[str, Any], base: int = 0) -> None:
    """The guest's patched image, and whatever else the case puts into memory."""
    vm.memory.write(base + ENTRY, inputs["image"])
    for address, data in inputs.get("plant", ()):
        vm.memory.write(address, data)


def start(vcpu: Vcpu, sregs: Any, mode: str) -> dict[str, Any]:
    """Sets the state. Returns {"refused": the rule that it breaks} where KVM or a processor would not take it."""
    try:
        vcpu.set_sregs(sregs)
    except InvalidStateError as error:
        return {"refused": str(error)}
    vcpu.update(rip=ENTRY, rsp=STACK[mode], rflags=2, rax=0, rbx=0, rcx=0, rdx=0, rsi=0, rdi=0, rbp=0)
    return {}


def run(rec: Recorder, vcpu: Vcpu, on_out: Callable[[int], object] = lambda length: None) -> dict[str, Any]:
    """Runs the guest to its end: what it wrote to ports, how it stopped. `on_out` hears of each write first."""
    console = bytearray()
    with Watch(vcpu.kick, TIMEOUT) as watch:
        while len(console) < CONSOLE_KEPT:
            exit = vcpu.run()
            if isinstance(exit, PortOut):
                on_out(len(console))
                console += exit.data
            elif isinstance(exit, Interrupted):
                if watch.expired:
                    return {"console": bytes(console), "stop": "time-out", "exits": rec.exits}
            else:
                stop = "halted" if isinstance(exit, Halted) else str(exit)
                return {"console": bytes(console), "stop": stop, "exits": rec.exits}
    return {"console": bytes(console), "stop": "it printed without end", "exits": rec.exits}


def run_state(rec: Recorder, vcpu: Vcpu, sregs: Any, mode: str) -> dict[str, Any]:
    """`start`, then `run` where the state was taken."""
    return start(vcpu, sregs, mode) or run(rec, vcpu)


def fields_of(segment: Any) -> dict[str, int]:
    return {name: int(getattr(segment, name)) for name in SEGMENT}


def state_of(sregs: Any) -> dict[str, Any]:
    """The special registers as plain numbers."""
    state: dict[str, Any] = {name: int(getattr(sregs, name)) for name in ("cr0", "cr3", "cr4", "efer")}
    state |= {name: fields_of(getattr(sregs, name)) for name in SEGMENTS}
    return state | {"gdt": {"base": int(sregs.gdt.base), "limit": int(sregs.gdt.limit)}}
