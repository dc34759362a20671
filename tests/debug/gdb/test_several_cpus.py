"""gdb's target with two vCPUs: who goes, who stands, and breakpoints that both come to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from minivmm.boot import layout
from minivmm.debug.gdb import Action, MachineTarget, Reason
from minivmm.exits import Debug
from minivmm.kvm import constants as k
from minivmm.kvm import ioctls
from minivmm.kvm.calls import struct
from minivmm.kvm.handles import checked
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine
from minivmm.soft.backend import SoftBackend

LOOP = bytes.fromhex("90 90 ebfc")  # 1000: nop; 1001: nop; 1002: jmp 1000
STEP = k.KVM_GUESTDBG_ENABLE | k.KVM_GUESTDBG_SINGLESTEP
CODE = (0x1000, 0x2000)


@pytest.fixture(params=["kvm", "soft"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return SoftBackend() if request.param == "soft" else request.getfixturevalue("kvm_backend")


@pytest.fixture
def machine(backend: Backend) -> Iterator[Machine]:
    """Two vCPUs, both started, each in a loop of its own."""
    with Machine(1 << 20, backend, cpus=2, irqchip="kernel") as machine:
        for vcpu, place in zip(machine.vcpus, CODE, strict=True):
            machine.load(place, LOOP)
            layout.enter(vcpu, machine.memory, "protected", place)
            running = struct("kvm_mp_state", mp_state=k.KVM_MP_STATE_RUNNABLE)
            checked(backend, vcpu.fd, ioctls.KVM_SET_MP_STATE, running)
        yield machine


def places(machine: Machine) -> list[int]:
    return [vcpu.get_regs().rip for vcpu in machine.vcpus]


def test_a_step_of_one_leaves_the_other_where_it_is(machine: Machine) -> None:
    target = MachineTarget(machine)
    machine.vcpus[1].set_guest_debug(STEP)
    for expected in (0x2001, 0x2002, 0x2000):
        target.resume({1: Action.STEP})
        event = target.wait_stop()
        assert (event.cpu, event.reason) == (1, Reason.DEBUG)
        assert places(machine) == [0x1000, expected]


def test_all_go_and_stop_all_stops_them_all(machine: Machine) -> None:
    target = MachineTarget(machine)
    target.resume({0: Action.CONTINUE, 1: Action.CONTINUE})
    target.stop_all()
    assert target.wait_stop().reason is Reason.ASKED
    before = places(machine)
    assert all(start <= rip <= start + 2 for start, rip in zip(CODE, before, strict=True))
    assert places(machine) == before


def test_two_that_stop_at_once_are_told_one_by_one(machine: Machine) -> None:
    target = MachineTarget(machine)
    told = set()
    for vcpu in machine.vcpus:
        vcpu.set_guest_debug(STEP)
    for _ in range(2):  # each steps once, and the second event may come of the first run or of another
        target.resume({cpu: Action.STEP for cpu in (0, 1) if cpu not in told})
        event = target.wait_stop()
        assert isinstance(event.exit, Debug)
        assert event.exit.pc == CODE[event.cpu] + 1
        told.add(event.cpu)
    assert told == {0, 1}
    assert places(machine) == [0x1001, 0x2001]
