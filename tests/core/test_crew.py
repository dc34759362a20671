"""Several vCPUs: they run at once, and pause, go on and stop together, whoever asks."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest

from minivmm.boot import layout
from minivmm.exits import PortOut
from minivmm.kvm import constants as k
from minivmm.kvm import ioctls
from minivmm.kvm.calls import struct
from minivmm.kvm.handles import checked
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine
from minivmm.machine.controls import MachineControls
from minivmm.soft.backend import SoftBackend

CPUS = 3
CELLS = [0x5000 + 0x100 * cpu for cpu in range(CPUS)]
# loop: lock inc dword [edi]; mov al, bl; out 0x80, al; jmp loop
COUNT = bytes.fromhex("f0ff07 88d8 e680 ebf7")
HALT = bytes.fromhex("fa f4")


@pytest.fixture(params=["soft", "kvm"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return SoftBackend() if request.param == "soft" else request.getfixturevalue("kvm_backend")


def start(machine: Machine, codes: list[bytes]) -> None:
    """Puts each vCPU into its own code, as if it had been started."""
    for number, (vcpu, code) in enumerate(zip(machine.vcpus, codes, strict=True)):
        place = 0x1000 * (number + 1)
        machine.load(place, code)
        layout.enter(vcpu, machine.memory, "protected", place, rdi=CELLS[number], rbx=number)
        running = struct("kvm_mp_state", mp_state=k.KVM_MP_STATE_RUNNABLE)
        checked(machine.vm.backend, vcpu.fd, ioctls.KVM_SET_MP_STATE, running)


@pytest.fixture
def machine(backend: Backend) -> Iterator[Machine]:
    with Machine(1 << 20, backend, cpus=CPUS, irqchip="kernel") as machine:
        start(machine, [COUNT] * CPUS)
        yield machine


def counts(machine: Machine) -> list[int]:
    return [machine.memory.read_int(cell, 4) for cell in CELLS]


class Running:
    """The machine, run on another thread."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._thread = threading.Thread(target=lambda: setattr(self, "stop", machine.run(60)))
        self._thread.start()

    def moved(self, since: list[int]) -> None:
        """Waits until every vCPU has counted on."""
        for _ in range(6000):
            if all(now > before for now, before in zip(counts(self._machine), since, strict=True)):
                return
            threading.Event().wait(0.01)
        raise AssertionError(f"someone stands still: {since} {counts(self._machine)}")

    def over(self) -> str:
        self._thread.join(60)
        return str(self.stop.reason)  # type: ignore[attr-defined]


def test_all_of_them_run_and_stop(machine: Machine) -> None:
    running = Running(machine)
    running.moved([0] * CPUS)
    machine.stop()
    assert running.over() == "asked"
    before = counts(machine)
    assert counts(machine) == before


def test_a_pause_is_complete_when_it_returns_and_adds_up(machine: Machine) -> None:
    running = Running(machine)
    running.moved([0] * CPUS)
    for _ in range(5):
        machine.crew.pause()
        machine.crew.pause()
        before = counts(machine)
        machine.crew.resume()
        for vcpu, count in zip(machine.vcpus, before, strict=True):
            regs = vcpu.get_regs()
            assert regs.rip & 0xFFF <= 7
            assert machine.memory.read_int(regs.rdi, 4) == count
        assert counts(machine) == before
        machine.crew.resume()
        running.moved(before)
    machine.stop()
    assert running.over() == "asked"


def test_a_pause_waits_for_who_is_at_a_device(machine: Machine) -> None:
    at_device = threading.Event()
    leave = threading.Event()

    def slow(exit: object) -> None:
        if machine.here.index == 1:
            at_device.set()
            leave.wait(10)
            at_device.clear()

    machine.on_exit = slow
    running = Running(machine)
    assert at_device.wait(60)
    threading.Timer(0.2, leave.set).start()
    machine.crew.pause()
    assert not at_device.is_set()
    machine.crew.resume()
    machine.stop()
    assert running.over() == "asked"


class Tickets:
    """A device that counts its reads, and takes its time: whoever pauses the machine finds it at work."""

    name = "tickets"
    claim = range(0x99, 0x9A)

    def __init__(self) -> None:
        self.given = 0

    def read(self, offset: int, size: int) -> int:
        self.given += 1
        time.sleep(0.002)
        return 0x5A

    def write(self, offset: int, size: int, value: int) -> None:
        pass

    def save(self) -> dict[str, Any]:
        return {}

    def load(self, state: dict[str, Any]) -> None:
        pass


def test_who_is_paused_has_its_last_access_behind_it(backend: Backend) -> None:
    with Machine(1 << 20, backend, devices=[tickets := Tickets()]) as machine:
        machine.load(0x1000, bytes.fromhex("e499 ff07 ebfa"))  # 1000: in al, 0x99; 1002: inc dword [edi]; jmp 1000
        layout.enter(machine.vcpu, machine.memory, "protected", 0x1000, rdi=CELLS[0])
        running = Running(machine)
        for _ in range(20):
            seen = tickets.given
            while tickets.given == seen:
                time.sleep(0.001)
            machine.crew.pause()
            regs, counted = machine.vcpu.get_regs(), machine.memory.read_int(CELLS[0], 4)
            assert tickets.given == counted + (regs.rip == 0x1002), hex(regs.rip)
            machine.crew.resume()
        machine.stop()
        assert running.over() == "asked"


