"""The bits of CR0, CR4, EFER, RFLAGS and CR3 by their names, and a register's value in words.

Source: SDM vol. 3, "Control Registers" and "Extended Feature Enable Register"; SDM vol. 1, "EFLAGS Register";
APM vol. 2, "System-Control Registers" for the bits of EFER that only AMD has.
"""

from __future__ import annotations

from typing import NamedTuple


class Bit(NamedTuple):
    """One bit of a register: its mask, the manual's name for it, and what it does in a few words."""

    mask: int
    name: str
    meaning: str


CR0_PE = 1 << 0
CR0_MP = 1 << 1
CR0_EM = 1 << 2
CR0_TS = 1 << 3
CR0_ET = 1 << 4
CR0_NE = 1 << 5
CR0_WP = 1 << 16
CR0_AM = 1 << 18
CR0_NW = 1 << 29
CR0_CD = 1 << 30
CR0_PG = 1 << 31

CR4_VME = 1 << 0
CR4_PVI = 1 << 1
CR4_TSD = 1 << 2
CR4_DE = 1 << 3
CR4_PSE = 1 << 4
CR4_PAE = 1 << 5
CR4_MCE = 1 << 6
CR4_PGE = 1 << 7
CR4_PCE = 1 << 8
CR4_OSFXSR = 1 << 9
CR4_OSXMMEXCPT = 1 << 10
CR4_UMIP = 1 << 11
CR4_LA57 = 1 << 12
CR4_VMXE = 1 << 13
CR4_SMXE = 1 << 14
CR4_FSGSBASE = 1 << 16
CR4_PCIDE = 1 << 17
CR4_OSXSAVE = 1 << 18
CR4_KL = 1 << 19
CR4_SMEP = 1 << 20
CR4_SMAP = 1 << 21
CR4_PKE = 1 << 22
CR4_CET = 1 << 23
CR4_PKS = 1 << 24
CR4_UINTR = 1 << 25
CR4_LASS = 1 << 27
CR4_LAM_SUP = 1 << 28
CR4_FRED = 1 << 32

EFER_SCE = 1 << 0
EFER_LME = 1 << 8
EFER_LMA = 1 << 10
EFER_NXE = 1 << 11
EFER_SVME = 1 << 12
EFER_LMSLE = 1 << 13
EFER_FFXSR = 1 << 14
EFER_TCE = 1 << 15
EFER_MCOMMIT = 1 << 17
EFER_INTWB = 1 << 18
EFER_UAIE = 1 << 20
EFER_AIBRSE = 1 << 21

RFLAGS_CF = 1 << 0
RFLAGS_FIXED = 1 << 1
RFLAGS_PF = 1 << 2
RFLAGS_AF = 1 << 4
RFLAGS_ZF = 1 << 6
RFLAGS_SF = 1 << 7
RFLAGS_TF = 1 << 8
RFLAGS_IF = 1 << 9
RFLAGS_DF = 1 << 10
RFLAGS_OF = 1 << 11
RFLAGS_IOPL = 3 << 12
RFLAGS_NT = 1 << 14
RFLAGS_RF = 1 << 16
RFLAGS_VM = 1 << 17
RFLAGS_AC = 1 << 18
RFLAGS_VIF = 1 << 19
RFLAGS_VIP = 1 << 20
RFLAGS_ID = 1 << 21

CR0 = (
    Bit(CR0_PE, "PE", "protected mode"),
    Bit(CR0_MP, "MP", "WAIT obeys TS"),
    Bit(CR0_EM, "EM", "no x87: its instructions raise #NM"),
    Bit(CR0_TS, "TS", "task switched: the next x87 or SSE instruction raises #NM"),
    Bit(CR0_ET, "ET", "x87 is an 80387 (always 1)"),
    Bit(CR0_NE, "NE", "x87 errors raise #MF, not IRQ 13"),
    Bit(CR0_WP, "WP", "read-only pages stop the kernel too"),
    Bit(CR0_AM, "AM", "alignment checks in ring 3, where RFLAGS.AC is set"),
    Bit(CR0_NW, "NW", "not write-through"),
    Bit(CR0_CD, "CD", "cache disabled"),
    Bit(CR0_PG, "PG", "paging"),
)

CR4 = (
    Bit(CR4_VME, "VME", "virtual-8086 interrupt extensions"),
    Bit(CR4_PVI, "PVI", "virtual interrupts in protected mode"),
    Bit(CR4_TSD, "TSD", "RDTSC for ring 0 only"),
    Bit(CR4_DE, "DE", "debug extensions"),
    Bit(CR4_PSE, "PSE", "4 MiB pages in 32-bit paging"),
    Bit(CR4_PAE, "PAE", "64-bit page-table entries"),
    Bit(CR4_MCE, "MCE", "machine-check exceptions"),
    Bit(CR4_PGE, "PGE", "global pages"),
    Bit(CR4_PCE, "PCE", "RDPMC in every ring"),
    Bit(CR4_OSFXSR, "OSFXSR", "the system saves SSE state"),
    Bit(CR4_OSXMMEXCPT, "OSXMMEXCPT", "the system handles #XM"),
    Bit(CR4_UMIP, "UMIP", "SGDT, SIDT, SLDT, SMSW, STR for ring 0 only"),
    Bit(CR4_LA57, "LA57", "5-level paging"),
    Bit(CR4_VMXE, "VMXE", "VMX"),
    Bit(CR4_SMXE, "SMXE", "SMX"),
    Bit(CR4_FSGSBASE, "FSGSBASE", "RDFSBASE and its kin"),
    Bit(CR4_PCIDE, "PCIDE", "process-context identifiers"),
    Bit(CR4_OSXSAVE, "OSXSAVE", "XSAVE and XGETBV"),
    Bit(CR4_KL, "KL", "Key Locker"),
    Bit(CR4_SMEP, "SMEP", "the kernel must not execute user pages"),
    Bit(CR4_SMAP, "SMAP", "the kernel must not touch user pages"),
    Bit(CR4_PKE, "PKE", "protection keys for user pages"),
    Bit(CR4_CET, "CET", "control-flow enforcement"),
    Bit(CR4_PKS, "PKS", "protection keys for kernel pages"),
    Bit(CR4_UINTR, "UINTR", "user interrupts"),
    Bit(CR4_LASS, "LASS", "linear-address space separation"),
    Bit(CR4_LAM_SUP, "LAM_SUP", "address masking for the kernel"),
    Bit(CR4_FRED, "FRED", "flexible return and event delivery"),
)

