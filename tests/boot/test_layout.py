"""Where RAM goes, and that nothing of what the loaders keep in the first MiB lies on top of another."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from minivmm.boot import layout
from minivmm.boot.e820 import RAM, RESERVED, Region, memory_map, ram_of

GIB = 1 << 30
KIB = 1 << 10


def test_ram_leaves_the_hole_under_4_gib_free() -> None:
    assert layout.ram_ranges(GIB) == [range(GIB)]
    assert layout.ram_ranges(3 * GIB) == [range(3 * GIB)]
    assert layout.ram_ranges(3 * GIB + 4096) == [range(3 * GIB), range(4 * GIB, 4 * GIB + 4096)]
    assert layout.ram_ranges(10 * GIB) == [range(3 * GIB), range(4 * GIB, 11 * GIB)]


@given(st.integers(1, 1 << 40))
def test_ram_is_as_large_as_asked_for(size: int) -> None:
    assert sum(ram.stop - ram.start for ram in layout.ram_ranges(size)) == size


def test_the_tables_of_the_first_mib_do_not_overlap() -> None:
    tables = range(layout.PML4, layout.DIRECTORIES + 4 * 4096)
    stack_and_gdt = range(layout.STACK - 4096, layout.GDT + 64)
    bios = range(layout.BIOS_AREA, layout.HIGH_MEMORY)
    ebda = range(layout.EBDA, layout.BASE_MEMORY_END)
    parts = sorted(
        [layout.BOOT_INFO, layout.COMMAND_LINE, stack_and_gdt, tables, ebda, bios], key=lambda part: part.start
    )
    assert all(before.stop <= after.start for before, after in itertools.pairwise(parts))


def test_the_devices_lie_in_the_hole() -> None:
    last_virtio = layout.VIRTIO + 31 * layout.VIRTIO_STRIDE
    assert all(each in layout.HOLE for each in (layout.VIRTIO, last_virtio, layout.IOAPIC, layout.LOCAL_APIC))


def test_the_map_of_a_small_machine() -> None:
    assert memory_map([range(16 << 20)]) == [
        Region(0, 639 * KIB, RAM),
        Region(639 * KIB, 640 * KIB, RESERVED),
        Region(0xE0000, 0x100000, RESERVED),
        Region(0x100000, 16 << 20, RAM),
    ]


def test_an_entry_is_base_length_type() -> None:
    assert Region(0x100000, 0x1_0010_0001, RAM).pack().hex() == "0000100000000000010000000100000001000000"


@given(st.integers(256, 1 << 24))
def test_no_byte_is_listed_twice_and_all_ram_from_1_mib_on_is(pages: int) -> None:
    size = pages * 4096
    ram = layout.ram_ranges(size)
    regions = memory_map(ram)
    assert all(before.end <= after.start for before, after in itertools.pairwise(regions))
    usable = sum(region.size for region in regions if region.kind == RAM)
    assert usable == size - (0x100000 - layout.EBDA)
    assert not any(region.start < layout.HOLE.stop and region.end > layout.HOLE.start for region in regions)


def test_only_ram_is_ram(make_place) -> None:
    place = make_place(2 << 20)
    place.memory.add(2 << 20, 4096)  # a neighbour of the first slot, which makes one piece with it
    place.memory.add(0xC000_0000, 4096, name="window")
    place.memory.add(0xFFFF_0000, 4096, name="ram", read_only=True)
    assert ram_of(place.memory) == [range((2 << 20) + 4096)]
