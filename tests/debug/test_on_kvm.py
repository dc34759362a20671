"""Guests that really die: the explanation that `Machine.run` hands back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from minivmm import exits, guests
from minivmm.boot.layout import Mode
from minivmm.debug import explain
from minivmm.kvm import host
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine

pytestmark = pytest.mark.kvm
interpreted = pytest.mark.skipif(not host.look().is_pvm, reason="only kvm_pvm interprets ring 0")

DEATHS: dict[str, tuple[Mode, str, list[str]]] = {
    "ud2": ("long", "0f 0b", ["`ud2` at 0x1000 raised #UD", "no gates"]),
    "page not mapped": ("long", "48 a1 00 00 00 00 01 00 00 00", ["#PF", "0x100000000", "PDPT entry 4 has P=0"]),
    "not canonical": ("long", "48 b8 00 00 00 00 00 00 80 00 48 8b 00", ["#GP", "not a canonical address"]),
    "jump to an unmapped page": ("long", "48 b8 00 00 00 00 01 00 00 00 ff e0", ["RIP is 0x100000000"]),
    "jump into a hole": ("long", "b8 00 00 20 00 ff e0", ["RIP is 0x200000", "no memory slot"]),
    "division by zero": ("protected", "31 c9 f7 f1", ["`div ecx` at 0x1002", "#DE"]),
    "selector beyond the GDT": ("protected", "66 b8 f0 00 8e d8", ["#GP", "selector 0xf0 lies beyond the GDT"]),
    "unknown MSR": ("long", "b9 34 12 00 00 0f 32", ["#GP", "KVM does not know MSR 0x1234"]),
}


@pytest.fixture
def die(kvm_backend: Backend) -> Callable[..., str]:
    """die(mode, code) -> the cause."""

    def run(mode: Mode, code: str, **registers: int) -> str:
        with Machine(backend=kvm_backend) as machine:
            machine.vcpu.set_cpuid(machine.vm.supported_cpuid())
            machine.load(0x1000, bytes.fromhex(code) + b"\xf4" * 16)
            machine.enter(mode, 0x1000)
            machine.vcpu.update(**registers)
            stop = machine.run(5)
            assert stop.reason == "died"
            assert stop.exit_code == 125
            assert stop.explanation is not None
            assert max(map(len, stop.explanation.text().splitlines())) <= 100
            return stop.explanation.cause

    return run


@pytest.mark.parametrize("name", DEATHS)
def test_the_cause_is_named(name: str, die: Callable[..., str]) -> None:
    mode, code, words = DEATHS[name]
    cause = die(mode, code)
    if "KVM has reset the vCPU" in cause:  # AMD-V keeps nothing to explain
        pytest.skip("this KVM resets a vCPU after a triple fault")
    for word in words:
        assert word in cause


@interpreted
def test_what_the_emulator_lacks_is_named(die: Callable[..., str]) -> None:
    assert "KVM's emulator lacks `int 0x40` at 0x1001" in die("long", "90 cd 40")
    assert "switches 32-bit paging on" in die("protected", "0f 20 c0 0d 00 00 00 80 0f 22 c0")


def test_the_triple_fault_guest_is_explained(kvm_backend: Backend) -> None:
    with Machine(backend=kvm_backend) as machine:
        machine.load_guest(guests.load("triple-fault"), nonce=7)
        explanation = machine.run(5).explanation
    assert explanation is not None
    assert explanation.sections[-1].lines[-1] == "KVM_EXIT_SHUTDOWN"
    assert explanation.sections[-1].lines[0].startswith("out8 port 0x3f8")


def test_a_machine_that_is_closed_is_explained_too(kvm_backend: Backend) -> None:
    with Machine(backend=kvm_backend) as machine:
        machine.load(0x1000, b"\x0f\x0b")
        machine.enter("long", 0x1000)
    explanation = explain(machine.vcpu, machine.memory, exits.Shutdown(), [exits.Shutdown()])
    assert explanation.cause
