"""The builder and the walker against each other, against a plain model, and against the manual's bit layouts."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_memory import PlainMemory

from minivmm.x86 import modes
from minivmm.x86.canonical import sign_extend
from minivmm.x86.paging import (
    BITS_32,
    FIVE_LEVEL,
    FOUR_LEVEL,
    PAE,
    PAGE_1G,
    PAGE_2M,
    PAGE_4K,
    PAGE_4M,
    AlreadyMappedError,
    Controls,
    MappingError,
    MisalignedError,
    OutOfRangeError,
    OutOfTablesError,
    PageTableBuilder,
    PagingMode,
    error_code_in_words,
    translate,
    walk,
)
from minivmm.x86.state import Sregs

ALL_MODES = (BITS_32, PAE, FOUR_LEVEL, FIVE_LEVEL)
TABLES = range(0x1_0000, 0x8_0000)


def build(mode: PagingMode = FOUR_LEVEL, tables: range = TABLES) -> tuple[PlainMemory, PageTableBuilder]:
    memory = PlainMemory()
    return memory, PageTableBuilder(memory, tables, mode)


@dataclass
class Mapping:
    va: int
    pa: int
    size: int
    page: int
    writable: bool
    user: bool
    execute: bool


@st.composite
def mappings(draw: st.DrawFn, mode: PagingMode) -> Mapping:
    page = draw(st.sampled_from(mode.page_sizes))
    count = draw(st.integers(1, 5))
    va = draw(st.integers(0, (1 << mode.virtual_bits) - 1)) // page * page
    if mode.has_canonical_hole:
        va = sign_extend(va, mode.virtual_bits)
    pa_bits = 32 if mode is BITS_32 and page == PAGE_4K else min(mode.physical_bits, 46)
    pa = draw(st.integers(0, (1 << pa_bits) - 1)) // page * page
    execute = mode is BITS_32 or draw(st.booleans())
    return Mapping(va, pa, page * count, page, draw(st.booleans()), draw(st.booleans()), execute)


@settings(max_examples=60, deadline=None)
@given(st.data())
@pytest.mark.parametrize("mode", ALL_MODES, ids=lambda mode: mode.name)
def test_the_walk_finds_what_the_builder_mapped(mode: PagingMode, data: st.DataObject) -> None:
    memory, builder = build(mode)
    made: list[Mapping] = []
    for one in data.draw(st.lists(mappings(mode), min_size=1, max_size=5)):
        overlaps = any(one.va < other.va + other.size and other.va < one.va + one.size for other in made)
        before = bytes(memory.data)
        rights = {"writable": one.writable, "user": one.user, "execute": one.execute}
        refusal: MappingError | None = None
        try:
            builder.map(one.va, one.pa, one.size, page=one.page, **rights)
        except MappingError as error:
            refusal = error
        if refusal is None:
            assert not overlaps
            made.append(one)
        else:
            assert overlaps or isinstance(refusal, OutOfRangeError)
            assert bytes(memory.data) == before
    for one in made:
        for offset in (0, one.size - 1, data.draw(st.integers(0, one.size - 1))):
            found = walk(memory, builder.root, one.va + offset, mode)
            assert found.physical == one.pa + offset
            assert found.page_size == one.page
            assert found.fault is None
            user_read = walk(memory, builder.root, one.va + offset, mode, user=True)
            assert (user_read.fault is None) == one.user
            write = walk(memory, builder.root, one.va + offset, mode, write=True)
            assert (write.fault is None) == one.writable
            fetch = walk(memory, builder.root, one.va + offset, mode, fetch=True)
            assert (fetch.fault is None) == one.execute
        for outside in (one.va - 1, one.va + one.size):
            if 0 <= outside < 1 << (64 if mode.has_canonical_hole else 32):
                covered = any(other.va <= outside < other.va + other.size for other in made)
                assert (walk(memory, builder.root, outside, mode).physical is not None) == covered


def test_the_machines_identity_map_lies_where_it_is_promised() -> None:
    memory, builder = build(tables=range(0x8_0000, 0x8_6000))
    builder.map(0, 0, 4 << 30, page=PAGE_2M)
    assert builder.root == 0x8_0000
    assert builder.used == range(0x8_0000, 0x8_6000)
    assert memory.entry(0x8_0000) == 0x8_1003
    assert [memory.entry(0x8_1000 + 8 * n) for n in range(5)] == [0x8_2003, 0x8_3003, 0x8_4003, 0x8_5003, 0]
    assert memory.entry(0x8_5FF8) == 0xFFE0_0083


@pytest.mark.parametrize(
    ("mode", "page", "va", "pa", "entries"),
    [
        # (address of the entry, its value): P W U A D PS as the manual numbers them.
        (BITS_32, PAGE_4K, 0x0040_3000, 0x5000, [(0x1_0004, 0x1_1003), (0x1_100C, 0x5003)]),
        (BITS_32, PAGE_4M, 0x0080_0000, 0x12_3440_0000, [(0x1_0008, 0x3442_4083)]),
        (PAE, PAGE_4K, 0xC020_1000, 0x5000, [(0x1_0018, 0x1_1001), (0x1_1008, 0x1_2003), (0x1_2008, 0x5003)]),
        (FOUR_LEVEL, PAGE_1G, 0x80_4000_0000, 0xC000_0000, [(0x1_0008, 0x1_1003), (0x1_1008, 0xC000_0083)]),
        (FIVE_LEVEL, PAGE_1G, 1 << 48, 0, [(0x1_0008, 0x1_1003), (0x1_1000, 0x1_2003), (0x1_2000, 0x83)]),
    ],
)
def test_entries_as_the_manual_draws_them(
    mode: PagingMode, page: int, va: int, pa: int, entries: list[tuple[int, int]]
) -> None:
    memory, builder = build(mode)
    builder.map(va, pa, page, page=page)
    for address, value in entries:
        assert int.from_bytes(memory.read(address, mode.entry_size), "little") == value
    assert walk(memory, builder.root, va + 5, mode).physical == pa + 5


def test_user_pages_need_the_user_bit_at_every_level() -> None:
    memory, builder = build()
    builder.map(0, 0, PAGE_4K)
    assert not memory.entry(builder.root) & 4
    builder.map(0x1000, 0x1000, PAGE_4K, user=True, everywhere=True)
    assert memory.entry(builder.root) & 4
    assert walk(memory, builder.root, 0x1000, user=True).physical == 0x1000
    assert walk(memory, builder.root, 0, user=True).fault is not None
    assert "global" in walk(memory, builder.root, 0x1000).steps[-1].words


def test_what_cannot_be_mapped_changes_nothing() -> None:
    memory, builder = build(tables=range(0x1_0000, 0x1_5000))
    builder.map(0x20_0000, 0, PAGE_2M, page=PAGE_2M)
    builder.map(0x40_0000, 0, PAGE_4K)
    before, used = bytes(memory.data), builder.used
    cases: list[tuple[type[MappingError], str, tuple[int, int, int], dict[str, object]]] = [
        (MisalignedError, "virtual address 0x1", (1, 0, PAGE_4K), {}),
        (MisalignedError, "physical address 0x1000", (0, 0x1000, PAGE_2M), {"page": PAGE_2M}),
        (MisalignedError, "size 0x1800", (0, 0, 0x1800), {}),
        (AlreadyMappedError, "0x200000 is mapped already, by PD entry 1", (0x1F_F000, 0, 0x2000), {}),
        (AlreadyMappedError, "0x400000 is mapped already, by PT entry 0", (0x40_0000, 0, PAGE_4K), {}),
        (AlreadyMappedError, "PD entry 2", (0x40_0000, 0, PAGE_2M), {"page": PAGE_2M}),
        (AlreadyMappedError, "PDPT entry 0", (0, 0, PAGE_1G), {"page": PAGE_1G}),
        (OutOfTablesError, "needs 3 more table pages, but 1 are left", (1 << 40, 0, PAGE_4K), {}),
        (OutOfRangeError, "not wholly canonical", (0x7FFF_FFFF_F000, 0, 0x2000), {}),
        (OutOfRangeError, "not wholly canonical", (1 << 50, 0, PAGE_4K), {}),
        (OutOfRangeError, "not wholly canonical", (0, 0, 0xFFFF_8000_0000_1000), {}),
        (OutOfRangeError, "52 bits", (0, 1 << 52, PAGE_4K), {}),
        (MappingError, "no pages of 0x400000 bytes", (0, 0, PAGE_4M), {"page": PAGE_4M}),
        (MappingError, "maps nothing", (0, 0, 0), {}),
    ]
    for kind, message, arguments, rights in cases:
        with pytest.raises(kind, match=message):
            builder.map(*arguments, **rights)  # type: ignore[arg-type]
        assert bytes(memory.data) == before
        assert builder.used == used


def test_limits_of_the_32_bit_modes() -> None:
    _, builder = build(BITS_32)
    with pytest.raises(MappingError, match="no no-execute bit"):
        builder.map(0, 0, PAGE_4K, execute=False)
    with pytest.raises(OutOfRangeError, match="32 bits an entry holds"):
        builder.map(0, 1 << 32, PAGE_4K)
    with pytest.raises(OutOfRangeError, match="40 bits an entry holds"):
        builder.map(0, 1 << 40, PAGE_4M, page=PAGE_4M)
    with pytest.raises(OutOfRangeError, match="does not fit the 32-bit addresses"):
        builder.map(0xFFFF_F000, 0, 0x2000)
    for mode in (BITS_32, PAE):
        with pytest.raises(OutOfRangeError, match="below 4 GiB"):
            PageTableBuilder(PlainMemory(), range(1 << 32, (1 << 32) + 0x1000), mode)
    with pytest.raises(MisalignedError):
        PageTableBuilder(PlainMemory(), range(0x1008, 0x3000))
    with pytest.raises(OutOfTablesError):
        PageTableBuilder(PlainMemory(), range(0x1000, 0x1800))
    with pytest.raises(ValueError, match="the modes are 32-bit, PAE"):
        PageTableBuilder(PlainMemory(), TABLES, "6-level")


def test_leftovers_in_an_entry_that_is_not_present_do_not_survive() -> None:
    memory, builder = build()
    memory.change(builder.root, set_bits=0x8000_0000_DEAD_0FF0)
    builder.map(0, 0, PAGE_4K)
    assert memory.entry(builder.root) == 0x1_1003


def fault_of(memory: PlainMemory, root: int, va: int, **access: object) -> tuple[str, int, str | None, str]:
    fault = walk(memory, root, va, **access).fault  # type: ignore[arg-type]
    assert fault is not None
    return fault.exception, fault.error_code, fault.level, fault.reason


def test_each_level_can_be_the_one_that_is_not_present() -> None:
    memory, builder = build()
    builder.map(0, 0, PAGE_4K)
    for address, level in ((0x1_3000, "PT"), (0x1_2000, "PD"), (0x1_1000, "PDPT"), (0x1_0000, "PML4")):
        memory.change(address, clear_bits=1)
        exception, code, where, reason = fault_of(memory, builder.root, 0, write=True, user=True)
        assert (exception, code, where) == ("#PF", 6, level)
        assert reason == f"{level} entry 0 has P=0: nothing is mapped here"


@pytest.mark.parametrize(
    ("access", "controls", "code", "level", "reason"),
    [
        ({"user": True}, {}, 0b101, "PDPT", "the PDPT entry has U/S=0: the page belongs to the kernel"),
        ({"write": True}, {}, 0b011, "PD", "the PD entry has R/W=0: the page is read-only, and CR0.WP=1 makes"),
        ({"fetch": True}, {}, 0b10001, "PT", "the PT entry has XD=1: nothing here may be executed"),
    ],
)
def test_the_entry_that_refuses_is_named(
    access: dict[str, bool], controls: dict[str, bool], code: int, level: str, reason: str
) -> None:
    memory, builder = build()
    builder.map(0, 0, PAGE_4K, user=True)
    memory.change(0x1_1000, clear_bits=4)
    memory.change(0x1_2000, clear_bits=2)
    memory.change(0x1_3000, set_bits=1 << 63)
    found = fault_of(memory, builder.root, 0, controls=Controls(**controls), **access)
    assert found[:3] == ("#PF", code, level)
    assert found[3].startswith(reason)


def test_the_controls_decide() -> None:
    memory, builder = build()
    builder.map(0, 0, PAGE_4K, user=True, writable=False)
    builder.map(0x1000, 0x1000, PAGE_4K, execute=False)

    def works(va: int, controls: Controls, **access: bool) -> bool:
        return walk(memory, builder.root, va, controls=controls, **access).fault is None  # type: ignore[arg-type]

    assert not works(0, Controls(wp=True), write=True)
    assert works(0, Controls(wp=False), write=True)
    assert not works(0, Controls(wp=False), write=True, user=True)
    assert not works(0, Controls(smap=True))
    assert works(0, Controls(smap=True, ac=True))
    assert works(0, Controls(smap=True), user=True)
    assert works(0, Controls(smap=True), fetch=True)
    assert not works(0, Controls(smep=True), fetch=True)
    assert works(0, Controls(smep=True), fetch=True, user=True)
    assert not works(0x1000, Controls(), fetch=True)
    # Without NXE, bit 63 is not "no execute" but reserved, and any access faults.
    found = walk(memory, builder.root, 0x1000, controls=Controls(nxe=False)).fault
    assert found is not None
    assert found.error_code == 0b1001
    assert "bit 63 means no-execute only once EFER.NXE is 1" in found.reason


@pytest.mark.parametrize(
    ("address", "bit", "controls", "level", "broken"),
    [
        (0x1_0000, 7, {}, "PML4", True),
        (0x1_0000, 45, {"physical_bits": 45}, "PML4", True),
        (0x1_0000, 44, {"physical_bits": 45}, None, False),
        (0x1_0000, 52, {}, None, False),
        (0x1_1008, 13, {}, "PDPT", True),
        (0x1_1008, 29, {}, "PDPT", True),
        (0x1_1008, 12, {}, None, False),
        (0x1_2008, 20, {}, "PD", True),
        (0x1_2008, 21, {}, None, False),
        (0x1_3000, 51, {"physical_bits": 48}, "PT", True),
        (0x1_3000, 7, {}, None, False),
    ],
)
def test_reserved_bits(address: int, bit: int, controls: dict[str, int], level: str | None, broken: bool) -> None:
    memory, builder = build()
    builder.map(0, 0, PAGE_4K)
    builder.map(0x4000_0000, 0x4000_0000, PAGE_1G, page=PAGE_1G)
    builder.map(0x20_0000, 0, PAGE_2M, page=PAGE_2M)
    memory.change(address, set_bits=1 << bit)
    va = {0x1_1008: 0x4000_0000, 0x1_2008: 0x20_0000}.get(address, 0)
    fault = walk(memory, builder.root, va, controls=Controls(**controls)).fault  # type: ignore[arg-type]
    if broken:
        assert fault is not None
        assert (fault.error_code, fault.level) == (0b1001, level)
        assert f"reserved bit {bit} set" in fault.reason
    else:
        assert fault is None or fault.exception == "no memory"


def test_without_1_gib_pages_their_bit_is_reserved() -> None:
    memory, builder = build()
    builder.map(0, 0, PAGE_1G, page=PAGE_1G)
    assert walk(memory, builder.root, 5).physical == 5
    fault = walk(memory, builder.root, 5, controls=Controls(gib_pages=False)).fault
    assert fault is not None
    assert fault.reason == "PDPT entry 0 has reserved bit 7 set"


def test_pae_checks_its_four_top_entries_when_cr3_is_loaded() -> None:
    memory, builder = build(PAE)
    builder.map(0, 0, PAGE_4K)
    memory.change(builder.root, set_bits=2)
    fault = walk(memory, builder.root, 0, PAE).fault
    assert fault is not None
    assert (fault.exception, fault.level) == ("#GP", "PDPT")
    assert "when CR3 is loaded" in fault.reason


def test_pae_has_no_spare_bits_under_the_no_execute_bit() -> None:
    memory, builder = build(PAE)
    builder.map(0, 0, PAGE_4K)
    memory.change(0x1_2000, set_bits=1 << 62)
    fault = walk(memory, builder.root, 0, PAE).fault
    assert fault is not None
    assert fault.reason == "PT entry 0 has reserved bit 62 set"


def test_a_narrow_processor_reserves_more_of_a_4_mib_page() -> None:
    memory, builder = build(BITS_32)
    builder.map(0, 1 << 36, PAGE_4M, page=PAGE_4M)
    assert walk(memory, builder.root, 1, BITS_32, controls=Controls(physical_bits=37)).physical == 1 << 36 | 1
    fault = walk(memory, builder.root, 1, BITS_32, controls=Controls(physical_bits=36)).fault
    assert fault is not None
    assert fault.reason == "PD entry 0 has reserved bit 17 set"


@pytest.mark.parametrize(
    ("controls", "mode", "code"),
    [
        (Controls(nxe=False), FOUR_LEVEL, 0),
        (Controls(nxe=True), FOUR_LEVEL, 0x10),
        (Controls(nxe=False, smep=True), FOUR_LEVEL, 0x10),
        (Controls(nxe=True), BITS_32, 0),
    ],
)
def test_a_fetch_is_told_only_where_something_could_forbid_it(controls: Controls, mode: PagingMode, code: int) -> None:
    memory, builder = build(mode)
    fault = walk(memory, builder.root, 0, mode, fetch=True, controls=controls).fault
    assert fault is not None
    assert fault.error_code == code


def test_pae_finds_its_table_at_any_multiple_of_32() -> None:
    memory, builder = build(PAE)
    builder.map(0x4000_0000, 0x9000, PAGE_4K)
    memory.write(0x5020, memory.read(builder.root, 32))
    assert walk(memory, 0x5020, 0x4000_0123, PAE).physical == 0x9123


def test_4_mib_pages_need_pse() -> None:
    memory, builder = build(BITS_32)
    builder.map(0, 0x1_0000 & ~(PAGE_4M - 1), PAGE_4M, page=PAGE_4M)
    assert walk(memory, builder.root, 0x1234, "32-bit").page_size == PAGE_4M
    # Without PSE the bit means nothing, and the entry points to a page table (here: at 0).
    steps = walk(memory, builder.root, 0x1234, "32-bit", controls=Controls(pse=False)).steps
    assert [step.level for step in steps] == ["PD", "PT"]
    memory.change(builder.root, set_bits=1 << 21)
    fault = walk(memory, builder.root, 0x1234, "32-bit").fault
    assert fault is not None
    assert "reserved bit 21" in fault.reason
    assert fault.error_code == 0b1001


def test_addresses_that_no_walk_can_begin_with() -> None:
    memory, builder = build()
    assert fault_of(memory, builder.root, 1 << 47) == (
        "#GP",
        0,
        None,
        "0x800000000000 is not canonical: bits 63 to 48 must all copy bit 47",
    )
    with pytest.raises(ValueError, match="not a 64-bit address"):
        walk(memory, builder.root, 1 << 64)
    with pytest.raises(ValueError, match="not a 32-bit address"):
        walk(memory, builder.root, 1 << 32, PAE)


def test_tables_outside_memory_are_told_from_page_faults() -> None:
    memory, _ = build()
    exception, _, level, reason = fault_of(memory, 0x7000_0000, 0)
    assert (exception, level) == ("no memory", "PML4")
    assert reason == "the PML4 entry 0 lies at 0x70000000, where the VM has no memory"
    assert str(walk(memory, 0x7000_0000, 0).fault).startswith("no memory: the PML4")


def test_the_walk_in_lines() -> None:
    memory, builder = build()
    builder.map(0x20_0000, 0x40_0000, PAGE_2M, page=PAGE_2M, user=True, execute=False)
    assert walk(memory, builder.root, 0x20_1234).text() == (
        "virtual 0x201234, read by the kernel, paging: 4-level\n"
        "  PML4 0x10000[0] = 0x0000000000011007  present, writable, user -> 0x11000\n"
        "  PDPT 0x11000[0] = 0x0000000000012007  present, writable, user -> 0x12000\n"
        "  PD   0x12000[1] = 0x8000000000400087  present, writable, user, large page, no-execute -> 0x400000\n"
        "  physical 0x401234 in a page of 2 MiB"
    )
    assert str(walk(memory, builder.root, 0, write=True, user=True)).endswith(
        "  PD   0x12000[0] = 0x0000000000000000  not present\n"
        "  fault: #PF, error code 0x6 (page not present, write, by user code): "
        "PD entry 0 has P=0: nothing is mapped here"
    )


def test_error_codes_in_words() -> None:
    assert error_code_in_words(0) == "page not present, read, by the kernel"
    assert error_code_in_words(0x15) == "the page is present but refuses, instruction fetch, by user code"
    assert error_code_in_words(0x9) == "the page is present but refuses, read, by the kernel, a reserved bit is set"


def test_translate_follows_the_cpu_state() -> None:
    memory, builder = build()
    builder.map(0, 0x3000, PAGE_4K, writable=False, execute=False)
    sregs = Sregs()
    assert translate(memory, sregs, 0x1_2345).physical == 0x1_2345
    assert "paging: none" in translate(memory, sregs, 0x1_2345).text()
    modes.long_mode(sregs, cr3=builder.root)
    assert translate(memory, sregs, 0).fault is not None  # EFER.NXE is clear
    sregs.efer |= 1 << 11
    assert translate(memory, sregs, 5, write=True).physical == 0x3005  # CR0.WP is clear
    sregs.cr0 |= 1 << 16
    assert translate(memory, sregs, 5, write=True).fault is not None
    assert translate(memory, sregs, 5, fetch=True).fault is not None


def test_translate_takes_any_object_with_the_fields_and_cuts_addresses_to_32_bits() -> None:
    memory, builder = build(PAE)
    builder.map(0, 0x5000, PAGE_4K)
    plain = SimpleNamespace(cr0=0x8000_0001, cr3=builder.root, cr4=0x20, efer=0)
    found = translate(memory, plain, 1 << 32 | 0x10)  # type: ignore[arg-type]
    assert (found.physical, found.mode) == (0x5010, "PAE")
