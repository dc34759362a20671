"""Every rule has a state that breaks it, and the sound states break none."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivmm.x86 import modes
from minivmm.x86.bits import (
    CR0_PE,
    CR0_PG,
    CR4_CET,
    CR4_LA57,
    CR4_PAE,
    CR4_PCIDE,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
)
from minivmm.x86.gdt import Descriptor, flat_gdt
from minivmm.x86.rules import broken_rules, errors
from minivmm.x86.state import Regs, Segment, Sregs, Table, reset_state


def real() -> Sregs:
    sregs = Sregs()
    modes.real_mode(sregs)
    return sregs


def protected() -> Sregs:
    sregs = Sregs()
    modes.protected_mode(sregs, gdt_base=0x7_F000)
    return sregs


def long() -> Sregs:
    sregs = Sregs()
    modes.long_mode(sregs, cr3=0x8_0000, gdt_base=0x7_F000)
    return sregs


def ring_3() -> Sregs:
    sregs, gdt = long(), flat_gdt()
    gdt["user code64"].fill(sregs.cs, gdt.selector("user code64"))
    gdt["user data"].fill(sregs.ss, gdt.selector("user data"))
    return sregs


def zeroed() -> Sregs:
    nothing = {name: Segment() for name in ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")}
    return Sregs(**nothing, gdt=Table(), idt=Table(), cr0=0)


Change = Callable[[Sregs], None]


def put(where: str, **fields: int) -> Change:
    """A change of some fields: of the registers themselves (where is ""), or of a segment or table."""

    def change(sregs: Sregs) -> None:
        target = getattr(sregs, where) if where else sregs
        for name, value in fields.items():
            setattr(target, name, value)

    return change


BREAKING: list[tuple[str, str, Callable[[], Sregs], Change]] = [
    ("error", "PG without PE", protected, put("", cr0=CR0_PG)),
    ("error", "NW without CD", real, put("", cr0=1 << 29)),
    ("error", "CR0 high half", real, put("", cr0=1 << 40)),
    ("advice", "CR0 reserved", real, put("", cr0=1 << 10)),
    ("error", "long mode without PAE", long, put("", cr4=0)),
    ("error", "long mode without PAE", long, put("", cr4=0, efer=EFER_LME)),
    ("error", "LMA is not LME and PG", long, put("", efer=EFER_LME)),
    ("error", "LMA is not LME and PG", long, put("", efer=EFER_LMA)),
    ("error", "LMA is not LME and PG", long, put("", cr0=CR0_PE)),
    ("error", "CS.L outside long mode", protected, put("cs", l=1, db=0)),
    ("error", "CS.L with CS.D", long, put("cs", db=1)),
    ("error", "CR4 reserved", long, put("", cr4=CR4_PAE | 1 << 15)),
    ("error", "EFER reserved", long, put("", efer=EFER_LME | EFER_LMA | 1 << 5)),
    ("error", "PCIDE outside long mode", protected, put("", cr4=CR4_PCIDE)),
    ("error", "CET without WP", long, put("", cr4=CR4_PAE | CR4_CET)),
    ("error", "CR3 too wide", long, put("", cr3=1 << 52)),
    ("error", "CR3 too wide", long, put("", cr3=1 << 63)),
    ("advice", "CR3 too wide", protected, put("", cr3=1 << 32, cr0=CR0_PE | CR0_PG)),
    ("advice", "CS not present", real, put("cs", present=0)),
    ("error", "CS not present", protected, put("cs", present=0)),
    ("error", "CS not present", long, put("cs", unusable=1)),
    ("advice", "CS is not code", real, put("cs", type=2)),
    ("error", "CS is not code", protected, put("cs", type=2)),
    ("error", "CS is not code", long, put("cs", s=0)),
    ("advice", "CS is not code", protected, put("cs", type=3)),
    ("error", "CS.DPL and SS.DPL differ", protected, put("ss", dpl=3)),
    ("error", "CS.DPL and SS.DPL differ", long, put("cs", dpl=3)),
    ("error", "CS.DPL and SS.DPL differ", protected, put("cs", dpl=1, type=15)),
    ("advice", "CS.RPL is not the ring", ring_3, put("cs", selector=0x28)),
    ("error", "ring in real mode", real, put("ss", dpl=3)),
    ("error", "DS is a system segment", protected, put("ds", s=0)),
    ("error", "SS is not writable data", protected, put("ss", type=1)),
    ("error", "SS is not writable data", long, put("ss", type=11)),
    ("error", "ES is not readable", protected, put("es", type=9)),
    ("advice", "CS base in real mode", real, put("cs", base=0x10)),
    ("advice", "DS limit in real mode", real, put("ds", limit=0xFFFF_FFFF, g=1)),
    ("advice", "SS limit in real mode", real, put("ss", limit=0)),
    ("error", "DS limit and G", protected, put("ds", g=0)),
    ("error", "CS limit and G", protected, put("cs", limit=0x1000)),
    ("error", "GS limit and G", long, put("gs", limit=0x10_0000, g=0)),
    ("error", "TR limit and G", long, put("tr", limit=0x67, g=1)),
    ("advice", "DS limit not scaled", protected, put("ds", limit=0xF_FFFF)),
    ("advice", "TR not present", long, put("tr", present=0)),
    ("advice", "TR not present", protected, put("tr", unusable=1)),
    ("error", "TR is not a busy TSS", long, put("tr", type=9)),
    ("advice", "TR is a 16-bit TSS", long, put("tr", type=3)),
    ("error", "TR is not a busy TSS", protected, put("tr", s=1)),
    ("error", "TR in the LDT", protected, put("tr", selector=0x0C)),
    ("error", "LDTR type", long, put("ldt", present=1, unusable=0, type=3)),
    ("error", "LDTR type", long, put("ldt", present=1, unusable=0, type=2, s=1)),
    ("error", "LDTR limit and G", long, put("ldt", present=1, unusable=0, type=2, s=0, limit=1, g=1)),
    ("error", "FS base not canonical", long, put("fs", base=1 << 47)),
    ("error", "GS base not canonical", long, put("gs", base=1 << 63)),
    ("error", "GDTR base not canonical", long, put("gdt", base=1 << 48)),
    ("error", "IDTR base not canonical", long, put("idt", base=1 << 48)),
    ("error", "TR base not canonical", long, put("tr", base=1 << 48)),
    ("error", "LDTR base not canonical", long, put("ldt", present=1, unusable=0, type=2, s=0, base=1 << 48)),
    ("error", "CS base too wide", long, put("cs", base=1 << 32)),
    ("error", "SS base too wide", long, put("ss", base=1 << 32)),
]


@pytest.mark.parametrize(("severity", "name", "state", "change"), BREAKING)
def test_a_broken_rule_is_named(severity: str, name: str, state: Callable[[], Sregs], change: Change) -> None:
    sregs = state()
    assert name not in [rule.name for rule in broken_rules(sregs)]
    change(sregs)
    found = [rule for rule in broken_rules(sregs) if rule.name == name]
    assert [rule.severity for rule in found] == [severity]
    assert found[0].sentence.endswith(".")
    assert found[0].source.startswith(("SDM vol. 3, ", "KVM API, "))


@pytest.mark.parametrize("state", [Sregs, real, protected, long, ring_3])
def test_sound_states_break_nothing(state: Callable[[], Sregs]) -> None:
    assert broken_rules(state(), Regs(rip=0x1000, rflags=2)) == []


def test_the_state_after_reset_is_sound() -> None:
    regs, sregs = reset_state()
    assert broken_rules(sregs, regs) == []


def test_an_empty_structure_gets_advice_but_is_not_refused() -> None:
    assert errors(zeroed(), Regs()) == []
    assert "CS not present" in [rule.name for rule in broken_rules(zeroed())]


SOUND: list[tuple[Callable[[], Sregs], Change]] = [
    (long, put("ss", present=0, unusable=1, type=0, s=0, base=1 << 40)),
    (long, put("tr", present=0, unusable=1, type=0, base=1 << 60)),
    (long, put("", cr3=0x8_0000 | 3 << 61)),
    (long, put("", cr4=CR4_PAE | CR4_PCIDE, cr3=0x8_0FFF)),
    (long, put("gs", base=0xFFFF_8000_0000_0000)),
    (long, put("ds", present=0, unusable=1, type=0, s=0)),
    (protected, put("cs", type=14)),
    (protected, put("ds", type=10)),
    (protected, put("", efer=EFER_LME | EFER_NXE)),
    (protected, put("tr", type=3, limit=0x2B)),
    (protected, put("", cr0=CR0_PE | CR0_PG, cr3=0x1000)),
    (protected, put("", cr0=CR0_PE | CR0_PG, cr3=0x1020, cr4=CR4_PAE)),
    (real, put("", cr0=0x6000_0010)),
    (real, put("", cr4=CR4_PAE)),
]


@pytest.mark.parametrize(("state", "change"), SOUND)
def test_what_is_legal_is_no_error(state: Callable[[], Sregs], change: Change) -> None:
    sregs = state()
    change(sregs)
    assert errors(sregs) == []


def test_conforming_code_runs_in_the_rings_outside_its_own() -> None:
    sregs = ring_3()
    sregs.cs.type, sregs.cs.dpl = 14, 0
    assert broken_rules(sregs) == []


def test_unreal_mode_and_the_moment_after_setting_pe_are_legal() -> None:
    sregs = real()
    Descriptor(limit=0xFFFF_FFFF, type=3, g=1).fill(sregs.ds, 0x10)
    assert errors(sregs) == []
    assert {rule.severity for rule in broken_rules(sregs)} == {"advice"}
    sregs = real()
    modes.real_mode(sregs, segment=0x1003)
    sregs.cr0 |= CR0_PE
    assert errors(sregs) == []


def test_with_5_level_paging_57_bits_are_canonical() -> None:
    sregs = long()
    sregs.gs.base = 1 << 50
    sregs.cr4 |= CR4_LA57
    assert errors(sregs) == []
    assert errors(sregs, Regs(rip=1 << 55)) == []
    assert [rule.name for rule in errors(sregs, Regs(rip=1 << 56))] == ["RIP not canonical"]


def test_cr3_is_held_against_the_guests_width() -> None:
    sregs = long()
    sregs.cr3 = 1 << 40
    assert errors(sregs) == []
    assert [rule.name for rule in errors(sregs, physical_bits=36)] == ["CR3 too wide"]


@pytest.mark.parametrize(
    ("state", "regs", "severity", "name"),
    [
        (real, Regs(rip=0, rflags=0), "advice", "RFLAGS bit 1"),
        (real, Regs(rip=0, rflags=1 << 15 | 2), "error", "RFLAGS reserved"),
        (real, Regs(rip=0, rflags=1 << 40 | 2), "error", "RFLAGS reserved"),
        (long, Regs(rflags=1 << 17 | 2), "error", "VM flag outside protected mode"),
        (real, Regs(rip=0, rflags=1 << 17 | 2), "error", "VM flag outside protected mode"),
        (long, Regs(rip=1 << 47), "error", "RIP not canonical"),
        (protected, Regs(rip=1 << 32), "error", "RIP too wide"),
        (real, Regs(rip=0x1_0000), "advice", "RIP beyond CS"),
    ],
)
def test_rip_and_rflags(state: Callable[[], Sregs], regs: Regs, severity: str, name: str) -> None:
    assert [(rule.severity, rule.name) for rule in broken_rules(state(), regs)] == [(severity, name)]


def test_virtual_8086_mode_has_segments_of_its_own() -> None:
    sregs, regs = protected(), Regs(rip=0, rflags=1 << 17 | 2)
    for name in ("cs", "ds", "es", "fs", "gs", "ss"):
        Descriptor(base=0x1_0000, limit=0xFFFF, type=3, dpl=3).fill(getattr(sregs, name), 0x1000)
    assert broken_rules(sregs, regs) == []
    sregs.es.limit = 0xFFFE
    assert [rule.name for rule in errors(sregs, regs)] == ["ES in virtual-8086 mode"]


def test_errors_come_before_advice() -> None:
    sregs = protected()
    sregs.ds.limit = 0xF_FFFF
    sregs.tr.type = 9
    assert [rule.severity for rule in broken_rules(sregs)] == ["error", "advice"]
    assert str(errors(sregs)[0]).startswith("TR is not a busy TSS: TR has type 9")


def test_the_sentence_about_long_mode_tells_what_is_missing() -> None:
    sregs = long()
    sregs.efer, sregs.cr0 = EFER_LMA, CR0_PE
    assert "EFER.LME and CR0.PG is clear" in next(rule.sentence for rule in errors(sregs))


def test_a_missing_lma_is_named_alone() -> None:
    sregs = long()
    sregs.efer = EFER_LME
    assert [rule.name for rule in broken_rules(sregs)] == ["LMA is not LME and PG"]


word = st.integers(0, (1 << 64) - 1)
byte = st.integers(0, 255)


@given(
    values=st.fixed_dictionaries(dict.fromkeys(("cr0", "cr2", "cr3", "cr4", "efer"), word)),
    fields=st.fixed_dictionaries(
        {"base": word, "limit": st.integers(0, (1 << 32) - 1), "selector": st.integers(0, 0xFFFF)}
        | dict.fromkeys(("type", "present", "dpl", "db", "s", "l", "g", "avl", "unusable"), byte)
    ),
    regs=st.builds(SimpleNamespace, rip=word, rflags=word),
)
def test_no_state_is_too_strange_to_be_judged(
    values: dict[str, int], fields: dict[str, int], regs: SimpleNamespace
) -> None:
    segments = {name: SimpleNamespace(**fields) for name in ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")}
    table = SimpleNamespace(base=values["cr2"], limit=0)
    sregs = SimpleNamespace(**values, **segments, gdt=table, idt=table)
    for rule in broken_rules(sregs, regs):  # type: ignore[arg-type]
        assert rule.sentence.endswith(".")
