import pytest

from minivmm.x86 import bits, modes
from minivmm.x86.gdt import FLAT_CODE32, FLAT_DATA, Descriptor, Gdt
from minivmm.x86.rules import broken_rules
from minivmm.x86.state import Regs, Sregs, reset_state


def long_state() -> Sregs:
    sregs = Sregs()
    modes.long_mode(sregs, cr3=0x8_0000, gdt_base=0x7_F000)
    return sregs


def test_after_reset_the_cpu_is_in_real_mode() -> None:
    regs, sregs = reset_state()
    assert modes.mode_of(sregs, regs) == "real"
    assert modes.code_bits(sregs, regs) == 16
    assert modes.paging_of(sregs) == "none"
    assert modes.linear_address(sregs, "cs", regs.rip) == 0xFFFF_FFF0


def test_real_mode_segments_are_sixteen_times_the_selector() -> None:
    sregs = long_state()
    modes.real_mode(sregs, segment=0x1234)
    for name in ("cs", "ds", "es", "fs", "gs", "ss"):
        segment = getattr(sregs, name)
        assert (segment.selector, segment.base, segment.limit) == (0x1234, 0x1_2340, 0xFFFF)
    assert not sregs.cr0 & (bits.CR0_PE | bits.CR0_PG)
    assert (sregs.cr4, sregs.efer) == (0, 0)
    assert sregs.idt.limit == 0x3FF
    assert broken_rules(sregs) == []


def test_protected_mode_is_flat_and_without_paging() -> None:
    sregs = long_state()
    modes.protected_mode(sregs, gdt_base=0x7_F000)
    assert (sregs.cs.selector, sregs.ds.selector, sregs.ss.selector) == (0x08, 0x10, 0x10)
    assert (sregs.cs.base, sregs.cs.limit, sregs.cs.db, sregs.cs.g) == (0, 0xFFFF_FFFF, 1, 1)
    assert sregs.gdt.base == 0x7_F000
    assert sregs.gdt.limit == 47
    assert modes.mode_of(sregs) == "protected 32-bit"
    assert modes.code_bits(sregs) == 32


def test_long_mode_sets_all_that_kvm_wants_to_see() -> None:
    sregs = long_state()
    assert sregs.cr0 & bits.CR0_PE
    assert sregs.cr0 & bits.CR0_PG
    assert sregs.cr4 & bits.CR4_PAE
    assert sregs.efer & (bits.EFER_LME | bits.EFER_LMA) == bits.EFER_LME | bits.EFER_LMA
    assert (sregs.cs.selector, sregs.cs.l, sregs.cs.db, sregs.cr3) == (0x18, 1, 0, 0x8_0000)
    assert modes.mode_of(sregs) == "long 64-bit"
    assert modes.code_bits(sregs) == 64
    assert modes.paging_of(sregs) == "4-level"


def test_what_the_guest_switched_on_stays_on() -> None:
    sregs = Sregs(cr4=bits.CR4_OSFXSR | bits.CR4_PAE, efer=bits.EFER_SCE, cr0=0x6000_0010 | bits.CR0_NE)
    modes.long_mode(sregs, cr3=0)
    assert sregs.cr4 == bits.CR4_OSFXSR | bits.CR4_PAE
    assert sregs.efer & bits.EFER_SCE
    assert sregs.cr0 == bits.CR0_PE | bits.CR0_ET | bits.CR0_NE | bits.CR0_PG
    modes.real_mode(sregs)
    assert sregs.cr4 == bits.CR4_OSFXSR
    assert sregs.efer == bits.EFER_SCE


def test_a_table_of_ones_own() -> None:
    gdt = Gdt()
    gdt.add("stack", FLAT_DATA)
    gdt.add("text", FLAT_CODE32)
    sregs = Sregs()
    modes.protected_mode(sregs, gdt=gdt, gdt_base=0x900, code="text", data="stack")
    assert (sregs.cs.selector, sregs.ss.selector, sregs.gdt.limit) == (0x10, 0x08, 23)
    with pytest.raises(KeyError):
        modes.protected_mode(sregs, gdt=gdt)


@pytest.mark.parametrize(
    ("cr0", "cr4", "efer", "cs", "rflags", "mode", "paging", "width"),
    [
        (0, 0, 0, {}, 2, "real", "none", 16),
        (1, 0, 0, {}, 2, "protected 16-bit", "none", 16),
        (1, 0, 0, {"db": 1}, 2, "protected 32-bit", "none", 32),
        (1 | 1 << 31, 0, 0, {"db": 1}, 2, "protected, 32-bit paging", "32-bit", 32),
        (1 | 1 << 31, 0x20, 0, {"db": 1}, 2, "protected, PAE paging", "PAE", 32),
        (1 | 1 << 31, 0x20, 0x500, {"l": 1}, 2, "long 64-bit", "4-level", 64),
        (1 | 1 << 31, 0x1020, 0x500, {"l": 1}, 2, "long 64-bit", "5-level", 64),
        (1 | 1 << 31, 0x20, 0x500, {"db": 1}, 2, "compatibility", "4-level", 32),
        (1 | 1 << 31, 0x20, 0x500, {}, 2, "compatibility", "4-level", 16),
        (1, 0, 0, {}, 0x2_0002, "virtual-8086", "none", 16),
    ],
)
def test_the_mode_of_any_state(
    cr0: int, cr4: int, efer: int, cs: dict[str, int], rflags: int, mode: str, paging: str, width: int
) -> None:
    sregs = Sregs(cr0=cr0, cr4=cr4, efer=efer)
    Descriptor(limit=0xFFFF, type=11, **cs).fill(sregs.cs, 8)  # type: ignore[arg-type]
    regs = Regs(rflags=rflags)
    assert modes.mode_of(sregs, regs) == mode
    assert modes.paging_of(sregs) == paging
    assert modes.code_bits(sregs, regs) == width


def test_long_mode_ignores_all_bases_but_fs_and_gs() -> None:
    sregs = long_state()
    for name in ("ds", "gs"):
        getattr(sregs, name).base = 0xFFFF_8000_0000_0000
    assert modes.linear_address(sregs, "ds", 0x10) == 0x10
    assert modes.linear_address(sregs, "gs", 0x10) == 0xFFFF_8000_0000_0010
    sregs.cs.l = 0
    sregs.ds.base = 0xFFFF_FFFF
    assert modes.linear_address(sregs, "ds", 2) == 1
