"""KVM_GET_SUPPORTED_CPUID: what a soft vCPU can announce.

That is what the engine executes, without what the backend does not carry through, with what it adds.

The processor is an early 64-bit AMD, as QEMU's own default model: in one of that make and age, no guest looks for
faults of the silicon, which a translator doesn't have (Linux skips its page-table isolation, and with it two writes of
CR3 in each system call). Every vCPU is a package of its own; a VMM that wants another topology says so in leaf 1 EBX
and leaf 0x80000008 ECX.

Source: APM vol. 3, "Obtaining Processor Information Via the CPUID Instruction"; KVM API 4.46 KVM_GET_SUPPORTED_CPUID;
Documentation/virt/kvm/x86/cpuid.rst.
"""

from __future__ import annotations

from functools import cache

from unicorn import x86_const as x86

from minivmm.soft.engine import PHYSICAL_BITS
from minivmm.soft.scratch import scratch
from minivmm.x86.cpuid import (
    HYPERVISOR_BASE,
    SIGNIFICANT_INDEX,
    Leaf,
    brand_leaves,
    feature_bit,
    features,
    hypervisor_leaf,
    vendor_leaf,
)

VENDOR, BRAND = "AuthenticAMD", "minivmm soft CPU"
FAMILY_MODEL_STEPPING = 0x060FB1  # family 15, model 107, stepping 1
LINEAR_BITS = 48
CACHE_LINE = 64 // 8  # what CLFLUSH flushes, in 8 bytes
INVARIANT_TSC = 1 << 8  # leaf 0x80000007, EDX
ALWAYS_RUNNING_TIMER = 1 << 2  # leaf 6, EAX: the APIC timer does not stop in a deep sleep
XCR0, XSAVE_BYTES = 0b11, 512 + 64  # x87 and SSE: the legacy area and the header
_HIGHEST_BASIC, _HIGHEST_EXTENDED = 0xD, 0x8000_0008

# What a guest might look for and does not get, although the engine, in this model or another one, may announce it.
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
    "avx": "the engine has 128-bit registers only, and takes VEX-coded instructions for their SSE forms",
    "avx2": "part of AVX",
    "f16c": "part of AVX",
    "fma": "part of AVX",
    "umip": "the engine executes SGDT in user mode all the same",
    "rdpid": "the engine reads a TSC_AUX of its own",
    "rdseed": "it would be RDRAND by another name",
    "cr8_legacy": "LOCK MOV CR0 is #UD here, as on other processors",
    "osxsave": "follows CR4.OSXSAVE",
}
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
    leaf.function = 0x8000_0000
    return leaf


def _repeated() -> int:
    """The bits of leaf 0x80000001 EDX that repeat those of leaf 1 (APM vol. 3, "CPUID Fn8000_0001_EDX")."""
    return sum(1 << bit for bit in (*range(10), *range(12, 18), 23, 24))
