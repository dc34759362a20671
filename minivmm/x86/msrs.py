"""Model-specific registers: their names and numbers, and some values in words.

Source: SDM vol. 4, "Model-Specific Registers"; APM vol. 2, "MSR Cross-Reference"; the kernel's "KVM-specific MSRs".
"""

from __future__ import annotations

from minivmm.x86 import bits

NUMBERS: dict[str, int] = {
    "IA32_TIME_STAMP_COUNTER": 0x10,
    "IA32_PLATFORM_ID": 0x17,
    "IA32_APIC_BASE": 0x1B,
    "IA32_FEATURE_CONTROL": 0x3A,
    "IA32_TSC_ADJUST": 0x3B,
    "IA32_SPEC_CTRL": 0x48,
    "IA32_PRED_CMD": 0x49,
    "IA32_BIOS_UPDT_TRIG": 0x79,
    "IA32_BIOS_SIGN_ID": 0x8B,
    "MSR_PLATFORM_INFO": 0xCE,
    "IA32_MPERF": 0xE7,
    "IA32_APERF": 0xE8,
    "IA32_MTRRCAP": 0xFE,
    "IA32_ARCH_CAPABILITIES": 0x10A,
    "IA32_SYSENTER_CS": 0x174,
    "IA32_SYSENTER_ESP": 0x175,
    "IA32_SYSENTER_EIP": 0x176,
    "IA32_MCG_CAP": 0x179,
    "IA32_MCG_STATUS": 0x17A,
    "IA32_MCG_CTL": 0x17B,
    "IA32_PERF_STATUS": 0x198,
    "IA32_PERF_CTL": 0x199,
    "IA32_THERM_STATUS": 0x19C,
    "IA32_MISC_ENABLE": 0x1A0,
    "IA32_ENERGY_PERF_BIAS": 0x1B0,
    "IA32_DEBUGCTL": 0x1D9,
    "IA32_MTRR_PHYSBASE0": 0x200,
    "IA32_MTRR_PHYSMASK0": 0x201,
    "IA32_MTRR_FIX64K_00000": 0x250,
    "IA32_PAT": 0x277,
    "IA32_MTRR_DEF_TYPE": 0x2FF,
    "IA32_PERF_GLOBAL_STATUS": 0x38E,
    "IA32_PERF_GLOBAL_CTRL": 0x38F,
    "IA32_MC0_CTL": 0x400,
    "IA32_MC0_STATUS": 0x401,
    "IA32_VMX_BASIC": 0x480,
    "IA32_TSC_DEADLINE": 0x6E0,
    "IA32_X2APIC_APICID": 0x802,
    "IA32_X2APIC_VERSION": 0x803,
    "IA32_X2APIC_TPR": 0x808,
    "IA32_X2APIC_EOI": 0x80B,
    "IA32_X2APIC_SIVR": 0x80F,
    "IA32_X2APIC_ICR": 0x830,
    "IA32_X2APIC_LVT_TIMER": 0x832,
    "IA32_X2APIC_INIT_COUNT": 0x838,
    "IA32_X2APIC_CUR_COUNT": 0x839,
    "IA32_X2APIC_SELF_IPI": 0x83F,
    "IA32_XSS": 0xDA0,
    "EFER": 0xC000_0080,
    "STAR": 0xC000_0081,
    "LSTAR": 0xC000_0082,
    "CSTAR": 0xC000_0083,
    "SFMASK": 0xC000_0084,
    "FS_BASE": 0xC000_0100,
    "GS_BASE": 0xC000_0101,
    "KERNEL_GS_BASE": 0xC000_0102,
    "TSC_AUX": 0xC000_0103,
    "SYSCFG": 0xC001_0010,
    "HWCR": 0xC001_0015,
    "VM_CR": 0xC001_0114,
    "VM_HSAVE_PA": 0xC001_0117,
    "KVM_WALL_CLOCK": 0x11,
    "KVM_SYSTEM_TIME": 0x12,
    "KVM_WALL_CLOCK_NEW": 0x4B56_4D00,
    "KVM_SYSTEM_TIME_NEW": 0x4B56_4D01,
    "KVM_ASYNC_PF_EN": 0x4B56_4D02,
    "KVM_STEAL_TIME": 0x4B56_4D03,
    "KVM_PV_EOI_EN": 0x4B56_4D04,
    "KVM_POLL_CONTROL": 0x4B56_4D05,
}
NAMES: dict[int, str] = {number: name for name, number in NUMBERS.items()}

_PAT_TYPES = {0: "UC", 1: "WC", 4: "WT", 5: "WP", 6: "WB", 7: "UC-"}


def number_of(name: str) -> int:
    """The number of the MSR called `name`; the prefix "IA32_" or "MSR_" may be left out. Raises KeyError."""
    for spelling in (name.upper(), f"IA32_{name.upper()}", name.upper().removeprefix("IA32_").removeprefix("MSR_")):
        if spelling in NUMBERS:
            return NUMBERS[spelling]
    raise KeyError(f"no MSR is called {name!r} here; give its number")


def name_of(number: int) -> str:
    """The MSR's name, or "MSR 0x123" where it is not in the list."""
    return NAMES.get(number, f"MSR {number:#x}")


def describe(number: int, value: int) -> str:
    """One line: name, number, value, and what the value means where that is known."""
    line = f"{name_of(number)} ({number:#x}) = {value:#x}"
    words = _meaning(name_of(number), value)
    return f"{line}: {words}" if words else line


def _meaning(name: str, value: int) -> str:
    if name == "EFER":
        return bits.names_of("efer", value)
    if name == "IA32_APIC_BASE":
        on = "x2APIC" if value >> 10 & 3 == 3 else "on" if value >> 11 & 1 else "off"
        who = ", bootstrap processor" if value >> 8 & 1 else ""
        return f"local APIC at {value & 0xF_FFFF_FFFF_F000:#x}, {on}{who}"
    if name == "STAR":
        # SYSRET adds 16 to its selector for 64-bit code and 8 for SS, which fixes the order of entries in the GDT.
        call, back = value >> 32 & 0xFFFF, value >> 48
        enter = f"SYSCALL loads CS {call & ~3:#x}, SS {call + 8 & ~3:#x}"
        return f"{enter}; 64-bit SYSRET loads CS {back + 16 | 3:#x}, SS {back + 8 | 3:#x}"
    if name == "SFMASK":
        return f"SYSCALL clears RFLAGS {bits.names_of('rflags', value)}"
    if name == "IA32_PAT":
        return " ".join(_PAT_TYPES.get(value >> 8 * n & 7, "reserved") for n in range(8))
    return ""
