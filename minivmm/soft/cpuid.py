"""CPUID of one soft vCPU: what KVM_SET_CPUID2 filled in, as the instruction reads it.

Source: SDM vol. 2, APM vol. 3, "CPUID"; KVM API 4.20 KVM_SET_CPUID2, 4.46 KVM_GET_SUPPORTED_CPUID (the flags).
"""

from __future__ import annotations

from minivmm.x86 import bits
from minivmm.x86.cpuid import (
    HYPERVISOR_BASE,
    SIGNIFICANT_INDEX,
    Entries,
    Leaf,
    feature_bit,
    features,
    leaves,
    vendor,
)

AMD = ("AuthenticAMD", "HygonGenuine")
X87, SSE = 1 << 0, 1 << 1  # XCR0
_BASIC, _EXTENDED, _CENTAUR = 0, 0x8000_0000, 0xC000_0000
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


class CpuidTable:
    """What the CPUID instruction of one vCPU answers. Before KVM_SET_CPUID2, all is zero."""

    def __init__(self) -> None:
        self._leaves: list[Leaf] = []
        self._by_function: dict[int, list[Leaf]] = {}
        self._features: frozenset[str] = frozenset()

    def set(self, entries: Entries) -> None:
        """KVM_SET_CPUID2: any sequence of structures or mappings with the fields of struct kvm_cpuid_entry2."""
        self._leaves = leaves(entries)
        self._by_function = {}
        for leaf in self._leaves:
            self._by_function.setdefault(leaf.function, []).append(leaf)
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
        return X87 | (leaf.eax & SSE if leaf else 0)

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
        for leaf in self._by_function.get(function, ()):
            if leaf.index == index or not leaf.flags & SIGNIFICANT_INDEX:
                return leaf
        return None

    def _out_of_range(self, function: int, index: int) -> Leaf | None:
        """Beyond the highest leaf of its class, Intel answers with the highest basic one, AMD with zeros.

        Source: SDM vol. 2, CPUID: "If a value entered for CPUID.EAX is higher than the maximum …".
        """
        basic = self._find(_BASIC, 0)
        if basic is None or vendor(self._leaves) in AMD:
            return None
        if HYPERVISOR_BASE <= function < HYPERVISOR_BASE + 0x1000_0000:
            highest = self._find(function & 0xFFFF_FF00, 0)
        else:
            highest = self._find(_CENTAUR if function >= _CENTAUR else function & _EXTENDED, 0)
        return None if highest and function <= highest.eax else self._find(basic.eax, index)

    def _no_such_level(self, function: int, index: int) -> tuple[int, int, int, int]:
        """Zeros; the topology leaves give ECX back, and the x2APIC ID at every level (SDM vol. 2, CPUID leaf 0BH)."""
        first = self._find(function, 1) if function in (0xB, 0x1F) else None
        return (0, 0, index & 0xFF, first.edx) if first else (0, 0, 0, 0)


def _with_bit(register: int, name: str, on: bool) -> int:
    mask = 1 << feature_bit(name)[2]
    return register | mask if on else register & ~mask
