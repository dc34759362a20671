"""Model-specific registers of a soft vCPU. (Being written; the interface stands.)"""

from __future__ import annotations

from typing import Protocol

from minivmm.soft.cpuid import CpuidTable
from minivmm.soft.irqchip import IrqChip
from minivmm.soft.kvmclock import KvmClock
from minivmm.soft.processor import Processor


class MsrRefused(Exception):
    """There is no such MSR, or it doesn't take this value. `known` says which: for KVM_MSR_EXIT_REASON_*.

    The guest gets #GP(0); KVM_GET_MSRS and KVM_SET_MSRS stop counting.
    """

    def __init__(self, index: int, *, known: bool) -> None:
        self.index, self.known = index, known
        super().__init__(f"MSR {index:#x} " + ("doesn't take that value" if known else "doesn't exist"))


class Clock(Protocol):
    """The VM's time in ns. The TSC of a vCPU is `now()` + cpu.tsc_offset (native/cpu.h): 1 GHz."""

    def now(self) -> int: ...


INDEX_LIST: tuple[int, ...] = ()


class Msrs:
    """The MSRs of the vCPU with number `number`. `chip` is the VM's IrqChip, or None without one."""

    def __init__(
        self,
        processor: Processor,
        *,
        number: int,
        cpuid: CpuidTable,
        clock: Clock,
        kvmclock: KvmClock | None = None,
        chip: IrqChip | None = None,
    ) -> None:
        raise NotImplementedError

    def read(self, index: int, host: bool = False) -> int:
        """RDMSR, or (`host`) KVM_GET_MSRS. Raises MsrRefused."""
        raise NotImplementedError

    def write(self, index: int, value: int, host: bool = False) -> None:
        """WRMSR, or (`host`) KVM_SET_MSRS. Raises MsrRefused, and then nothing changed."""
        raise NotImplementedError
