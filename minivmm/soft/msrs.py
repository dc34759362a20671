"""Model-specific registers of one soft vCPU: RDMSR, WRMSR, KVM_GET_MSRS, KVM_SET_MSRS.

Here each index finds its owner. Registers that only keep a value are listed in msr_table.py; those that do something
are in msr_engine.py, msr_time.py, lapic_registers.py and kvmclock.py.

Source: SDM vol. 4, "Model-Specific Registers"; APM vol. 2, "MSR Cross-Reference"; Documentation/virt/kvm/x86/msr.rst.
"""

from __future__ import annotations

from collections.abc import Callable

from minivmm.kvm import constants as k
from minivmm.soft import kvmclock, mtrr
from minivmm.soft import msr_table as msr
from minivmm.soft.clock import TscCounter
from minivmm.soft.cpuid import CpuidTable
from minivmm.soft.kvmclock import KvmClock
from minivmm.soft.lapic import BASE, BASE_BSP, BASE_ENABLED, BASE_RESERVED, LocalApic
from minivmm.soft.lapic_registers import has_msr, read_msr, write_msr
from minivmm.soft.msr_engine import EngineMsrs
from minivmm.soft.msr_filter import MsrFilter
from minivmm.soft.msr_table import FIXED, KEPT, Write
from minivmm.soft.msr_time import TimeMsrs
from minivmm.soft.processor import Processor
from minivmm.soft.tsc_sync import TscSync
from minivmm.x86.canonical import is_canonical, sign_extend

_INVALID, _UNKNOWN = k.KVM_MSR_EXIT_REASON_INVAL, k.KVM_MSR_EXIT_REASON_UNKNOWN
_WHY = {
    _INVALID: "doesn't take that value, or isn't there for this CPUID",
    _UNKNOWN: "doesn't exist",
    k.KVM_MSR_EXIT_REASON_FILTER: "is filtered",
}
# What the engine's own SYSRET and SYSEXIT look at.
_IN_ENGINE = (msr.STAR, msr.LSTAR, msr.CSTAR, msr.FMASK, msr.SYSENTER_CS, msr.SYSENTER_ESP, msr.SYSENTER_EIP, msr.PAT)
_SYSENTER_ADDRESSES = (msr.SYSENTER_ESP, msr.SYSENTER_EIP)
_OSVW = (msr.OSVW_LENGTH, msr.OSVW_STATUS)

Reader = Callable[[bool], int | None]  # (host): the value, or None for #GP
Writer = Callable[[int, bool], bool]  # (value, host): False for #GP


class MsrRefused(Exception):
    """An MSR can't be read, or doesn't take a value. `reason` says why: KVM_MSR_EXIT_REASON_*.

    The guest gets #GP(0); KVM_GET_MSRS and KVM_SET_MSRS stop counting.
    """

    def __init__(self, index: int, reason: int) -> None:
        self.index, self.reason = index, reason
        super().__init__(f"MSR {index:#x} {_WHY[reason]}")


