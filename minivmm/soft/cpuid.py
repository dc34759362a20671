"""CPUID: what a soft vCPU could announce, and what it answers once the VMM has said what it shall.

`supported` is for KVM_GET_SUPPORTED_CPUID: the features that the engine executes, without those that the backend does
not carry through, with those that it adds. `CpuidTable` is what KVM_SET_CPUID2 fills and the CPUID instruction reads.

The processor is an early 64-bit AMD, as QEMU's own default model: in one of that make and age, no guest looks for
faults of the silicon that a translator doesn't have (Linux skips its page-table isolation, and with it two writes of
CR3 in each system call).

Source: APM vol. 3, "Obtaining Processor Information Via the CPUID Instruction"; KVM API 4.46 KVM_GET_SUPPORTED_CPUID,
4.20 KVM_SET_CPUID2; Documentation/virt/kvm/x86/cpuid.rst.
"""

from __future__ import annotations

from functools import cache

from unicorn import x86_const as x86

from minivmm.soft.engine import PHYSICAL_BITS
from minivmm.soft.scratch import scratch
from minivmm.x86 import bits
from minivmm.x86.cpuid import (
    HYPERVISOR_BASE,
    SIGNIFICANT_INDEX,
    Entries,
    Leaf,
    brand_leaves,
    feature_bit,
    features,
    hypervisor_leaf,
    leaves,
    vendor_leaf,
)

VENDOR, BRAND = "AuthenticAMD", "minivmm soft CPU"
FAMILY_MODEL_STEPPING = 0x060FB1  # family 15, model 107, stepping 1
LINEAR_BITS = 48
CACHE_LINE = 64 // 8  # what CLFLUSH flushes, in 8 bytes
INVARIANT_TSC = 1 << 8  # leaf 0x80000007, EDX
ALWAYS_RUNNING_TIMER = 1 << 2  # leaf 6, EAX: the APIC timer does not stop in a deep sleep
_X87, XCR0, XSAVE_BYTES = 0b01, 0b11, 512 + 64  # x87; with SSE; the legacy area and the header of these two
_BASIC, _EXTENDED = 0, 0x8000_0000
_HIGHEST_BASIC, _HIGHEST_EXTENDED = 0xD, 0x8000_0008

# What the engine announces, in this model or in another one, and the guest does not get.
LEFT_OUT = {
    "smap": "the page walk does not look at RFLAGS.AC",
    "pcid": "the TLB knows no tags",
    "invpcid": "the TLB knows no tags",
    "la57": "the page walk has four levels",
    "pku": "the page walk knows no keys",
    "monitor": "there is nothing to wait for: MONITOR is #UD",
    "vmx": "no guests in guests",
    "svm": "no guests in guests",
    "mpx": "its registers can't be saved",
    "hle": "no transactions",
    "rtm": "no transactions",
    "avx": "the engine has 128-bit registers only",
    "avx2": "the engine has 128-bit registers only",
    "f16c": "part of AVX",
    "fma": "part of AVX",
    "umip": "the engine executes SGDT in user mode all the same",
    "rdpid": "the engine reads a TSC_AUX of its own",
    "rdseed": "the engine does not execute it",
    "cr8_legacy": "LOCK MOV CR0 is #UD here, as on other processors",
    "osxsave": "follows CR4 (CpuidTable.lookup)",
}
# CR4, as KVM has it: the older bits need no feature in CPUID.
_CR4_ALWAYS = (
    bits.CR4_VME
    | bits.CR4_PVI
    | bits.CR4_TSD
    | bits.CR4_DE
    | bits.CR4_PSE
    | bits.CR4_PAE
    | bits.CR4_MCE
    | bits.CR4_PGE
    | bits.CR4_PCE
    | bits.CR4_OSFXSR
    | bits.CR4_OSXMMEXCPT
)
_CR4_OF_FEATURE = {"xsave": bits.CR4_OSXSAVE, "fsgsbase": bits.CR4_FSGSBASE, "smep": bits.CR4_SMEP}
ADDED = ("x2apic", "tsc_deadline_timer", "hypervisor", "tsc_adjust")
PARAVIRTUAL = ("kvmclock", "nop_io_delay", "kvmclock2", "steal_time", "kvmclock_stable")


