"""KVM's paravirtual clock: pages in guest memory from which a guest reads the time without leaving.

A guest hands over an address by MSR; KVM keeps a structure there. The guest's time is then

    system_time + ((tsc - tsc_timestamp) << tsc_shift) * tsc_to_system_mul >> 32        (in ns)

where a negative shift goes to the right. `version` is odd while the structure is being changed.

Source: Documentation/virt/kvm/x86/msr.rst (MSR_KVM_WALL_CLOCK_NEW, MSR_KVM_SYSTEM_TIME_NEW, MSR_KVM_STEAL_TIME).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from minivmm.soft.lapic_timer import Tsc

MSR_WALL_CLOCK, MSR_SYSTEM_TIME = 0x11, 0x12  # the old numbers, still in use
MSR_WALL_CLOCK_NEW, MSR_SYSTEM_TIME_NEW = 0x4B56_4D00, 0x4B56_4D01
MSR_STEAL_TIME = 0x4B56_4D03
MSRS = frozenset((MSR_WALL_CLOCK, MSR_SYSTEM_TIME, MSR_WALL_CLOCK_NEW, MSR_SYSTEM_TIME_NEW, MSR_STEAL_TIME))

ENABLED = 1
TSC_STABLE = 1  # pvclock_vcpu_time_info.flags
STEAL_RESERVED = 0x3E  # the structure is aligned to 64 bytes
SECOND = 1_000_000_000

_TIME_INFO = struct.Struct("<IIQQIbBH")
_WALL_CLOCK = struct.Struct("<III")
_STEAL_TIME = struct.Struct("<QIIB47x")


def scale(khz: int) -> tuple[int, int]:
    """(mul, shift) for a TSC of `khz`: the multiplier with as many bits as fit, so the smallest error.

    A guest computes ((ticks << shift) * mul) >> 32, so mul is 2**32 times the ns of a tick, halved `shift` times.
    """
    shift = 0
    mul = (1_000_000 << 32) // khz
    while mul >= 1 << 32:  # a tick is 1 ns or longer
        shift += 1
        mul = (1_000_000 << 32) // (khz << shift)
    while mul < 1 << 31:
        shift -= 1
        mul = (1_000_000 << 32 - shift) // khz
    return mul, shift


def time_info(version: int, tsc: int, system_ns: int, khz: int) -> bytes:
    """A `struct pvclock_vcpu_time_info`: at `tsc`, the system time was `system_ns`."""
    mul, shift = scale(khz)
    return _TIME_INFO.pack(version, 0, tsc, system_ns, mul, shift, TSC_STABLE, 0)


def wall_clock(version: int, boot_ns: int) -> bytes:
    """A `struct pvclock_wall_clock`: the time of day, in ns since 1970, at which the system time was 0."""
    return _WALL_CLOCK.pack(version, boot_ns // SECOND & 0xFFFF_FFFF, boot_ns % SECOND)


def steal_time(version: int, steal_ns: int) -> bytes:
    """A `struct kvm_steal_time`: how long the vCPU wanted to run and didn't."""
    return _STEAL_TIME.pack(steal_ns, version, 0, 0)


class KvmClock:
    """The clock pages of one vCPU.

    `write(gpa, data)` writes guest memory, and ignores what lies outside, as KVM does with an address that the guest
    made up. `now` is the VM's time in ns, `wall` the time of day in ns since 1970.
    """

    def __init__(
        self, tsc: Tsc, now: Callable[[], int], wall: Callable[[], int], write: Callable[[int, bytes], object]
    ) -> None:
        self._tsc = tsc
        self._now = now
        self._wall = wall
        self._write = write
        self.system_time = self.wall_clock = self.steal = 0  # the MSRs
        self.offset = 0  # what KVM_SET_CLOCK adds to `now`, in ns
        self.stolen = 0  # ns
        self._versions = {"time": 0, "wall": 0, "steal": 0}

    def read_msr(self, index: int) -> int:
        """RDMSR of one of `MSRS`."""
        if index in (MSR_SYSTEM_TIME, MSR_SYSTEM_TIME_NEW):
            return self.system_time
        return self.steal if index == MSR_STEAL_TIME else self.wall_clock

    def write_msr(self, index: int, value: int) -> bool:
        """WRMSR of one of `MSRS`. False: #GP(0)."""
        if index in (MSR_SYSTEM_TIME, MSR_SYSTEM_TIME_NEW):
            self.system_time = value
            self.update()
        elif index == MSR_STEAL_TIME:
            if value & STEAL_RESERVED:
                return False
            self.steal = value
            self.update_steal()
        else:  # the wall clock is written once each time it is asked for
            self.wall_clock = value
            self._publish("wall", value, lambda version: wall_clock(version, self._wall() - self.clock()))
        return True

    def clock(self) -> int:
        """The VM's system time in ns: KVM_GET_CLOCK."""
        return self._now() + self.offset

    def set_clock(self, ns: int) -> None:
        """KVM_SET_CLOCK: the system time is `ns` now."""
        self.offset = ns - self._now()
        self.update()

    def update(self) -> None:
        """Writes the time page anew. Needed only when the TSC was written or its frequency changed."""
        if self.system_time & ENABLED:
            tsc, ns, khz = self._tsc.read(), self.clock(), self._tsc.khz
            self._publish("time", self.system_time & ~ENABLED, lambda version: time_info(version, tsc, ns, khz))

    def update_steal(self, ns: int = 0) -> None:
        """The vCPU waited `ns` more for its turn."""
        self.stolen += ns
        if self.steal & ENABLED:
            self._publish("steal", self.steal & ~0x3F, lambda version: steal_time(version, self.stolen))

    def _publish(self, page: str, gpa: int, build: Callable[[int], bytes]) -> None:
        # Odd while it changes, so that a guest that reads at the same time on another vCPU tries again.
        version = self._versions[page] = self._versions[page] + 2
        at = 8 if page == "steal" else 0  # where the version lies
        odd, even = (number.to_bytes(4, "little") for number in (version - 1, version))
        self._write(gpa + at, odd)
        data = build(version)
        self._write(gpa, data[:at] + odd + data[at + 4 :])
        self._write(gpa + at, even)