class Msrs:
    """The MSRs of one vCPU, at their values after power-up.

    `tsc` is its time-stamp counter. Without `clock`, KVM's own MSRs are refused; without `apic`, those of the x2APIC,
    and IA32_APIC_BASE is a value of its own. The vCPUs of a VM share `sync` and `filter`.
    """

    def __init__(
        self,
        processor: Processor,
        cpuid: CpuidTable,
        tsc: TscCounter,
        clock: KvmClock | None = None,
        *,
        is_bsp: bool = True,
        apic: LocalApic | None = None,
        sync: TscSync | None = None,
        filter: MsrFilter | None = None,
    ) -> None:
        self.apic = apic
        self.filter = filter or MsrFilter()
        self._cpuid = cpuid
        self._clock = clock
        self._own_base = BASE | BASE_ENABLED | (BASE_BSP if is_bsp else 0)
        self._kept = {index: register.initial for index, register in KEPT.items()}
        self._engine = engine = EngineMsrs(processor, cpuid)
        time = TimeMsrs(processor, cpuid, tsc, sync or TscSync(), self._tsc_jumped)
        self._active: dict[int, tuple[Reader, Writer]] = {
            msr.EFER: (engine.read_efer, engine.write_efer),
            msr.FS_BASE: (engine.read_fs_base, engine.write_fs_base),
            msr.GS_BASE: (engine.read_gs_base, engine.write_gs_base),
            msr.KERNEL_GS_BASE: (engine.read_kernel_gs_base, engine.write_kernel_gs_base),
            msr.TSC: (time.read_tsc, time.write_tsc),
            msr.TSC_ADJUST: (time.read_adjust, time.write_adjust),
            msr.TSC_AUX: (time.read_aux, time.write_aux),
            msr.APIC_BASE: (lambda host: self.apic_base, self._write_apic_base),
        }
        for index in _IN_ENGINE:
            engine.tell(index, self._kept[index])
        engine.tell(msr.KERNEL_GS_BASE, 0)

    def read(self, index: int, host: bool = False) -> int:
        """RDMSR, or (`host`) KVM_GET_MSRS. Raises MsrRefused."""
        value: int | None
        if index in self._kept:
            value = self._kept[index] if index not in _OSVW or self._cpuid.has("osvw") else None
        elif index in self._active:
            value = self._active[index][0](host)
        elif index in FIXED:
            value = FIXED[index].value
        elif self._clock and index in kvmclock.MSRS:
            value = self._clock.read_msr(index)
        elif self.apic and has_msr(index):
            with self.apic.bus.lock:
                value = read_msr(self.apic, index)
        else:
            raise MsrRefused(index, _UNKNOWN)
        if value is None:
            raise MsrRefused(index, _INVALID)
        return value

    def write(self, index: int, value: int, host: bool = False) -> None:
        """WRMSR, or (`host`) KVM_SET_MSRS. Raises MsrRefused, and then nothing changed."""
        if index in self._kept:
            taken = self._write_kept(index, value, host)
        elif index in self._active:
            taken = self._active[index][1](value, host)
        elif index in FIXED:
            allowed = FIXED[index].write
            taken = allowed is Write.IGNORED or (value == FIXED[index].value and (host or allowed is Write.SAME))
        elif self._clock and index in kvmclock.MSRS:
            taken = self._clock.write_msr(index, value)
        elif self.apic and has_msr(index):
            with self.apic.bus.lock:
                taken = write_msr(self.apic, index, value)
        else:
            raise MsrRefused(index, _UNKNOWN)
        if not taken:
            raise MsrRefused(index, _INVALID)

    def check_filter(self, index: int, *, write: bool) -> None:
        """Raises MsrRefused where userspace doesn't let the guest at this MSR."""
        if not self.filter.allows(index, write=write):
            raise MsrRefused(index, k.KVM_MSR_EXIT_REASON_FILTER)

    def _write_kept(self, index: int, value: int, host: bool) -> bool:
        if index == msr.UCODE_REV and not host:
            return True  # "write 0, then CPUID, then read": the way to ask for the revision (SDM vol. 3)
        if index == msr.HWCR:
            value &= ~msr.HWCR_IGNORED
        if index in _SYSENTER_ADDRESSES:
            value = sign_extend(value)  # AMD takes any value here, where Intel has #GP
        if not self._may_keep(index, value):
            return False
        self._kept[index] = value
        if index in _IN_ENGINE:
            self._engine.tell(index, value)
        return True

    def _may_keep(self, index: int, value: int) -> bool:
        if index in mtrr.INDICES:
            return mtrr.is_valid(index, value, self._cpuid.physical_bits)
        if index in (msr.LSTAR, msr.CSTAR):
            return is_canonical(value)
        if index in _OSVW:
            return self._cpuid.has("osvw")
        return KEPT[index].valid(value)

    def _tsc_jumped(self) -> None:
        if self.apic:
            with self.apic.bus.lock:
                self.apic.timer.retime()
        if self._clock:
            self._clock.update()

    # ---- IA32_APIC_BASE: KVM_SET_SREGS and kvm_run have it too ----

    @property
    def apic_base(self) -> int:
        """Its value, with an irqchip or without."""
        return self.apic.base if self.apic else self._own_base

    def set_apic_base(self, value: int, *, by_guest: bool = False) -> bool:
        """False where the value is illegal, or (`by_guest`) may not follow the present one."""
        if self.apic:
            with self.apic.bus.lock:
                return self.apic.set_base(value, by_guest=by_guest)
        if value & BASE_RESERVED or value >> self._cpuid.physical_bits:
            return False
        self._own_base = value
        return True

    def _write_apic_base(self, value: int, host: bool) -> bool:
        return self.set_apic_base(value, by_guest=not host)
