"""The MSRs that are no more than a value: their numbers, first values, and what may be written.

The rest, those that do something, are in msrs.py. What a guest finds here is what upstream KVM shows on an AMD
processor without a PMU.

Source: SDM vol. 4, "Model-Specific Registers"; APM vol. 2, "MSR Cross-Reference"; KVM, kvm_get_msr_common.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from minivmm.soft import mtrr

TSC, APIC_BASE, TSC_ADJUST, PAT, TSC_DEADLINE = 0x10, 0x1B, 0x3B, 0x277, 0x6E0
UCODE_REV, SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP = 0x8B, 0x174, 0x175, 0x176
MCG_STATUS, MISC_ENABLE, POLL_CONTROL = 0x17A, 0x1A0, 0x4B56_4D05
EFER, STAR, LSTAR, CSTAR, FMASK = range(0xC000_0080, 0xC000_0085)
FS_BASE, GS_BASE, KERNEL_GS_BASE, TSC_AUX = range(0xC000_0100, 0xC000_0104)
HWCR, OSVW_LENGTH, OSVW_STATUS, DE_CFG = 0xC001_0015, 0xC001_0140, 0xC001_0141, 0xC001_1029

PAT_RESET = 0x0007_0406_0007_0406  # WB, WT, UC-, UC, twice
AMD_MICROCODE = 0x0100_0065
FAST_STRINGS = 1  # IA32_MISC_ENABLE
LFENCE_SERIALIZES = 1 << 1
HWCR_IGNORED = 1 << 3 | 1 << 6 | 1 << 8  # a TLB filter, a cache instruction: silicon that isn't here
HWCR_KEPT = 1 << 18 | 1 << 24  # McStatusWrEn, TscFreqSel


class Write(Enum):
    """What a write to a register with a fixed value does."""

    REFUSED = "refused"
    SAME = "refused, unless it is the value that is there"
    IGNORED = "ignored"


class Fixed(NamedTuple):
    """An MSR that reads as `value`. None: it can only be written."""

    value: int | None = 0
    write: Write = Write.SAME


class Kept(NamedTuple):
    """An MSR that keeps what is written: `initial` at first, and nothing for which `valid` says no."""

    initial: int = 0
    valid: Callable[[int], bool] = lambda value: True


FIXED: dict[int, Fixed] = {
    0x00: Fixed(0, Write.REFUSED),  # P5_MC_ADDR
    0x01: Fixed(0, Write.REFUSED),  # P5_MC_TYPE
    0x17: Fixed(0, Write.REFUSED),  # IA32_PLATFORM_ID
    0x2A: Fixed(),  # EBL_CR_POWERON
    0x2C: Fixed(1 << 24, Write.REFUSED),  # EBC_FREQUENCY_ID: a bus clock that old kernels divide by
    0x34: Fixed(0, Write.REFUSED),  # SMI_COUNT: no SMM
    0x79: Fixed(None, Write.IGNORED),  # a microcode update
    0xC1: Fixed(0, Write.IGNORED),  # P6 performance counters and their selectors
    0xC2: Fixed(0, Write.IGNORED),
    0x186: Fixed(0, Write.IGNORED),
    0x187: Fixed(0, Write.IGNORED),
    0xCD: Fixed(3, Write.REFUSED),  # FSB_FREQ
    0xCE: Fixed(),  # PLATFORM_INFO: no CPUID faulting …
    0x140: Fixed(),  # … so nothing to turn on in MISC_FEATURES_ENABLES
    mtrr.MTRRCAP: Fixed(mtrr.CAPABILITIES, Write.REFUSED),
    0x11E: Fixed(0xBE70_2111),  # BBL_CR_CTL3: "the L2 cache is there and on"
    0x179: Fixed(0, Write.REFUSED),  # IA32_MCG_CAP: no banks, no MCG_CTL
    0x198: Fixed(1000 | 4 << 40, Write.REFUSED),  # IA32_PERF_STATUS: a ratio that old kernels divide by
    0x199: Fixed(),  # IA32_PERF_CTL
    0x1D9: Fixed(),  # DEBUGCTL: neither branch records nor branch stepping
    **{index: Fixed(0, Write.REFUSED) for index in range(0x1DB, 0x1DF)},  # last branch, last interrupt: from, to
    **{0xC001_0000 + n: Fixed(0, Write.IGNORED) for n in range(8)},  # K7 selectors and counters: no PMU
    0xC001_0010: Fixed(),  # SYSCFG
    0xC001_001B: Fixed(0x2000_0000, Write.IGNORED),  # K7_CLK_CTL
    0xC001_001F: Fixed(0, Write.IGNORED),  # NB_CFG
    0xC001_0020: Fixed(None, Write.IGNORED),  # PATCH_LOADER
    0xC001_0055: Fixed(),  # INT_PENDING_MSG
    0xC001_0058: Fixed(),  # MMIO_CONF_BASE: no PCI configuration space in memory
    0xC001_0112: Fixed(),  # TSEG address and mask: no SMM
    0xC001_0113: Fixed(),
    0xC001_0114: Fixed(),  # VM_CR
    0xC001_0117: Fixed(),  # VM_HSAVE_PA
    0xC001_1021: Fixed(0, Write.REFUSED),  # IC_CFG
    0xC001_1022: Fixed(0, Write.IGNORED),  # DC_CFG
    0xC001_1023: Fixed(0, Write.IGNORED),  # TW_CFG
    0xC001_102A: Fixed(0, Write.IGNORED),  # BU_CFG2
    0xC001_102C: Fixed(0, Write.IGNORED),  # EX_CFG
}

KEPT: dict[int, Kept] = {
    MISC_ENABLE: Kept(FAST_STRINGS),
    MCG_STATUS: Kept(),
    POLL_CONTROL: Kept(1, lambda value: value in (0, 1)),  # there is no polling to turn off
    HWCR: Kept(0, lambda value: not value & ~HWCR_KEPT),
    DE_CFG: Kept(0, lambda value: not value & ~LFENCE_SERIALIZES),
    UCODE_REV: Kept(AMD_MICROCODE),
    STAR: Kept(),
    FMASK: Kept(),
    SYSENTER_CS: Kept(),
    SYSENTER_ESP: Kept(),
    SYSENTER_EIP: Kept(),
    PAT: Kept(PAT_RESET, mtrr.is_pat_valid),
    **dict.fromkeys((LSTAR, CSTAR, OSVW_LENGTH, OSVW_STATUS, *mtrr.INDICES), Kept()),  # msrs.py checks these
}

# KVM_GET_MSR_INDEX_LIST: what a VMM saves and restores besides registers and APIC. TSC_DEADLINE comes behind the TSC
# that it is compared with.
INDEX_LIST = (
    *(TSC, TSC_ADJUST, TSC_DEADLINE, TSC_AUX),
    *(SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP, STAR, LSTAR, CSTAR, FMASK, KERNEL_GS_BASE, PAT),
    *(0x11, 0x12, 0x4B56_4D00, 0x4B56_4D01, 0x4B56_4D03, POLL_CONTROL),
    *(MISC_ENABLE, MCG_STATUS, UCODE_REV, HWCR, DE_CFG),
    *mtrr.INDICES,
)
