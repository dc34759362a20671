"""Model-specific registers of one soft vCPU: RDMSR, WRMSR, KVM_GET_MSRS, KVM_SET_MSRS.

Here are the registers that do something; those that only keep a value are in msr_table.py. What the engine itself looks
at (for SYSRET, SYSEXIT, SWAPGS) is put into it on each write.

Source: SDM vol. 4, "Model-Specific Registers"; APM vol. 2, "MSR Cross-Reference"; Documentation/virt/kvm/x86/msr.rst.
"""

from __future__ import annotations

from collections.abc import Callable

from unicorn import x86_const as x86

from minivmm.kvm import constants as k
from minivmm.soft import kvmclock, mtrr
from minivmm.soft.binding import ffi
from minivmm.soft.clock import TscCounter
from minivmm.soft.cpuid import CpuidTable
from minivmm.soft.kvmclock import KvmClock
from minivmm.soft.lapic import BASE, BASE_BSP, BASE_ENABLED, BASE_RESERVED, LocalApic
from minivmm.soft.lapic_registers import has_msr, read_msr, write_msr
from minivmm.soft.msr_filter import MsrFilter
from minivmm.soft.msr_table import (
    APIC_BASE,
    CSTAR,
    EFER,
    FIXED,
    FMASK,
    FS_BASE,
    GS_BASE,
    HWCR,
    HWCR_IGNORED,
    INDEX_LIST,
    KEPT,
    KERNEL_GS_BASE,
    LSTAR,
    OSVW_LENGTH,
    OSVW_STATUS,
    PAT,
    STAR,
    SYSENTER_CS,
    SYSENTER_EIP,
    SYSENTER_ESP,
    TSC,
    TSC_ADJUST,
    TSC_AUX,
    UCODE_REV,
    Write,
)
from minivmm.soft.processor import MASK64, Processor
from minivmm.soft.state import CR0_PG, EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE
from minivmm.soft.tsc_sync import TscSync

