"""The MSRs of the time-stamp counter: TSC, IA32_TSC_ADJUST and TSC_AUX.

Source: SDM vol. 3, "Time-Stamp Counter", "IA32_TSC_ADJUST MSR".
"""

from __future__ import annotations

from collections.abc import Callable

from minivmm.soft.clock import TscCounter
from minivmm.soft.cpuid import CpuidTable
from minivmm.soft.processor import MASK64, Processor
from minivmm.soft.tsc_sync import TscSync


class TimeMsrs:
    """One vCPU's. `jumped` is called after the TSC moved: whoever counts by it must hear of that."""

    def __init__(
        self, processor: Processor, cpuid: CpuidTable, tsc: TscCounter, sync: TscSync, jumped: Callable[[], None]
    ) -> None:
        self._cpu = processor.cpu
        self._cpuid = cpuid
        self._tsc = tsc
        self._sync = sync
        self._jumped = jumped
        self._adjust = 0

    def read_tsc(self, host: bool) -> int:
        return self._tsc.read()

    def write_tsc(self, value: int, host: bool) -> bool:
        """From now on, the TSC counts from `value`. The guest's own moves show in IA32_TSC_ADJUST as well."""
        offset = _signed(self._tsc.offset + value - self._tsc.read())
        if host:
            offset = self._sync.offset(offset)
        else:
            self._adjust = self._adjust + offset - self._tsc.offset & MASK64
        self._move(offset)
        return True

    def read_adjust(self, host: bool) -> int:
        return self._adjust

    def write_adjust(self, value: int, host: bool) -> bool:
        """A guest moves its TSC by the difference; a host restores a value whose effect is in the TSC already."""
        if not host:
            if not self._cpuid.has("tsc_adjust"):
                return False
            self._move(_signed(self._tsc.offset + value - self._adjust))
        self._adjust = value
        return True

    def read_aux(self, host: bool) -> int | None:
        return int(self._cpu.tsc_aux) if host or self._has_aux else None

    def write_aux(self, value: int, host: bool) -> bool:
        """What RDTSCP gives besides the time: 32 bits. AMD drops the upper half, Intel refuses it."""
        if host or self._has_aux:
            self._cpu.tsc_aux = value & 0xFFFF_FFFF
        return host or self._has_aux

    @property
    def _has_aux(self) -> bool:
        return self._cpuid.has("rdtscp") or self._cpuid.has("rdpid")

    def _move(self, offset: int) -> None:
        self._tsc.offset = offset
        self._jumped()


def _signed(value: int) -> int:
    """The same number modulo 2**64, as a signed one."""
    value &= MASK64
    return value - (1 << 64) if value >> 63 else value
