"""A VM for one question to the API: a few bytes of real-mode code at 0x1000, and the exits they cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from minivmm.boot.layout import FLAT_LOAD, enter
from minivmm.doctor.probe import TIMEOUT, FailedError, SkippedError
from minivmm.exits import Exit, Interrupted
from minivmm.kvm.seam import Backend
from minivmm.vcpu import Vcpu
from minivmm.vm import Vm
from minivmm.watch import Watch

RAM = 0x10000


@contextmanager
def bench(
    backend: Backend, code: bytes, *, log_dirty: bool = False, prepare: Callable[[Vm], object] = lambda vm: None
) -> Iterator[tuple[Vm, Vcpu]]:
    """A VM with 64 KiB and a vCPU about to run `code`. `prepare` sees the VM before it has a vCPU."""
    with Vm(backend) as vm:
        vm.memory.add(0, RAM, log_dirty=log_dirty)
        vm.memory.write(FLAT_LOAD, code)
        prepare(vm)
        vcpu = vm.create_vcpu()
        enter(vcpu, vm.memory, "real", FLAT_LOAD)
        yield vm, vcpu


def next_exit(vcpu: Vcpu) -> Exit:
    """The next exit of the guest's own making. Raises FailedError where none comes in time."""
    with Watch(vcpu.kick, TIMEOUT) as watch:
        while isinstance(exit := vcpu.run(), Interrupted):
            if watch.expired:
                raise FailedError(f"it hangs: no exit within {TIMEOUT} s")
    return exit


def require(vm: Vm, capability: int, name: str) -> int:
    """What KVM_CHECK_EXTENSION says. Raises SkippedError where it says 0."""
    value = vm.has_cap(capability)
    if not value:
        raise SkippedError(f"this KVM does not offer {name}")
    return value
