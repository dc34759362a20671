"""VMware's backdoor as a guest calls it: IN from 0x5658 with a magic number and a command in the registers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from minivmm.devices.vmware_backdoor import VmwareBackdoor
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine

MAGIC = 0x564D_5868
NS = 1_700_000_000_123_456_789


class Caller:
    """The vCPU at the port."""

    def __init__(self, **settings: int) -> None:
        self.regs = SimpleNamespace(rax=0, rbx=0xFFFF_FFFF, rcx=0, rdx=0x5658, rsi=0)
        self.time = NS
        self.device = VmwareBackdoor(
            lambda: self.regs, self._update, lambda: self.time, **{"memory": 3 << 30, **settings}
        )

    def _update(self, **fields: int) -> None:
        for name, value in fields.items():
            assert 0 <= value < 1 << 32
            setattr(self.regs, name, value)

    def call(self, command: int, magic: int = MAGIC) -> int:
        self.regs.rax, self.regs.rcx = magic, command
        return self.device.read(0, 4)


@pytest.fixture
def caller() -> Caller:
    return Caller(tsc_hz=5_000_000_000, apic_hz=1_000_000_000)


def test_version(caller: Caller) -> None:
    assert caller.call(10) == 6
    assert (caller.regs.rbx, caller.regs.rcx) == (MAGIC, 4)


def test_memory_size_in_mib(caller: Caller) -> None:
    assert caller.call(20) == 3072


def test_time(caller: Caller) -> None:
    assert caller.call(23) == 1_700_000_000
    assert caller.regs.rbx == 123_456
    assert (caller.regs.rcx, caller.regs.rdx) == (1_000_000, 0)


def test_the_full_time_goes_on_after_2106(caller: Caller) -> None:
    caller.time = (5 << 32 | 7) * 10**9
    assert caller.call(46) == MAGIC
    assert (caller.regs.rsi, caller.regs.rdx, caller.regs.rbx) == (5, 7, 0)


def test_frequencies(caller: Caller) -> None:
    low = caller.call(45)
    assert caller.regs.rbx << 32 | low == 5_000_000_000
    assert caller.regs.rcx == 1_000_000_000


def test_what_is_refused_changes_no_register(caller: Caller) -> None:
    for device in (caller, Caller()):
        for command, magic in ((99, MAGIC), (10, MAGIC + 1), (10, 0)):
            before = vars(device.regs).copy()
            assert device.call(command, magic) == 0xFFFF_FFFF
            assert vars(device.regs) == before | {"rax": magic, "rcx": command}
    unknown = Caller()
    assert (unknown.call(45), unknown.regs.rbx) == (0xFFFF_FFFF, 0xFFFF_FFFF)


def test_upper_halves_do_not_count(caller: Caller) -> None:
    assert caller.call(7 << 16 | 10, 0xABCD << 32 | MAGIC) == 6


def test_only_a_doubleword_in_is_a_call(caller: Caller) -> None:
    caller.regs.rax, caller.regs.rcx = MAGIC, 10
    caller.device.write(0, 4, MAGIC)
    assert [caller.device.read(0, 1), caller.device.read(0, 2), caller.device.read(2, 2)] == [0xFF, 0xFFFF, 0xFFFF]
    assert caller.regs.rbx == 0xFFFF_FFFF


def test_registers_set_before_the_in_is_completed_stay(backend: Backend) -> None:
    code = bytes.fromhex(
        "66 b8 68584d56"  # mov eax, magic
        "66 b9 0a000000"  # mov ecx, 10
        "ba 5856"  # mov dx, 0x5658
        "66 ed"  # in eax, dx
        "f4"  # hlt
    )
    with Machine(backend=backend) as machine:
        vcpu = machine.vcpu
        machine.ports.attach(VmwareBackdoor(vcpu.get_regs, vcpu.update, lambda: NS, memory=1 << 20))
        machine.load(0x1000, code)
        machine.enter("real", 0x1000)
        assert machine.run(timeout=10).reason == "halted"
        regs = vcpu.get_regs()
        assert (regs.rax, regs.rbx, regs.rcx) == (6, MAGIC, 4)
