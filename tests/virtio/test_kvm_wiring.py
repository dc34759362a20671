"""Notifications by ioeventfd and interrupts by irqfd: on the real KVM, and with a backend that hasn't got them."""

from __future__ import annotations

import errno
import select
import threading
import time
from collections.abc import Iterator
from typing import Any

import driver as d
import pytest
from driver import Driver
from guest import Guest

from minivmm.exits import Halted, MmioWrite
from minivmm.kvm import ioctls
from minivmm.kvm.calls import struct
from minivmm.kvm.errors import KvmError
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine
from minivmm.virtio.console import VirtioConsole
from minivmm.virtio.kvm_wiring import KvmWiring
from minivmm.virtio.mmio import VirtioMmio
from minivmm.virtio.worker import Worker
from minivmm.vm import Vm

PATIENCE = 30
GSI = 5
BASE = 0xD000_0000


class Wires:
    """A console of two queues, wired to `vm`. Its worker doesn't run: the test looks at the doorbells itself."""

    def __init__(self, vm: Any) -> None:
        self.levels: list[bool] = []
        self.transport = VirtioMmio(VirtioConsole(lambda data: None), Guest(), BASE, self.levels.append)
        self.worker = Worker(self.transport)
        self.wiring = KvmWiring(vm, self.transport, self.worker, GSI)

    def close(self) -> None:
        self.wiring.close()
        self.worker.close()


@pytest.fixture
def vm(kvm_backend: Backend) -> Iterator[Vm]:
    with Vm(kvm_backend) as vm:
        vm.ioctl(ioctls.KVM_CREATE_IRQCHIP)
        yield vm


def requested(vm: Vm) -> bool:
    """Whether the 8259 has seen an edge on GSI 5: its interrupt request register."""
    chip = struct("kvm_irqchip", chip_id=0)
    vm.ioctl(ioctls.KVM_GET_IRQCHIP, chip)
    return bool(chip.chip.pic.irr >> GSI & 1)


def test_an_interrupt_is_an_edge_in_the_kernel(vm: Vm) -> None:
    wires = Wires(vm)
    assert wires.wiring.interrupts
    assert not requested(vm)
    wires.transport.status.pulse()
    while not requested(vm):  # soon, for a thread of the kernel does it; a test that hangs here has lost the edge
        time.sleep(0.001)
    assert wires.levels == []
    wires.close()
    wires.transport.status.pulse()  # the slow way again
    assert wires.levels == [True, False]


def notifying_guest() -> bytes:
    """16-bit code can't reach 0xD0000000, so this runs in protected mode: three notifications, then HLT."""
    address = (BASE + d.QUEUE_NOTIFY).to_bytes(4, "little")

    def notify(queue: int) -> bytes:
        return b"\xc7\x05" + address + queue.to_bytes(4, "little")  # mov dword ptr [QueueNotify], queue

    return notify(1) + notify(0) + notify(7) + b"\xf4"


def rung(worker: Worker) -> list[bool]:
    return [bool(select.select([bell], [], [], 0)[0]) for bell in worker.doorbells]


def test_a_notification_does_not_leave_the_kernel(kvm_backend: Backend) -> None:
    with Machine(backend=kvm_backend) as machine:
        exits: list[object] = []
        machine.on_exit = exits.append
        wires = Wires(machine.vm)
        assert wires.wiring.notifications
        machine.load(0x1000, notifying_guest())
        machine.enter("protected", 0x1000)
        assert machine.run(timeout=PATIENCE).reason == "halted"
        # Queue 7 isn't there, so its notification goes the slow way; the others rang their bells and nobody saw them.
        assert [type(each) for each in exits] == [MmioWrite, Halted]
        assert rung(wires.worker) == [True, True]
        for bell in wires.worker.doorbells:
            bell.clear()
        wires.close()
        exits.clear()
        machine.enter("protected", 0x1000)
        assert machine.run(timeout=PATIENCE).reason == "halted"
        assert [type(each) for each in exits] == [MmioWrite] * 3 + [Halted]


def test_without_an_irqchip_interrupts_go_by_the_line(kvm_backend: Backend) -> None:
    with Vm(kvm_backend) as vm:
        wires = Wires(vm)
        assert wires.wiring.notifications
        assert not wires.wiring.interrupts
        wires.transport.status.pulse()
        assert wires.levels == [True, False]
        wires.close()


class Backendless:
    """A VM handle that refuses, with `code`, the calls named in `refused`."""

    def __init__(self, code: int, refused: set[int]) -> None:
        self.code, self.refused = code, refused
        self.made: list[int] = []

    def ioctl(self, request: int, argument: Any = 0) -> int:
        if request in self.refused:
            raise KvmError("KVM_IOEVENTFD", self.code)
        self.made.append(argument.flags)
        return 0


@pytest.mark.parametrize("code", [errno.ENOTTY, errno.EINVAL, errno.ENOSYS])
def test_a_backend_without_eventfds_works_as_well(code: int) -> None:
    wires = Wires(Backendless(code, {ioctls.KVM_IOEVENTFD, ioctls.KVM_IRQFD}))
    assert not wires.wiring.notifications
    assert not wires.wiring.interrupts
    driver = Driver(wires.transport, wires.transport.queues[0]._memory)  # type: ignore[arg-type]
    with wires.worker:
        done = threading.Event()
        driver.device.status.pulse = done.set
        driver.start(0)[1].add(b"hello")
        driver.notify(1)
        assert done.wait(PATIENCE)
    wires.close()


def test_other_errors_are_told_and_nothing_stays_behind() -> None:
    vm = Backendless(errno.ENOSPC, {ioctls.KVM_IRQFD})
    with pytest.raises(KvmError):
        Wires(vm)
    assert vm.made == [1, 1, 5, 5]


def test_closing_takes_every_wire_away_and_survives_a_dead_vm() -> None:
    vm = Backendless(errno.EBADF, set())
    wires = Wires(vm)
    assert vm.made == [1, 1, 0]  # two with DATAMATCH, and the irqfd
    wires.close()
    assert vm.made[3:] == [1, 5, 5]  # in reverse order, DEASSIGN
    dying = Backendless(errno.EBADF, set())
    wires = Wires(dying)
    dying.refused = {ioctls.KVM_IOEVENTFD, ioctls.KVM_IRQFD}
    wires.close()
    wires.close()