def test_a_paused_machine_can_be_stopped_and_times_out(machine: Machine) -> None:
    machine.crew.pause()
    assert machine.run(0.3).reason == "timeout"
    running = Running(machine)
    machine.stop()  # perhaps before it has begun: that stop is forgotten
    while running._thread.is_alive():
        machine.stop()
        running._thread.join(0.05)
    assert running.over() == "asked"
    assert counts(machine) == [0] * CPUS


def test_only_some_run_if_asked(machine: Machine) -> None:
    assert machine.run(0.3, cpus=[1]).reason == "timeout"
    assert [count > 0 for count in counts(machine)] == [False, True, False]


def test_each_exit_is_served_once_and_has_its_vcpu(machine: Machine) -> None:
    seen: list[tuple[int, int]] = []

    def note(exit: object) -> None:
        assert isinstance(exit, PortOut)
        seen.append((machine.here.index, exit.data[0]))
        if len(seen) == 2000:
            machine.stop()

    machine.on_exit = note
    assert machine.run(60).reason == "asked"
    assert {cpu for cpu, _ in seen} == set(range(CPUS))
    assert all(cpu == said for cpu, said in seen)
    for number, count in enumerate(counts(machine)):
        assert abs(sum(cpu == number for cpu, _ in seen) - count) <= 1


def test_the_one_that_dies_is_explained(machine: Machine) -> None:
    start(machine, [COUNT, bytes.fromhex("0f0b"), COUNT])
    stop = machine.run(60)
    assert (stop.reason, stop.cpu) == ("died", 1)
    assert stop.explanation is not None
    text = stop.explanation.text()
    # On AMD-V, KVM resets a vCPU that shuts down (svm.c, shutdown_interception): nothing is left to show.
    assert "ud2" in text or "KVM has reset the vCPU" in text


def test_what_a_device_raises_comes_out_of_run(machine: Machine) -> None:
    def fail(exit: object) -> None:
        if machine.here.index == 2:
            raise RuntimeError("a device broke")

    machine.on_exit = fail
    with pytest.raises(RuntimeError, match="a device broke"):
        machine.run(60)
    machine.on_exit = None
    assert machine.run(0.2).reason == "timeout"


def test_when_all_have_halted_for_good_it_is_over(machine: Machine) -> None:
    start(machine, [HALT] * CPUS)
    assert machine.run(60).reason == "halted"


def test_one_that_may_still_wake_another_keeps_it_alive(machine: Machine) -> None:
    start(machine, [HALT, COUNT, HALT])
    assert machine.run(2).reason == "timeout"


def test_processors_that_nobody_starts_don_t_count(backend: Backend) -> None:
    with Machine(1 << 20, backend, cpus=2, irqchip="kernel") as machine:
        machine.load(0x1000, HALT)
        machine.enter("protected", 0x1000)
        assert machine.run(60).reason == "halted"


def test_cpuid_tells_each_its_own_number(machine: Machine) -> None:
    # mov eax, 1; cpuid; shr ebx, 24; mov [edi], ebx; mov eax, 0xb; xor ecx, ecx; cpuid; mov [edi + 4], edx; cli; hlt
    code = bytes.fromhex("b801000000 0fa2 c1eb18 891f b80b000000 31c9 0fa2 895704 fa f4")
    start(machine, [code] * CPUS)
    assert machine.run(60).reason == "halted"
    assert counts(machine) == [0, 1, 2]
    highest = machine.vm.supported_cpuid()[0]["eax"]
    levels = [machine.memory.read_int(cell + 4, 4) for cell in CELLS]
    assert levels == ([0, 1, 2] if highest >= 0xB else [0, 0, 0])


def test_the_monitor_s_controls(machine: Machine) -> None:
    controls = MachineControls(machine)
    running = Running(machine)
    running.moved([0] * CPUS)
    assert controls.cpus == CPUS
    regs, _ = controls.state(2)
    assert regs.rbx & 0xFF == 2
    running.moved(counts(machine))  # it was stopped for a moment only
    controls.pause()
    controls.pause()
    before = counts(machine)
    controls.state(0)
    assert counts(machine) == before
    controls.resume()
    assert not controls.paused
    running.moved(before)
    assert "--trace" in controls.exits()
    with pytest.raises(ValueError, match="power button"):
        controls.power_button()
    controls.reset()
    assert running.over() == "reset"
    assert controls.reset_pressed


def test_ctrl_c_stops_all_of_them(spawn: Callable[..., Popen[str]]) -> None:
    program = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_crew import *
machine = Machine(1 << 20, SoftBackend(), cpus=CPUS, irqchip="kernel")
start(machine, [COUNT] * CPUS)
print("running", flush=True)
try:
    machine.run()
except KeyboardInterrupt:
    print("interrupted", threading.active_count(), machine.run(0.2).reason)
"""
    child = spawn([sys.executable, "-c", program], stdout=PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "running\n"
    threading.Event().wait(0.5)
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=60)[0] == "interrupted 1 timeout\n"