@cache
def _engine_leaves() -> tuple[Leaf, ...]:
    """What the engine itself answers. Raises EngineError."""
    wanted = ((1, 0), (7, 0), (0xD, 1), (0x8000_0001, 0), (0x8000_0005, 0), (0x8000_0006, 0))
    eax, ebx, ecx, edx = x86.UC_X86_REG_RAX, x86.UC_X86_REG_RBX, x86.UC_X86_REG_RCX, x86.UC_X86_REG_RDX
    found = []
    with scratch(b"\x0f\xa2") as cpu:
        for function, index in wanted:
            cpu.execute((eax, function), (ecx, index))
            found.append(Leaf(function, index, 0, *(cpu.engine.get(name) for name in (eax, ebx, ecx, edx))))
    return tuple(found)


def supported(*, deterministic: bool = False) -> list[dict[str, int]]:
    """The leaves for KVM_GET_SUPPORTED_CPUID, as fields of struct kvm_cpuid_entry2.

    `deterministic` leaves RDRAND out, whose numbers come from the host. Raises EngineError where there is no engine.
    """
    _, _, xsave, extended, caches_l1, caches_l2 = _engine_leaves()
    names = set(features(_engine_leaves())) - set(LEFT_OUT) | {*ADDED, *PARAVIRTUAL}
    if deterministic:
        names.discard("rdrand")
    one_processor = CACHE_LINE << 8  # EBX 15:8; topology and APIC ID are the VMM's to set
    found = [
        vendor_leaf(VENDOR, _HIGHEST_BASIC),
        Leaf(1, eax=FAMILY_MODEL_STEPPING, ebx=one_processor),
        Leaf(6, eax=ALWAYS_RUNNING_TIMER),
        Leaf(7, flags=SIGNIFICANT_INDEX),
        Leaf(0xD, 0, SIGNIFICANT_INDEX, eax=XCR0, ebx=XSAVE_BYTES, ecx=XSAVE_BYTES),
        Leaf(0xD, 1, SIGNIFICANT_INDEX, eax=xsave.eax),  # XSAVEOPT, XGETBV with ECX = 1
        hypervisor_leaf(),
        Leaf(HYPERVISOR_BASE + 1),
        _extended_vendor_leaf(),
        # The AMD half repeats leaf 1 in EDX: what features() has no names for comes over as it is.
        Leaf(0x8000_0001, eax=FAMILY_MODEL_STEPPING, edx=extended.edx & _repeated()),
        *brand_leaves(BRAND),
        caches_l1,
        caches_l2,
        Leaf(0x8000_0007, edx=INVARIANT_TSC),
        Leaf(0x8000_0008, eax=LINEAR_BITS << 8 | PHYSICAL_BITS),
    ]
    for name in names:
        function, register, bit = feature_bit(name)
        leaf = next(leaf for leaf in found if leaf.function == function)
        setattr(leaf, register, getattr(leaf, register) | 1 << bit)
    return [vars(leaf) for leaf in found]


def _extended_vendor_leaf() -> Leaf:
    leaf = vendor_leaf(VENDOR, _HIGHEST_EXTENDED)
    leaf.function = _EXTENDED
    return leaf


def _repeated() -> int:
    """The bits of leaf 0x80000001 EDX that repeat those of leaf 1 (APM vol. 3, "CPUID Fn8000_0001_EDX")."""
    return sum(1 << bit for bit in (*range(10), *range(12, 18), 23, 24))


