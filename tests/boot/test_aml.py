"""AML terms: bytes from the specification, and lengths read back by its rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivmm.boot import aml


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (1, "01"),
        (2, "0a02"),
        (0xFF, "0aff"),
        (0x100, "0b0001"),
        (0xFFFF, "0bffff"),
        (0x1_0000, "0c00000100"),
        (0xFFFF_FFFF, "0cffffffff"),
        (1 << 32, "0e0000000001000000"),
    ],
)
def test_integers_take_the_shortest_form(value: int, encoded: str) -> None:
    assert aml.integer(value).hex() == encoded


def test_an_integer_has_64_bits_at_most() -> None:
    assert aml.integer((1 << 64) - 1) == b"\x0e" + b"\xff" * 8
    with pytest.raises(ValueError, match="64 bits"):
        aml.integer(1 << 64)


@pytest.mark.parametrize(
    ("identity", "encoded"), [("PNP0501", "0c41d00501"), ("PNP0303", "0c41d00303"), ("PNP0A03", "0c41d00a03")]
)
def test_plug_and_play_ids(identity: str, encoded: str) -> None:
    assert aml.eisa_id(identity).hex() == encoded


def test_terms() -> None:
    assert aml.name("_UID", aml.integer(7)) == b"\x08_UID\x0a\x07"
    assert aml.name("\\_S5", aml.package(aml.integer(5), aml.integer(0))) == b"\x08\\_S5_\x12\x05\x02\x0a\x05\x00"
    assert aml.scope("\\_SB", b"") == b"\x10\x06\\_SB_"
    assert aml.device("COM1", aml.string("a")) == b"\x5b\x82\x08COM1\x0da\x00"
    assert aml.buffer(b"xyz") == b"\x11\x06\x0a\x03xyz"


def test_resources() -> None:
    assert aml.memory32(0xD000_0000, 0x200).hex() == "86090001000000d000020000"
    assert aml.interrupt(16).hex() == "890600030110000000"  # consumer, edge, active high
    assert aml.interrupt(16, level=True).hex() == "890600010110000000"
    assert aml.ports(0x3F8, 8).hex() == "4701f803f8030108"
    assert aml.irq(4).hex() == "221000"
    assert aml.resources(aml.irq(4)) == aml.buffer(bytes.fromhex("2210007900"))


@given(st.one_of(st.integers(0, 300), st.sampled_from([4091, 4092, 4093, 4094, 1 << 16, (1 << 20) - 10, 1 << 20])))
def test_a_length_counts_itself(size: int) -> None:
    """ACPI specification, "Package Length Encoding": bits 7–6 of the first byte say how many bytes follow it."""
    term = aml.scope("ABCD", bytes(size))[1:]
    more = term[0] >> 6
    if more:
        assert not term[0] & 0x30
        length = term[0] & 0x0F | int.from_bytes(term[1 : 1 + more], "little") << 4
        assert length >= 64
    else:
        length = term[0] & 0x3F
    assert length == len(term) == 1 + more + 4 + size
