"""The MP table, read back by a reader written from the specification's tables, not from our code."""

from __future__ import annotations

import struct

import pytest

from minivmm.boot.mptable import mp_table
from minivmm.boot.platform import MmioDevice, Platform

SIZES = {0: 20, 1: 8, 2: 8, 3: 8, 4: 8}


def read(table: bytes, base: int) -> dict[int, list[bytes]]:
    """Follows the pointer, holds both checksums, and gives the entries by type (MP specification 1.4, chapter 4)."""
    assert table[:4] == b"_MP_"
    pointer = table[: table[8] * 16]
    assert sum(pointer) % 256 == 0
    assert pointer[9] == 4  # the specification's minor version
    assert pointer[11] == 0  # "MP configuration table present"
    at = struct.unpack_from("<I", pointer, 4)[0] - base
    assert table[at : at + 4] == b"PCMP"
    length = struct.unpack_from("<H", table, at + 4)[0]
    assert at + length == len(table)
    assert sum(table[at : at + length]) % 256 == 0
    assert struct.unpack_from("<I", table, at + 36)[0] == 0xFEE00000
    entries: dict[int, list[bytes]] = {kind: [] for kind in SIZES}
    count, at = struct.unpack_from("<H", table, at + 34)[0], at + 44
    for _ in range(count):
        kind = table[at]
        entries[kind].append(table[at : at + SIZES[kind]])
        at += SIZES[kind]
    assert at == len(table)
    return entries


@pytest.mark.parametrize("cpus", [1, 2, 8])
def test_it_lists_every_processor_and_one_of_them_is_the_first(cpus: int) -> None:
    entries = read(mp_table(0x9FC00, Platform(cpus=cpus)), 0x9FC00)
    assert [entry[1] for entry in entries[0]] == list(range(cpus))  # local APIC IDs
    assert [entry[3] for entry in entries[0]] == [3, *[1] * (cpus - 1)]  # enabled; the first is the bootstrap processor


def test_the_ioapic_has_an_id_of_its_own() -> None:
    entries = read(mp_table(0x9FC00, Platform(cpus=3)), 0x9FC00)
    (ioapic,) = entries[2]
    assert ioapic[1] == 3
    assert ioapic[3] == 1
    assert struct.unpack_from("<I", ioapic, 4)[0] == 0xFEC00000


def test_interrupt_n_is_pin_n() -> None:
    entries = read(mp_table(0x9FC00, Platform(cpus=2)), 0x9FC00)
    assert entries[1] == [bytes((1, 0)) + b"ISA   "]
    assert [(entry[5], entry[7]) for entry in entries[3]] == [(pin, pin) for pin in range(24)]
    assert {(entry[1], entry[2], entry[3], entry[4], entry[6]) for entry in entries[3]} == {(0, 0, 0, 0, 2)}


def test_local_interrupts_are_those_of_every_pc() -> None:
    entries = read(mp_table(0x9FC00, Platform()), 0x9FC00)
    assert {(entry[1], entry[7]) for entry in entries[4]} == {(3, 0), (1, 1)}  # ExtINT on LINT0, NMI on LINT1


def test_the_largest_fits_in_the_last_kib_of_base_memory() -> None:
    assert len(mp_table(0x9FC00, Platform(cpus=8))) <= 1024


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cpus": 0}, "1 to 8"),
        ({"cpus": 9}, "1 to 8"),
        ({"cpus": 2, "apics": False}, "local APICs"),
        ({"devices": (MmioDevice(0xD0000000, 24),)}, "has interrupt 24; there are 24"),
        ({"devices": (MmioDevice(0xD0000000, 16),), "apics": False}, "there are 16"),
    ],
)
def test_a_platform_that_cannot_be(wrong: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Platform(**wrong)