class CpuidTable:
    """What the CPUID instruction of one vCPU answers. Before KVM_SET_CPUID2, all is zero."""

    def __init__(self) -> None:
        self._leaves: list[Leaf] = []
        self._features: frozenset[str] = frozenset()

    def set(self, entries: Entries) -> None:
        """KVM_SET_CPUID2: any sequence of structures or mappings with the fields of struct kvm_cpuid_entry2."""
        self._leaves = leaves(entries)
        self._features = frozenset(features(self._leaves))

    def entries(self) -> list[dict[str, int]]:
        """KVM_GET_CPUID2: what was set, in its order."""
        return [dict(vars(leaf)) for leaf in self._leaves]

    def has(self, feature: str) -> bool:
        """Whether `feature` is announced, by its name in /proc/cpuinfo ("nx", "smep", "tsc_deadline_timer", …).

        Raises KeyError for a name that minivmm.x86.cpuid doesn't know.
        """
        if feature not in self._features:
            feature_bit(feature)
        return feature in self._features

    @property
    def cr4_allowed(self) -> int:
        """The bits of CR4 that may be 1: not those of features that CPUID does not show, or the backend does not
        have."""
        announced = (mask for name, mask in _CR4_OF_FEATURE.items() if name in self._features)
        return _CR4_ALWAYS | sum(announced)

    @property
    def xcr0_allowed(self) -> int:
        """The bits of XCR0 that may be 1: x87, and what leaf 0xD shows of what the backend has."""
        leaf = self._find(0xD, 0)
        return _X87 | (leaf.eax & XCR0 if leaf else 0)

    @property
    def physical_bits(self) -> int:
        """MAXPHYADDR: leaf 0x80000008, or 36 where there is none, as KVM has it."""
        leaf = self._find(0x8000_0008, 0)
        return leaf.eax & 0xFF if leaf and leaf.eax & 0xFF else 36

    def lookup(
        self, function: int, index: int = 0, *, osxsave: bool = False, apic: bool = True
    ) -> tuple[int, int, int, int]:
        """(EAX, EBX, ECX, EDX) of the CPUID instruction with EAX = `function`, ECX = `index`.

        In leaf 1, OSXSAVE follows `osxsave` (CR4.OSXSAVE), and APIC `apic` (the enable bit of IA32_APIC_BASE).
        """
        leaf = self._find(function, index)
        if leaf is None:
            leaf = self._out_of_range(function, index)
        if leaf is None:
            return self._no_such_level(function, index)
        ecx, edx = leaf.ecx, leaf.edx
        if leaf.function == 1:
            ecx = _with_bit(ecx, "osxsave", osxsave)
            edx = _with_bit(edx, "apic", apic)
        return leaf.eax, leaf.ebx, ecx, edx

    def _find(self, function: int, index: int) -> Leaf | None:
        for leaf in self._leaves:
            if leaf.function == function and (leaf.index == index or not leaf.flags & SIGNIFICANT_INDEX):
                return leaf
        return None

    def _out_of_range(self, function: int, index: int) -> Leaf | None:
        """Beyond the highest leaf of its class, Intel answers with the highest basic one, AMD with zeros.

        Source: SDM vol. 2, CPUID: "If a value entered for CPUID.EAX is higher than the maximum …".
        """
        basic = self._find(_BASIC, 0)
        if basic is None or vendor_leaf(VENDOR, 0).ebx == basic.ebx:
            return None
        if HYPERVISOR_BASE <= function < HYPERVISOR_BASE + 0x1000_0000:
            highest = self._find(function & 0xFFFF_FF00, 0)
        else:
            highest = self._find(0xC000_0000 if function >= 0xC000_0000 else function & _EXTENDED, 0)
        return None if highest and function <= highest.eax else self._find(basic.eax, index)

    def _no_such_level(self, function: int, index: int) -> tuple[int, int, int, int]:
        """Zeros; the topology leaves give ECX back, and the x2APIC ID at every level (SDM vol. 2, CPUID leaf 0BH)."""
        first = self._find(function, 1) if function in (0xB, 0x1F) else None
        return (0, 0, index & 0xFF, first.edx) if first else (0, 0, 0, 0)


def _with_bit(register: int, name: str, on: bool) -> int:
    mask = 1 << feature_bit(name)[2]
    return register | mask if on else register & ~mask
