"""CPUID: what is announced, whether the engine does it, and KVM's rules of looking up."""

from __future__ import annotations

import pytest
from unicorn import x86_const as x86

from minivmm.soft import cpuid_supported
from minivmm.soft.cpuid import CpuidTable
from minivmm.soft.cpuid_supported import ADDED, LEFT_OUT, PARAVIRTUAL, supported
from minivmm.soft.library import EngineError
from minivmm.soft.scratch import scratch
from minivmm.x86 import bits, cpuid
from minivmm.x86.cpuid import Leaf, vendor_leaf

# One instruction of each extension, in 64-bit code. Operands in memory are at RBX.
INSTRUCTIONS = {
    "cx8": "0f c7 0b",  # cmpxchg8b [rbx]
    "cmov": "0f 44 c1",  # cmovz eax, ecx
    "clflush": "0f ae 3b",  # clflush [rbx]
    "mmx": "0f 6e c0",  # movd mm0, eax
    "fxsr": "0f ae 03",  # fxsave [rbx]
    "sse": "0f 57 c0",  # xorps xmm0, xmm0
    "sse2": "66 0f ef c0",  # pxor xmm0, xmm0
    "pni": "f2 0f 7c c0",  # haddps xmm0, xmm0
    "pclmulqdq": "66 0f 3a 44 c0 00",
    "ssse3": "66 0f 38 00 c0",  # pshufb xmm0, xmm0
    "cx16": "48 0f c7 0b",  # cmpxchg16b [rbx]
    "sse4_1": "66 0f 38 38 c0",  # pminsb xmm0, xmm0
    "sse4_2": "f2 0f 38 f1 c0",  # crc32 eax, eax
    "movbe": "0f 38 f0 03",  # movbe eax, [rbx]
    "popcnt": "f3 0f b8 c0",
    "aes": "66 0f 38 dc c0",  # aesenc xmm0, xmm0
    "xsave": "0f ae 23",  # xsave [rbx]
    "rdrand": "0f c7 f0",
    "fsgsbase": "f3 48 0f ae c0",  # rdfsbase rax
    "bmi1": "c4 e2 78 f2 c0",  # andn eax, eax, eax
    "bmi2": "c4 e2 fb f6 c0",  # mulx rax, rax, rax
    "adx": "66 0f 38 f6 c0",  # adcx eax, eax
    "clflushopt": "66 0f ae 3b",
    "clwb": "66 0f ae 33",
    "mmxext": "0f f7 c0",  # maskmovq mm0, mm0
    "rdtscp": "0f 01 f9",
    "lahf_lm": "9f",  # lahf
    "abm": "f3 0f bd c0",  # lzcnt eax, eax
    "sse4a": "f2 0f 79 c0",  # insertq xmm0, xmm0
}
# What no single instruction shows: modes, registers, paging, interrupt hardware. Each has tests of its own elsewhere.
NOT_INSTRUCTIONS = {
    *("fpu", "de", "pse", "tsc", "msr", "pae", "mce", "apic", "sep", "mtrr", "pge", "mca", "pat", "pse36"),
    *("smep", "syscall", "nx", "pdpe1gb", "lm"),
}


def entries() -> list[Leaf]:
    return cpuid.leaves(supported())


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_what_is_announced_is_executed(name: str) -> None:
    assert name in cpuid.features(entries())
    with scratch(bytes.fromhex(INSTRUCTIONS[name])) as cpu:
        cpu.execute((x86.UC_X86_REG_RBX, 0x40), (x86.UC_X86_REG_RDI, 0x40))  # raises where it is #UD


def test_every_announced_feature_is_accounted_for() -> None:
    assert set(cpuid.features(entries())) == {*INSTRUCTIONS, *NOT_INSTRUCTIONS, *ADDED, *PARAVIRTUAL}


def test_nothing_left_out_is_announced() -> None:
    assert not set(LEFT_OUT) & set(cpuid.features(entries()))
    assert all(cpuid.feature_bit(name) for name in LEFT_OUT)  # none is misspelt


def test_features_the_engine_alone_announces_are_what_was_left_out() -> None:
    ours = set(cpuid.features(entries()))
    engine = set(cpuid.features(cpuid_supported._engine_leaves()))
    assert engine - ours == {"monitor", "svm", "smap", "cr8_legacy", "osxsave"}
    assert ours - engine - {*PARAVIRTUAL} == {"x2apic", "tsc_deadline_timer", "tsc_adjust"}


def test_it_is_an_old_amd_under_kvm() -> None:
    assert cpuid.vendor(entries()) == "AuthenticAMD"
    assert cpuid.brand(entries()) == "minivmm soft CPU"
    assert cpuid.hypervisor(entries()) == "KVMKVMKVM"
    first = cpuid.find(entries(), 1)
    assert first is not None
    assert (first.eax >> 8 & 0xF) == 15
    assert (first.eax >> 20 & 0xFF) == 0  # no extended family
    assert cpuid.physical_bits(entries()) == 40
    power = cpuid.find(entries(), 0x8000_0007)
    assert power is not None
    assert power.edx == 1 << 8


def test_the_second_half_repeats_the_first() -> None:
    first, extended = cpuid.find(entries(), 1), cpuid.find(entries(), 0x8000_0001)
    assert first is not None
    assert extended is not None
    repeated = 0x0183_F3FF  # APM vol. 3, "CPUID Fn8000_0001_EDX": bits 9:0, 17:12, 24:23
    assert extended.edx & repeated == first.edx & repeated


