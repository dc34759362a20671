"""KVM's clock pages: what a guest computes from them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivmm.soft import kvmclock
from minivmm.soft.kvmclock import KvmClock, scale

PAGE = 0x1000


class Guest:
    """A page of guest memory, a TSC, and the readers that a guest has."""

    def __init__(self, khz: int = 2_400_000) -> None:
        self.khz = khz
        self.ns = 5_000_000_000
        self.memory = bytearray(4096)
        self.writes: list[bytes] = []
        self.clock = KvmClock(self, lambda: self.ns, lambda: 1_700_000_000_123_456_789 + self.ns, self.write)

    def read(self) -> int:  # the TSC
        return self.ns * self.khz // 1_000_000

    def write(self, gpa: int, data: bytes) -> None:
        offset = gpa - PAGE
        if 0 <= offset <= len(self.memory) - len(data):
            self.memory[offset : offset + len(data)] = data
            self.writes.append(bytes(self.memory[:64]))

    def time(self) -> int:
        version, _, stamp, system, mul, shift, _, _ = struct.unpack_from("<IIQQIbBH", self.memory)
        assert version % 2 == 0
        delta = self.read() - stamp
        delta = delta << shift if shift >= 0 else delta >> -shift
        return int(system) + (delta * int(mul) >> 32)


@given(st.integers(1, 100_000_000), st.integers(0, 3600))
def test_the_scale_is_exact_enough(khz: int, seconds: int) -> None:
    """Within 1 ns a second of the true time, for any TSC from 1 kHz to 100 GHz."""
    mul, shift = scale(khz)
    assert 1 << 31 <= mul < 1 << 32
    assert -32 < shift < 32
    ticks = seconds * khz * 1000
    scaled = ticks << shift if shift >= 0 else ticks >> -shift
    assert abs((scaled * mul >> 32) - seconds * 10**9) <= seconds + 2 ** max(shift, 0) + 1


@pytest.mark.parametrize("index", [0x12, 0x4B564D01])
def test_the_guest_reads_the_time(index: int) -> None:
    guest = Guest()
    assert guest.clock.write_msr(index, PAGE | 1)
    assert guest.clock.read_msr(index) == PAGE | 1
    assert guest.time() == guest.ns
    guest.ns += 10_000_000_000
    assert guest.time() == pytest.approx(guest.ns, abs=10)
    assert guest.memory[29] == kvmclock.TSC_STABLE


def test_the_version_is_odd_while_it_changes() -> None:
    guest = Guest()
    guest.clock.write_msr(kvmclock.MSR_SYSTEM_TIME_NEW, PAGE | 1)
    versions = [int.from_bytes(state[:4], "little") for state in guest.writes]
    assert [version % 2 for version in versions] == [1, 1, 0]
    guest.writes.clear()
    guest.clock.update()
    assert [int.from_bytes(state[:4], "little") for state in guest.writes] == [versions[-1] + n for n in (1, 1, 2)]
    bodies = {state[4:32] for state in guest.writes}
    assert len(bodies) == 1  # nothing but the version moved, and only between odd and even


def test_switched_off_nothing_is_written() -> None:
    guest = Guest()
    guest.clock.write_msr(kvmclock.MSR_SYSTEM_TIME_NEW, PAGE)
    guest.clock.update()
    guest.clock.write_msr(kvmclock.MSR_STEAL_TIME, PAGE)
    guest.clock.update_steal(5)
    assert guest.writes == []


def test_a_page_outside_memory_harms_nobody() -> None:
    guest = Guest()
    assert guest.clock.write_msr(kvmclock.MSR_SYSTEM_TIME_NEW, 1 << 40 | 1)
    assert guest.clock.write_msr(kvmclock.MSR_WALL_CLOCK, 1 << 40)
    assert guest.writes == []


def test_setting_the_clock() -> None:
    guest = Guest()
    guest.clock.write_msr(kvmclock.MSR_SYSTEM_TIME_NEW, PAGE | 1)
    guest.clock.set_clock(77)
    assert (guest.clock.clock(), guest.time()) == (77, 77)


@pytest.mark.parametrize("index", [0x11, 0x4B564D00])
def test_the_wall_clock_says_when_the_guest_began(index: int) -> None:
    guest = Guest()
    guest.clock.write_msr(index, PAGE)
    assert struct.unpack_from("<III", guest.memory) == (2, 1_700_000_000, 123_456_789)


def test_steal_time() -> None:
    guest = Guest()
    assert not guest.clock.write_msr(kvmclock.MSR_STEAL_TIME, PAGE | 3)  # reserved bits
    assert guest.clock.read_msr(kvmclock.MSR_STEAL_TIME) == 0
    assert guest.clock.write_msr(kvmclock.MSR_STEAL_TIME, PAGE | 1)
    guest.clock.update_steal(1000)
    guest.clock.update_steal(234)
    steal, version, flags, preempted = struct.unpack_from("<QIIB", guest.memory)
    assert (steal, version % 2, flags, preempted) == (1234, 0, 0, 0)
    assert [state[8] % 2 for state in guest.writes] == [1, 1, 0] * 3
