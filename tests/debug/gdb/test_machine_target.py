"""A Machine as gdb's target: what becomes of a stop, where gdb itself is not needed to see it."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from minivmm.debug.gdb import Action, MachineTarget, Reason
from minivmm.debug.gdb.machine_target import AGAIN
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine, Stop


class SlowStarter:
    """A machine that forgets, as its run begins, that it was asked to stop."""

    def __init__(self, backend: Backend) -> None:
        self.vcpus = [SimpleNamespace()]
        self.crew = SimpleNamespace(stops=[])
        self.vm = SimpleNamespace(backend=backend)
        self.memory = None
        self.on_exit: Any = None
        self.begun = threading.Event()
        self._asked = threading.Event()

    def run(self, cpus: object) -> Stop:
        self.begun.set()
        time.sleep(2 * AGAIN)
        self._asked.clear()
        assert self._asked.wait(10)
        return Stop("asked", 0)

    def stop(self) -> None:
        self._asked.set()

    def settle(self) -> None:
        pass


def test_a_stop_is_not_lost_when_it_comes_before_the_run(kvm_backend: Backend) -> None:
    machine = SlowStarter(kvm_backend)
    target = MachineTarget(cast(Machine, machine))
    target.resume({0: Action.CONTINUE})
    assert machine.begun.wait(10)
    target.stop_all()
    assert target.wait_stop().reason is Reason.ASKED
    target.stop_all()  # it stands: nothing to do


def test_a_failure_of_our_own_is_told_and_not_waited_for(kvm_backend: Backend) -> None:
    def fail(exit: object) -> None:
        raise RuntimeError("a device broke")

    with Machine(1 << 20, kvm_backend) as machine:
        machine.load(0x1000, bytes.fromhex("e680f4"))  # out 0x80, al; hlt
        machine.enter("real", 0x1000)
        machine.on_exit = fail
        target = MachineTarget(machine)
        target.resume({0: Action.CONTINUE})
        event = target.wait_stop()
    assert (event.reason, event.code) == (Reason.DIED, 125)
    assert "a device broke" in event.text


@pytest.mark.parametrize("action", Action)
def test_a_tracer_sees_every_exit_of_steps_too(kvm_backend: Backend, action: Action) -> None:
    seen: list[str] = []
    with Machine(1 << 20, kvm_backend) as machine:
        machine.load(0x1000, bytes.fromhex("e680f4"))
        machine.enter("real", 0x1000)
        machine.on_exit = lambda exit: seen.append(str(exit))
        target = MachineTarget(machine)
        machine.vcpu.set_guest_debug(*((3,) if action is Action.STEP else (0,)))
        target.resume({0: action})
        reason = target.wait_stop().reason
        assert machine.on_exit is not None
        assert machine.vcpu.get_regs().rip == (0x1002 if action is Action.STEP else 0x1003)
    assert reason is (Reason.DEBUG if action is Action.STEP else Reason.ENDED)
    assert seen[0] == "out8 port 0x80: 00"