EFER = (
    Bit(EFER_SCE, "SCE", "SYSCALL and SYSRET"),
    Bit(EFER_LME, "LME", "long mode enabled: it starts when paging does"),
    Bit(EFER_LMA, "LMA", "long mode active"),
    Bit(EFER_NXE, "NXE", "no-execute pages"),
    Bit(EFER_SVME, "SVME", "AMD-V"),
    Bit(EFER_LMSLE, "LMSLE", "segment limits in long mode (AMD)"),
    Bit(EFER_FFXSR, "FFXSR", "fast FXSAVE (AMD)"),
    Bit(EFER_TCE, "TCE", "translation cache extension (AMD)"),
    Bit(EFER_MCOMMIT, "MCOMMIT", "MCOMMIT (AMD)"),
    Bit(EFER_INTWB, "INTWB", "interruptible WBINVD (AMD)"),
    Bit(EFER_UAIE, "UAIE", "upper address ignore (AMD)"),
    Bit(EFER_AIBRSE, "AIBRSE", "automatic IBRS (AMD)"),
)

RFLAGS = (
    Bit(RFLAGS_CF, "CF", "carry"),
    Bit(RFLAGS_PF, "PF", "parity"),
    Bit(RFLAGS_AF, "AF", "auxiliary carry"),
    Bit(RFLAGS_ZF, "ZF", "zero"),
    Bit(RFLAGS_SF, "SF", "sign"),
    Bit(RFLAGS_TF, "TF", "trap after each instruction"),
    Bit(RFLAGS_IF, "IF", "interrupts enabled"),
    Bit(RFLAGS_DF, "DF", "string instructions go down"),
    Bit(RFLAGS_OF, "OF", "overflow"),
    Bit(RFLAGS_NT, "NT", "nested task"),
    Bit(RFLAGS_RF, "RF", "resume: no debug fault on this instruction"),
    Bit(RFLAGS_VM, "VM", "virtual-8086"),
    Bit(RFLAGS_AC, "AC", "alignment check; SMAP lifted"),
    Bit(RFLAGS_VIF, "VIF", "virtual IF"),
    Bit(RFLAGS_VIP, "VIP", "virtual interrupt pending"),
    Bit(RFLAGS_ID, "ID", "CPUID can be used"),
)

REGISTERS: dict[str, tuple[Bit, ...]] = {"cr0": CR0, "cr4": CR4, "efer": EFER, "rflags": RFLAGS}


def mask_of(bits: tuple[Bit, ...]) -> int:
    """All the bits of a table in one mask."""
    return sum(bit.mask for bit in bits)


# What the manuals leave undefined must be zero. RFLAGS has two odd ones: bit 1 is always one, IOPL is two bits wide.
CR0_RESERVED = ~mask_of(CR0) & (1 << 64) - 1
CR4_RESERVED = ~mask_of(CR4) & (1 << 64) - 1
EFER_RESERVED = ~mask_of(EFER) & (1 << 64) - 1
RFLAGS_RESERVED = ~(mask_of(RFLAGS) | RFLAGS_IOPL | RFLAGS_FIXED) & (1 << 64) - 1


def set_bits(register: str, value: int) -> list[Bit]:
    """The bits that are 1 in `value`, lowest first; `register` is "cr0", "cr4", "efer" or "rflags".

    Bits that the manual does not define are called "bit 45". Raises KeyError for a register that has no table.
    """
    known = {bit.mask: bit for bit in REGISTERS[register]}
    if register == "rflags":
        # IOPL is a number and bit 1 is always one: neither says anything as a name.
        value &= ~(RFLAGS_IOPL | RFLAGS_FIXED)
    ones = [1 << n for n in range(value.bit_length()) if value >> n & 1]
    return [known.get(one) or Bit(one, f"bit {one.bit_length() - 1}", "not defined") for one in ones]


def names_of(register: str, value: int) -> str:
    """The names of the set bits with spaces between: names_of("cr0", 0x8000_0011) is "PE ET PG"."""
    names = " ".join(bit.name for bit in set_bits(register, value)) or "none"
    if register == "rflags" and (iopl := (value & RFLAGS_IOPL) >> 12):
        names = f"{names} IOPL={iopl}".removeprefix("none ")
    return names


def in_words(register: str, value: int) -> str:
    """One line for people: "CR0 0x80000011 = PE (protected mode), ET (…), PG (paging)"."""
    words = ", ".join(f"{bit.name} ({bit.meaning})" for bit in set_bits(register, value)) or "no bit set"
    return f"{register.upper()} {value:#x} = {words}"
