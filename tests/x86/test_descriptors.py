from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_memory import PlainMemory

from minivmm.x86.descriptors import GATE_TYPES, LDT, TSS, Descriptor, DescriptorError
from minivmm.x86.gates import Gate
from minivmm.x86.gdt import FLAT_CODE32, FLAT_CODE64, FLAT_DATA, Gdt, flat_gdt, read_descriptor
from minivmm.x86.state import Segment

BIT = st.integers(0, 1)
SYSTEM = st.sampled_from([n for n in range(16) if n not in GATE_TYPES])


@st.composite
def descriptors(draw: st.DrawFn) -> Descriptor:
    s, g = draw(BIT), draw(BIT)
    wide = not s and draw(st.booleans())
    raw = draw(st.integers(0, 0xF_FFFF))
    return Descriptor(
        base=draw(st.integers(0, (1 << (64 if wide else 32)) - 1)),
        limit=raw << 12 | 0xFFF if g else raw,
        type=draw(st.integers(0, 15) if s else SYSTEM),
        s=s,
        dpl=draw(st.integers(0, 3)),
        present=draw(BIT),
        avl=draw(BIT),
        l=draw(BIT),
        db=draw(BIT),
        g=g,
        wide=wide,
    )


@given(descriptors())
def test_decoding_undoes_encoding(descriptor: Descriptor) -> None:
    data = descriptor.encode()
    assert len(data) == (16 if descriptor.wide else 8)
    assert Descriptor.decode(data) == descriptor


@given(descriptors(), st.integers(0, 0xFFFF))
def test_a_segment_register_holds_the_whole_descriptor(descriptor: Descriptor, selector: int) -> None:
    for segment in (Segment(), SimpleNamespace()):
        descriptor.fill(segment, selector)  # type: ignore[arg-type]
        assert segment.selector == selector
        assert segment.unusable == 1 - descriptor.present
        assert Descriptor.of(segment) == replace(descriptor, wide=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("descriptor", "value"),
    [
        # As Linux 0.01 and every boot loader write them (with the accessed bit).
        (FLAT_CODE32, 0x00CF_9B00_0000_FFFF),
        (FLAT_DATA, 0x00CF_9300_0000_FFFF),
        (FLAT_CODE64, 0x00AF_9B00_0000_FFFF),
        (Descriptor(base=0x1234_5678, limit=0xFFFF, type=3), 0x1200_9334_5678_FFFF),
    ],
)
def test_known_encodings(descriptor: Descriptor, value: int) -> None:
    assert descriptor.encode() == value.to_bytes(8, "little")


@pytest.mark.parametrize(
    ("descriptor", "words"),
    [
        (FLAT_CODE64, "code, execute/read, ring 0, 64-bit"),
        (FLAT_CODE32, "code, execute/read, ring 0, 32-bit"),
        (Descriptor(type=8), "code, execute only, ring 0, 16-bit"),
        (Descriptor(type=14, dpl=3, db=1), "code, execute/read, conforming, ring 3, 32-bit"),
        (FLAT_DATA, "data, read/write, ring 0, 32-bit"),
        (Descriptor(type=5, present=0), "data, read only, expand-down, ring 0, 16-bit, not present"),
        (Descriptor(type=11, s=0), "TSS, busy, ring 0"),
        (Descriptor(type=2, s=0), "LDT, ring 0"),
        (Descriptor(type=8, s=0), "reserved system type 8, ring 0"),
        (replace(FLAT_CODE64, db=1), "code, execute/read, ring 0, 64-bit, L and D both set, which is not allowed"),
    ],
)
def test_in_words(descriptor: Descriptor, words: str) -> None:
    assert descriptor.describe() == words


@pytest.mark.parametrize(
    ("descriptor", "message"),
    [
        (Descriptor(limit=0xFFFF_FFFF), "set g=1"),
        (Descriptor(limit=0x1000, g=1), "ends in 0xfff"),
        (Descriptor(limit=1 << 32 | 0xFFF, g=1), "fits in 32 bits"),
        (Descriptor(limit=-1), "20 bits"),
        (Descriptor(base=1 << 32), "does not fit in 32 bits"),
        (Descriptor(base=1 << 64, s=0, type=TSS, wide=True), "does not fit in 64 bits"),
        (Descriptor(type=16), "type is 16"),
        (Descriptor(dpl=4), "dpl is 4"),
        (Descriptor(present=2), "present is 2"),
        (Descriptor(type=3, wide=True), "keep 8"),
    ],
)
def test_what_does_not_fit_is_refused(descriptor: Descriptor, message: str) -> None:
    with pytest.raises(DescriptorError, match=message):
        descriptor.encode()


def test_bytes_that_are_no_descriptor_are_refused() -> None:
    with pytest.raises(DescriptorError, match="not 7"):
        Descriptor.decode(bytes(7))
    with pytest.raises(DescriptorError, match="interrupt gate"):
        Descriptor.decode(Gate(0x1000, 8, wide=False).encode())
    with pytest.raises(DescriptorError, match="another descriptor"):
        Descriptor.decode(FLAT_DATA.encode() * 2)