def test_highest_leaves_are_there() -> None:
    for function in (0, 0x4000_0000, 0x8000_0000):
        leaf = cpuid.find(entries(), function)
        assert leaf is not None
        assert cpuid.find(entries(), leaf.eax) is not None


def test_time_may_be_deterministic() -> None:
    with_it, without = set(cpuid.features(entries())), set(cpuid.features(supported(deterministic=True)))
    assert with_it - without == {"rdrand"}


def test_supported_hands_out_copies() -> None:
    supported()[0]["eax"] = 99
    assert supported()[0]["eax"] == 0xD


# ---- the table ----


def table(*leaves: Leaf) -> CpuidTable:
    filled = CpuidTable()
    filled.set(leaves)
    return filled


def test_all_is_zero_before_it_is_set() -> None:
    assert CpuidTable().lookup(0) == (0, 0, 0, 0)
    assert CpuidTable().lookup(1, osxsave=True) == (0, 0, 0, 0)
    assert not CpuidTable().has("lm")


def test_entries_come_back_as_they_were_set() -> None:
    filled = CpuidTable()
    filled.set(supported())
    assert filled.entries() == supported()
    filled.entries()[0]["eax"] = 5
    assert filled.entries() == supported()


def test_the_index_counts_only_where_the_flag_says_so() -> None:
    filled = table(Leaf(1, eax=1), Leaf(4, 0, 1, eax=40), Leaf(4, 1, 1, eax=41))
    assert filled.lookup(1, 7)[0] == 1
    assert filled.lookup(4, 1)[0] == 41
    assert filled.lookup(4, 2) == (0, 0, 0, 0)


def test_osxsave_and_apic_follow_the_processor() -> None:
    osxsave, apic = 1 << 27, 1 << 9
    filled = table(Leaf(1, ecx=osxsave, edx=0))
    assert filled.lookup(1) == (0, 0, 0, apic)
    assert filled.lookup(1, osxsave=True, apic=False) == (0, 0, osxsave, 0)


def test_beyond_the_end_amd_gives_zeros() -> None:
    filled = table(vendor_leaf("AuthenticAMD", 2), Leaf(2, eax=7))
    assert filled.lookup(3) == (0, 0, 0, 0)
    assert filled.lookup(0x4000_0005) == (0, 0, 0, 0)


def test_beyond_the_end_intel_gives_the_highest_basic_leaf() -> None:
    filled = table(
        vendor_leaf("GenuineIntel", 2),
        Leaf(2, eax=7),
        Leaf(0x4000_0000, eax=0x4000_0001),
        Leaf(0x8000_0000, eax=0x8000_0004),
    )
    assert filled.lookup(3)[0] == 7
    assert filled.lookup(1)[0] == 0  # within the range, and just not there
    assert filled.lookup(0x4000_0001)[0] == 0
    assert filled.lookup(0x4000_0002)[0] == 7
    assert filled.lookup(0x4000_0102)[0] == 7  # a class of its own, which has no highest leaf
    assert filled.lookup(0x8000_0003)[0] == 0
    assert filled.lookup(0x8000_0005)[0] == 7
    assert filled.lookup(0xC000_0000)[0] == 7


def test_topology_levels_that_are_not_there_still_name_the_processor() -> None:
    filled = table(vendor_leaf("AuthenticAMD", 0xB), Leaf(0xB, 0, 1, eax=1, edx=3), Leaf(0xB, 1, 1, eax=4, edx=3))
    assert filled.lookup(0xB, 2) == (0, 0, 2, 3)
    assert filled.lookup(0x1F, 2) == (0, 0, 0, 0)


def test_has_knows_names_and_refuses_others() -> None:
    filled = CpuidTable()
    filled.set(supported())
    for name in ("lm", "nx", "syscall", "fsgsbase", "smep", "xsave", "rdtscp", "x2apic", "tsc_deadline_timer", "pge"):
        assert filled.has(name), name
    assert not filled.has("smap")
    with pytest.raises(KeyError, match="tsc_deadlin"):
        filled.has("tsc_deadlin")


def test_cr4_and_xcr0_follow_what_is_announced() -> None:
    filled = CpuidTable()
    optional = bits.CR4_OSXSAVE | bits.CR4_FSGSBASE | bits.CR4_SMEP
    assert not filled.cr4_allowed & optional
    assert filled.cr4_allowed & bits.CR4_PAE
    assert filled.xcr0_allowed == 1
    filled.set(supported())
    assert filled.cr4_allowed & optional == optional
    assert not filled.cr4_allowed & (bits.CR4_SMAP | bits.CR4_PCIDE | bits.CR4_LA57 | bits.CR4_UMIP | bits.CR4_VMXE)
    assert filled.xcr0_allowed == 3


def test_a_vmm_cannot_announce_cr4_bits_into_being() -> None:
    filled = table(Leaf(7, 0, 1, ebx=1 << 20, ecx=1 << 2))  # SMAP, UMIP
    assert filled.has("smap")
    assert not filled.cr4_allowed & (bits.CR4_SMAP | bits.CR4_UMIP)


def test_physical_bits() -> None:
    assert CpuidTable().physical_bits == 36
    assert table(Leaf(0x8000_0008, eax=0x3027)).physical_bits == 39


def test_an_instruction_that_is_not_executed_is_noticed() -> None:
    code = "f3 0f c7 f8"  # rdpid eax
    with scratch(bytes.fromhex(code)) as cpu, pytest.raises(EngineError, match=code):
        cpu.execute()