_UC_MSR = "uint64_t[2]"  # Unicorn's uc_x86_msr: the number (32 bits, and padding), the value
_INVALID, _UNKNOWN = k.KVM_MSR_EXIT_REASON_INVAL, k.KVM_MSR_EXIT_REASON_UNKNOWN
_WHY = {
    _INVALID: "doesn't take that value, or isn't there for this CPUID",
    _UNKNOWN: "doesn't exist",
    k.KVM_MSR_EXIT_REASON_FILTER: "is filtered",
}
_IN_ENGINE = (STAR, LSTAR, CSTAR, FMASK, SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP, PAT)


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
        self._processor = processor
        self._cpuid = cpuid
        self._tsc = tsc
        self._clock = clock
        self._sync = sync or TscSync()
        self._tsc_adjust = 0
        self._own_base = BASE | BASE_ENABLED | (BASE_BSP if is_bsp else 0)
        self._kept = {index: register.initial for index, register in KEPT.items()}
        for index in _IN_ENGINE:
            self._to_engine(index, self._kept[index])
        self._to_engine(KERNEL_GS_BASE, 0)
        self._active: dict[int, tuple[Callable[[], int], Callable[[int, bool], bool]]] = {
            EFER: (self._read_efer, self._write_efer),
            FS_BASE: (lambda: int(processor.look().fs.base), self._write_base("fs")),
            GS_BASE: (lambda: int(processor.look().gs.base), self._write_base("gs")),
            KERNEL_GS_BASE: (self._read_kernel_gs_base, self._write_kernel_gs_base),
            TSC: (tsc.read, self._write_tsc),
            TSC_ADJUST: (lambda: self._tsc_adjust, self._write_tsc_adjust),
            TSC_AUX: (lambda: int(processor.cpu.tsc_aux), self._write_tsc_aux),
            APIC_BASE: (lambda: self.apic_base, self._write_apic_base),
        }

    def read(self, index: int, host: bool = False) -> int:
        """RDMSR, or (`host`) KVM_GET_MSRS. Raises MsrRefused."""
        if index in self._kept:
            if index in (OSVW_LENGTH, OSVW_STATUS) and not self._cpuid.has("osvw"):
                raise MsrRefused(index, _INVALID)
            return self._kept[index]
        if index in self._active:
            if index == TSC_AUX and not host and not self._has_tsc_aux:
                raise MsrRefused(index, _INVALID)
            return self._active[index][0]()
        if index in FIXED:
            return FIXED[index].value
        if self._clock and index in kvmclock.MSRS:
            return self._clock.read_msr(index)
        if self.apic and has_msr(index):
            with self.apic.bus.lock:
                value = read_msr(self.apic, index)
            if value is not None:
                return value
            raise MsrRefused(index, _INVALID)
        raise MsrRefused(index, _UNKNOWN)

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

    # ---- those that keep a value ----

    def _write_kept(self, index: int, value: int, host: bool) -> bool:
        if index == UCODE_REV and not host:
            return True  # "write 0, then CPUID, then read": the way to ask for the revision (SDM vol. 3)
        if index == HWCR:
            value &= ~HWCR_IGNORED
        if index in (SYSENTER_ESP, SYSENTER_EIP):
            value = _sign_extended(value)
        if not self._may_keep(index, value):
            return False
        self._kept[index] = value
        if index in _IN_ENGINE:
            self._to_engine(index, value)
        return True

    def _may_keep(self, index: int, value: int) -> bool:
        if index in mtrr.INDICES:
            return mtrr.is_valid(index, value, self._cpuid.physical_bits)
        if index in (LSTAR, CSTAR):
            return _is_canonical(value)
        if index in (OSVW_LENGTH, OSVW_STATUS):
            return self._cpuid.has("osvw")
        return KEPT[index].valid(value)

    def _to_engine(self, index: int, value: int) -> None:
        self._processor.engine.raw_set(x86.UC_X86_REG_MSR, ffi.new(_UC_MSR, (index, value)))

    # ---- EFER ----

    def _read_efer(self) -> int:
        return int(self._processor.look().efer)

    def _write_efer(self, value: int, host: bool) -> bool:
        """LMA follows from LME and CR0.PG: a write leaves it alone. LME can't change while there is paging."""
        env = self._processor.look()
        if not self.efer_allowed(value) or not (host or self._guest_may_set(value)):
            return False
        if env.cr0 & CR0_PG and (value ^ env.efer) & EFER_LME:
            return False
        env.efer = value & ~EFER_LMA | env.efer & EFER_LMA
        self._processor.put()
        return True

    def efer_allowed(self, value: int) -> bool:
        """Whether EFER has no bits but those that this processor could have."""
        return not value & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)

    def _guest_may_set(self, efer: int) -> bool:
        has = self._cpuid.has
        return (has("lm") or not efer & (EFER_LME | EFER_LMA)) and (has("nx") or not efer & EFER_NXE)

    # ---- bases of FS and GS ----

    def _write_base(self, name: str) -> Callable[[int, bool], bool]:
        def write(value: int, host: bool) -> bool:
            if not _is_canonical(value):
                return False
            getattr(self._processor.look(), name).base = value
            self._processor.put()
            return True

        return write

    def _read_kernel_gs_base(self) -> int:
        # SWAPGS changes it: only the engine knows.
        return int(self._processor.engine.raw_get(x86.UC_X86_REG_MSR, _UC_MSR, (KERNEL_GS_BASE, 0))[1])

    def _write_kernel_gs_base(self, value: int, host: bool) -> bool:
        if not _is_canonical(value):
            return False
        self._to_engine(KERNEL_GS_BASE, value)
        return True

    # ---- time ----

    def _move_tsc(self, offset: int) -> None:
        """Whoever counts by the TSC must hear that it jumped."""
        self._tsc.offset = offset
        if self.apic:
            with self.apic.bus.lock:
                self.apic.timer.retime()
        if self._clock:
            self._clock.update()

    def _write_tsc(self, value: int, host: bool) -> bool:
        """From now on, the TSC counts from `value`. The guest's own moves show in IA32_TSC_ADJUST as well."""
        offset = _signed(self._tsc.offset + value - self._tsc.read())
        if host:
            self._move_tsc(self._sync.offset(offset))
        else:
            self._tsc_adjust = self._tsc_adjust + offset - self._tsc.offset & MASK64
            self._move_tsc(offset)
        return True

    def _write_tsc_adjust(self, value: int, host: bool) -> bool:
        """A guest moves its TSC by the difference; a host restores a value whose effect is in the TSC already."""
        if not host:
            if not self._cpuid.has("tsc_adjust"):
                return False
            self._move_tsc(_signed(self._tsc.offset + value - self._tsc_adjust))
        self._tsc_adjust = value
        return True

    @property
    def _has_tsc_aux(self) -> bool:
        return self._cpuid.has("rdtscp") or self._cpuid.has("rdpid")

    def _write_tsc_aux(self, value: int, host: bool) -> bool:
        if not host and not self._has_tsc_aux:
            return False
        self._processor.cpu.tsc_aux = value & 0xFFFF_FFFF
        return True

    # ---- the local APIC ----

    @property
    def apic_base(self) -> int:
        """IA32_APIC_BASE, with an irqchip or without."""
        return self.apic.base if self.apic else self._own_base

    def set_apic_base(self, value: int, *, by_guest: bool = False) -> bool:
        """False where the value is illegal, or may not follow the present one. KVM_SET_SREGS sets it too."""
        if self.apic:
            with self.apic.bus.lock:
                return self.apic.set_base(value, by_guest=by_guest)
        if value & BASE_RESERVED or value >> self._cpuid.physical_bits:
            return False
        self._own_base = value
        return True

    def _write_apic_base(self, value: int, host: bool) -> bool:
        return self.set_apic_base(value, by_guest=not host)


def _is_canonical(value: int) -> bool:
    return value >> 47 in (0, (1 << 17) - 1)


def _sign_extended(value: int) -> int:
    """The canonical address with the low 48 bits of `value`."""
    return value & (1 << 48) - 1 | (0xFFFF << 48 if value >> 47 & 1 else 0)


def _signed(value: int) -> int:
    """The same number modulo 2**64, as a signed one."""
    value &= MASK64
    return value - (1 << 64) if value >> 63 else value


__all__ = ["CSTAR", "FMASK", "INDEX_LIST", "LSTAR", "STAR", "SYSENTER_CS", "SYSENTER_EIP", "SYSENTER_ESP", "MsrRefused",
           "Msrs"]  # fmt: skip
