"""What CPUID tells each processor of a machine about itself: its APIC ID, and how many they are.

KVM_GET_SUPPORTED_CPUID gives what the host has, its own APIC ID and topology included; those are for the VMM to set.

Source: SDM vol. 2, CPUID leaves 1, 4, 0BH and 1FH; APM vol. 3, Fn8000_0008 ECX and Fn8000_001E; api.rst 4.46.
"""

from __future__ import annotations

from collections.abc import Sequence

from minivmm.kvm import constants as k
from minivmm.vcpu import Vcpu
from minivmm.vm import Vm
from minivmm.x86.cpuid import SIGNIFICANT_INDEX, feature_bit

Entry = dict[str, int]
SMT, CORE = 1, 2  # level types of leaf 0BH
HT = "ht"
NEEDS_APIC = "apic", "x2apic", "tsc_deadline_timer"
TOPOLOGY = 0xB, 0x1F


def set_up_cpuid(vm: Vm, vcpus: Sequence[Vcpu], *, apics: bool) -> None:
    """Shows each vCPU all that the host supports, and its own place: one package, a core for each."""
    supported = vm.supported_cpuid()
    has_topology = apics and any(entry["function"] == 0 and entry["eax"] >= TOPOLOGY[0] for entry in supported)
    switched = {}
    if not apics:
        switched = dict.fromkeys(NEEDS_APIC, False)
    elif vm.has_cap(k.KVM_CAP_TSC_DEADLINE_TIMER):  # the kernel's local APIC has it, though not every KVM lists it here
        switched = {"tsc_deadline_timer": True}
    for vcpu in vcpus:
        entries = [dict(entry) for entry in supported if entry["function"] not in TOPOLOGY]
        for entry in entries:
            _place(entry, vcpu.index, len(vcpus))
            for name, on in switched.items():
                _switch(entry, name, on)
        vcpu.set_cpuid(entries + _levels(vcpu.index, len(vcpus)) if has_topology else entries)


def _switch(entry: Entry, feature: str, on: bool) -> None:
    function, register, bit = feature_bit(feature)
    if entry["function"] == function:
        entry[register] = entry[register] & ~(1 << bit) | on << bit


def _place(entry: Entry, identity: int, count: int) -> None:
    match entry["function"]:
        case 1:
            entry["ebx"] = entry["ebx"] & 0xFFFF | count << 16 | identity << 24
            _switch(entry, HT, count > 1)
        case 4 if entry["eax"] & 0x1F:  # a cache of Intel's: how many cores share the package
            entry["eax"] = entry["eax"] & 0x03FF_FFFF | count - 1 << 26
        case 0x8000_0008:
            entry["ecx"] = count - 1
        case 0x8000_001E:
            entry["eax"], entry["ebx"], entry["ecx"] = identity, identity, 0


def _levels(identity: int, count: int) -> list[Entry]:
    """Leaf 0BH: one thread a core, `count` cores a package."""
    bits = (count - 1).bit_length()
    levels = (0, 1, SMT << 8), (bits, count, CORE << 8 | 1), (0, 0, 2)
    return [
        {
            "function": TOPOLOGY[0],
            "index": index,
            "flags": SIGNIFICANT_INDEX,
            "eax": shift,
            "ebx": processors,
            "ecx": level,
            "edx": identity,
        }
        for index, (shift, processors, level) in enumerate(levels)
    ]
