"""The MSRs that are part of the engine's CPU: EFER, and the bases of FS and GS.

Source: APM vol. 2, "Extended Feature Enable Register (EFER)", "FS and GS Registers in 64-Bit Mode".
"""

from __future__ import annotations

from unicorn import x86_const as x86

from minivmm.soft.binding import ffi
from minivmm.soft.cpuid import CpuidTable
from minivmm.soft.msr_table import KERNEL_GS_BASE
from minivmm.soft.processor import Processor
from minivmm.x86.bits import CR0_PG, EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE
from minivmm.x86.canonical import is_canonical

_UC_MSR = "uint64_t[2]"  # Unicorn's uc_x86_msr: the number (32 bits, and padding), the value


class EngineMsrs:
    """One vCPU's."""

    def __init__(self, processor: Processor, cpuid: CpuidTable) -> None:
        self._processor = processor
        self._cpuid = cpuid

    def tell(self, index: int, value: int) -> None:
        """Gives the engine a value that SYSRET, SYSEXIT or SWAPGS will use."""
        self._processor.engine.raw_set(x86.UC_X86_REG_MSR, ffi.new(_UC_MSR, (index, value)))

    def read_efer(self, host: bool) -> int:
        return int(self._processor.look().efer)

    def write_efer(self, value: int, host: bool) -> bool:
        """LMA follows from LME and CR0.PG: a write leaves it alone. LME can't change while there is paging."""
        env = self._processor.look()
        if not efer_allowed(value) or not (host or self._guest_may_set(value)):
            return False
        if env.cr0 & CR0_PG and (value ^ env.efer) & EFER_LME:
            return False
        env.efer = value & ~EFER_LMA | env.efer & EFER_LMA
        self._processor.put()
        return True

    def _guest_may_set(self, efer: int) -> bool:
        has = self._cpuid.has
        return (has("lm") or not efer & (EFER_LME | EFER_LMA)) and (has("nx") or not efer & EFER_NXE)

    def read_fs_base(self, host: bool) -> int:
        return int(self._processor.look().fs.base)

    def write_fs_base(self, value: int, host: bool) -> bool:
        return self._write_base("fs", value)

    def read_gs_base(self, host: bool) -> int:
        return int(self._processor.look().gs.base)

    def write_gs_base(self, value: int, host: bool) -> bool:
        return self._write_base("gs", value)

    def _write_base(self, name: str, value: int) -> bool:
        if not is_canonical(value):
            return False
        getattr(self._processor.look(), name).base = value
        self._processor.put()
        return True

    def read_kernel_gs_base(self, host: bool) -> int:
        """SWAPGS changes it, so only the engine knows."""
        return int(self._processor.engine.raw_get(x86.UC_X86_REG_MSR, _UC_MSR, (KERNEL_GS_BASE, 0))[1])

    def write_kernel_gs_base(self, value: int, host: bool) -> bool:
        if not is_canonical(value):
            return False
        self.tell(KERNEL_GS_BASE, value)
        return True


def efer_allowed(value: int) -> bool:
    """Whether EFER has no bits but those that this processor could have."""
    return not value & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)
