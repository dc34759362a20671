"""CPUID, MSRs, disassembly and registers: what is shown to people."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import minivmm.x86
from minivmm.x86 import cpuid, modes, msrs, registers
from minivmm.x86.cpuid import Leaf
from minivmm.x86.disassembly import disassemble, instructions
from minivmm.x86.state import Regs, Sregs, reset_state


def test_vendor_brand_and_hypervisor_come_back_as_they_went() -> None:
    entries = [
        cpuid.vendor_leaf("GenuineIntel", 7),
        *cpuid.brand_leaves("minivmm virtual CPU"),
        cpuid.hypervisor_leaf("KVMKVMKVM"),
    ]
    assert cpuid.vendor(entries) == "GenuineIntel"
    assert cpuid.brand(entries) == "minivmm virtual CPU"
    assert cpuid.hypervisor(entries) == "KVMKVMKVM"
    # The letters of "GenuineIntel" in EBX, EDX, ECX: the values that every manual prints.
    assert (entries[0].ebx, entries[0].edx, entries[0].ecx) == (0x756E_6547, 0x4965_6E69, 0x6C65_746E)
    assert (entries[4].ebx, entries[4].ecx, entries[4].edx) == (0x4B4D_564B, 0x564B_4D56, 0x4D)


def test_nothing_there_is_not_an_error() -> None:
    assert cpuid.vendor([]) == cpuid.brand([]) == ""
    assert cpuid.hypervisor([]) is None
    assert cpuid.features([]) == []
    assert cpuid.physical_bits([]) == 36
    assert cpuid.find([], 0) is None


def test_a_signature_has_twelve_letters_at_most() -> None:
    with pytest.raises(ValueError, match="13 characters"):
        cpuid.hypervisor_leaf("MINIVMMINIVMM")


def test_features_by_name() -> None:
    entries = [
        Leaf(1, ecx=1 << 31 | 1, edx=1 | 1 << 6),
        Leaf(7, 0, 1, ebx=1 << 20, ecx=1 << 2, edx=1 << 4),
        Leaf(7, 1, 1, ebx=0xFFFF_FFFF),
        Leaf(0x8000_0001, edx=1 << 29 | 1 << 20),
        Leaf(0x8000_0008, eax=0x3028),
    ]
    assert cpuid.features(entries) == ["fpu", "pae", "pni", "hypervisor", "smap", "umip", "fsrm", "nx", "lm"]
    assert cpuid.physical_bits(entries) == 40


def test_kvm_features_count_only_under_kvms_signature() -> None:
    leaf = Leaf(0x4000_0001, eax=1)
    assert cpuid.features([cpuid.hypervisor_leaf("KVMKVMKVM"), leaf]) == ["kvmclock"]
    assert cpuid.features([cpuid.hypervisor_leaf("Microsoft Hv"), leaf]) == []


def test_feature_tables_have_a_word_for_every_bit() -> None:
    for place, names in cpuid.FEATURES.items():
        assert len(names) <= 32, place
        assert len(names) % 8 == 0, place
    named = [name for names in cpuid.FEATURES.values() for name in names if name != "-"]
    assert len(set(named)) == len(named)
    assert cpuid.feature_bit("lm") == (0x8000_0001, "edx", 29)
    assert cpuid.feature_bit("hypervisor") == (1, "ecx", 31)
    assert cpuid.feature_bit("pks") == (7, "ecx", 31)
    assert cpuid.feature_bit("sha_ni") == (7, "ebx", 29)
    assert cpuid.feature_bit("kvmclock_stable") == (0x4000_0001, "eax", 24)
    with pytest.raises(KeyError):
        cpuid.feature_bit("-")


def test_a_leaf_is_replaced_or_added_and_the_input_is_left_alone() -> None:
    entries = [SimpleNamespace(**vars(Leaf(7, index, 1, eax=index))) for index in (0, 1)]
    changed = cpuid.with_leaf(entries, Leaf(7, 1, 1, eax=99))
    assert [leaf.eax for leaf in changed] == [0, 99]
    assert entries[1].eax == 1
    assert len(cpuid.with_leaf(changed, Leaf(9))) == 3
    # A leaf without subleaves answers for every ECX.
    assert [leaf.eax for leaf in cpuid.with_leaf([Leaf(1, eax=5)], Leaf(1, 3, eax=6))] == [6]
    assert cpuid.find([Leaf(1, eax=5)], 1, 3) == Leaf(1, eax=5)
    assert cpuid.find(changed, 7, 2) is None


def test_mappings_serve_as_entries_too() -> None:
    assert cpuid.vendor([vars(cpuid.vendor_leaf("AuthenticAMD", 1))]) == "AuthenticAMD"
    assert str(Leaf(1, eax=2)) == "CPUID 0x00000001.0: eax 0x00000002 ebx 0x00000000 ecx 0x00000000 edx 0x00000000"


def test_msr_names_and_numbers() -> None:
    assert msrs.name_of(0xC000_0080) == "EFER"
    assert msrs.name_of(0x1234_5678) == "MSR 0x12345678"
    for spelling in ("efer", "EFER", "IA32_EFER"):
        assert msrs.number_of(spelling) == 0xC000_0080
    assert msrs.number_of("apic_base") == msrs.number_of("IA32_APIC_BASE") == 0x1B
    with pytest.raises(KeyError):
        msrs.number_of("nothing")
    assert len(msrs.NAMES) == len(msrs.NUMBERS) >= 60


@pytest.mark.parametrize(
    ("number", "value", "words"),
    [
        (0xC000_0080, 0xD01, "EFER (0xc0000080) = 0xd01: SCE LME LMA NXE"),
        (0x1B, 0xFEE0_0900, "IA32_APIC_BASE (0x1b) = 0xfee00900: local APIC at 0xfee00000, on, bootstrap processor"),
        (0x1B, 0xFEE0_0C00, "IA32_APIC_BASE (0x1b) = 0xfee00c00: local APIC at 0xfee00000, x2APIC"),
        (0x1B, 0, "IA32_APIC_BASE (0x1b) = 0x0: local APIC at 0x0, off"),
        (0x277, 0x0007_0406_0007_0406, "IA32_PAT (0x277) = 0x7040600070406: WB WT UC- UC WB WT UC- UC"),
        (0xC000_0084, 0x4_7700, "SFMASK (0xc0000084) = 0x47700: SYSCALL clears RFLAGS TF IF DF NT AC IOPL=3"),
        (0x10, 5, "IA32_TIME_STAMP_COUNTER (0x10) = 0x5"),
        (0x999, 5, "MSR 0x999 (0x999) = 0x5"),
    ],
)
def test_msrs_in_words(number: int, value: int, words: str) -> None:
    assert msrs.describe(number, value) == words


def test_star_says_what_syscall_and_sysret_load() -> None:
    # Linux: kernel code 0x10, and 0x23 as the base from which SYSRET finds user data 0x2b and user code 0x33.
    words = msrs.describe(0xC000_0081, 0x0023_0010 << 32)
    assert words.endswith("SYSCALL loads CS 0x10, SS 0x18; 64-bit SYSRET loads CS 0x33, SS 0x2b")


def test_the_same_bytes_in_three_modes() -> None:
    code = bytes.fromhex("b8341200 00f4")
    assert disassemble(code[:3], 0x1000, 16) == ["0x1000: b8 34 12  mov ax, 0x1234"]
    assert disassemble(code, 0x1000, 32) == ["0x1000: b8 34 12 00 00  mov eax, 0x1234", "0x1005: f4              hlt"]
    assert disassemble(bytes.fromhex("48ffc0"), 0, 64) == ["0x0: 48 ff c0  inc rax"]
    assert disassemble(bytes.fromhex("48ffc0"), 0, 32)[0] == "0x0: 48     dec eax"


def test_bad_bytes_are_shown_and_passed_over() -> None:
    decoded = instructions(bytes.fromhex("06f4"), 0x10, 64)
    assert [str(one) for one in decoded] == ["0x10: 06  (bad)", "0x11: f4  hlt"]
    assert disassemble(bytes.fromhex("b834"), 0, 16)[0] == "0x0: b8  (bad)"
    assert disassemble(b"", 0, 16) == []
    with pytest.raises(ValueError, match="not 8-bit"):
        disassemble(b"\xf4", 0, 8)


@given(st.binary(max_size=40), st.sampled_from([16, 32, 64]), st.sampled_from([0, 0xFFFF_FFF0, (1 << 64) - 4]))
def test_any_bytes_are_disassembled_without_a_gap(code: bytes, mode: int, address: int) -> None:
    decoded = instructions(code, address, mode, count=100)
    assert b"".join(one.code for one in decoded) == code
    assert all(one.text for one in decoded)


def test_count_limits_the_lines() -> None:
    assert len(disassemble(b"\x90" * 20, 0, 16, count=3)) == 3


def test_flag_letters() -> None:
    assert registers.flag_letters(2) == "oditszapc"
    assert registers.flag_letters(0x246) == "odItsZaPc"


def test_a_state_in_lines() -> None:
    text = registers.state_text(*reset_state())
    assert text.startswith("mode   real\nRIP    0xfff0\nRFLAGS 0x2 [oditszapc] none\nRAX 0000000000000000  RBX")
    assert "CS   f000  base 00000000ffff0000  limit 0000ffff  code, execute/read, ring 0, 16-bit, base is not" in text
    assert "CR0  0000000060000010  ET NW CD" in text
    assert len(text.splitlines()) == 22


def test_a_long_mode_state_in_rows() -> None:
    sregs = Sregs()
    modes.long_mode(sregs, cr3=0x8_0000)
    rows = {row.name: row for row in registers.segment_rows(sregs)}
    assert rows["CS"].words == "code, execute/read, ring 0, 64-bit"
    assert rows["LDTR"].words == "unusable"
    assert rows["TR"].words == "TSS, busy, ring 0"
    control = {row.name: row.words for row in registers.control_rows(sregs)}
    assert (control["CR0"], control["CR3"], control["EFER"]) == ("PE ET PG", "top page table", "LME LMA")
    assert dict(registers.general_rows(Regs(r9=7)))["R9"] == 7


def test_the_package_offers_what_it_lists() -> None:
    for name in minivmm.x86.__all__:
        assert getattr(minivmm.x86, name) is not None
    assert set(minivmm.x86.__all__) == set(minivmm.x86._HOME_OF)
    assert set(minivmm.x86.__all__) <= set(dir(minivmm.x86))
    with pytest.raises(AttributeError, match="nothing"):
        minivmm.x86.nothing  # noqa: B018