def test_the_flat_table_has_the_selectors_that_the_machine_promises() -> None:
    gdt = flat_gdt()
    assert [gdt.selector(name) for name in ("code32", "data", "code64")] == [0x08, 0x10, 0x18]
    assert [gdt.selector(name) for name in ("user data", "user code64")] == [0x23, 0x2B]
    assert bytes(gdt)[:8] == bytes(8)
    assert gdt.limit == len(bytes(gdt)) - 1 == 47
    assert list(gdt) == ["code32", "data", "code64", "user data", "user code64"]
    assert "0x18  code64       0x00af9b000000ffff  code, execute/read, ring 0, 64-bit" in gdt.text()


def test_a_wide_entry_takes_two_places_and_no_rpl() -> None:
    gdt = Gdt()
    tss = Descriptor(base=0xFFFF_8000_0000_1000, limit=0x67, type=TSS, s=0, dpl=3, wide=True)
    assert gdt.add("tss", tss) == 0x08
    assert gdt.add("data", FLAT_DATA) == 0x18
    memory = PlainMemory()
    memory.write(0x500, bytes(gdt))
    assert read_descriptor(memory, 0x500, gdt.limit, 0x08, long=True) == tss
    assert read_descriptor(memory, 0x500, gdt.limit, 0x1B) == FLAT_DATA
    assert gdt["data"] == FLAT_DATA


def test_a_legacy_system_entry_takes_one_place() -> None:
    gdt = Gdt()
    ldt = Descriptor(base=0x1000, limit=0xFF, type=LDT, s=0)
    gdt.add("ldt", ldt)
    memory = PlainMemory()
    memory.write(0, bytes(gdt))
    assert read_descriptor(memory, 0, gdt.limit, 0x08) == ldt
    with pytest.raises(DescriptorError, match="cut off"):
        read_descriptor(memory, 0, gdt.limit, 0x08, long=True)


@pytest.mark.parametrize(
    ("selector", "message"), [(0, "null"), (3, "null"), (0x0C, "LDT"), (0x30, "beyond the GDT"), (0x2B, None)]
)
def test_selectors_that_name_nothing(selector: int, message: str | None) -> None:
    memory, gdt = PlainMemory(), flat_gdt()
    memory.write(0, bytes(gdt))
    if message is None:
        assert read_descriptor(memory, 0, gdt.limit, selector).dpl == 3
    else:
        with pytest.raises(DescriptorError, match=message):
            read_descriptor(memory, 0, gdt.limit, selector)


def test_the_table_refuses_a_name_twice_and_more_than_it_holds() -> None:
    gdt = flat_gdt()
    with pytest.raises(DescriptorError, match="already"):
        gdt.add("data", FLAT_DATA)
    with pytest.raises(KeyError):
        gdt.selector("stack")
    full = Gdt()
    for n in range(8191):
        full.add(str(n), FLAT_DATA)
    with pytest.raises(DescriptorError, match="full"):
        full.add("one more", FLAT_DATA)
    assert full.limit == 0xFFFF


@given(
    offset=st.integers(0, (1 << 64) - 1),
    selector=st.integers(0, 0xFFFF),
    type=st.sampled_from(sorted(GATE_TYPES)),
    dpl=st.integers(0, 3),
    present=BIT,
    ist=st.integers(0, 7),
    wide=st.booleans(),
)
def test_gates_come_back_as_they_went(
    offset: int, selector: int, type: int, dpl: int, present: int, ist: int, wide: bool
) -> None:
    if not wide:
        offset, ist = offset & 0xFFFF_FFFF, 0
    gate = Gate(offset, selector, type, dpl, present, ist, wide)
    assert Gate.decode(gate.encode()) == gate


def test_gates_in_words_and_refusals() -> None:
    assert Gate(0x1000, 8).describe() == "interrupt gate to 0x08:0x1000, ring 0"
    assert Gate(0x1000, 8, 15, 3, 0, 2).describe() == "trap gate to 0x08:0x1000, ring 3, stack IST2, not present"
    assert Gate(0x1234_5678, 8, wide=False).encode().hex() == "7856080000" + "8e3412"
    for gate, message in (
        (Gate(1 << 32, 8, wide=False), "32 bits"),
        (Gate(0, 8, ist=1, wide=False), "ist is 1"),
        (Gate(0, 8, type=9), "not a gate"),
        (Gate(0, 1 << 16), "selector"),
    ):
        with pytest.raises(DescriptorError, match=message):
            gate.encode()
    with pytest.raises(DescriptorError, match="not a gate"):
        Gate.decode(FLAT_DATA.encode())
    with pytest.raises(DescriptorError, match="not 9"):
        Gate.decode(bytes(9))
