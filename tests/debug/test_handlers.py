"""The way to a handler: where exactly the table ends, how large the frame is, which stack it goes on."""

from __future__ import annotations

import pytest
from deaths import Dead, dead

from minivmm.debug.evidence import Evidence
from minivmm.debug.handlers import obstacle
from minivmm.debug.vectors import NAMES, error_in_words, name_of
from minivmm.exits import Shutdown
from minivmm.x86 import Gate

IDT = 0x6000
UD, PF = 6, 14


def way(guest: Dead, vector: int) -> str:
    found = obstacle(Evidence(Shutdown(), (), guest.ram, guest.regs, guest.sregs), vector)
    return "" if found is None else found.sentence


def guest(mode: str, *vectors: int, **changes: int) -> Dead:
    """A guest whose IDT ends just behind the last of its gates."""
    made = dead(mode)
    wide = mode == "long"
    size = 16 if wide else 8
    for vector in vectors:
        gate = Gate(**{"offset": 0x5000, "selector": 0x18 if wide else 8, "wide": wide, **changes})
        made.ram.write(IDT + size * vector, gate.encode())
    made.sregs.idt.base, made.sregs.idt.limit = IDT, size * (max(vectors) + 1) - 1
    return made


@pytest.mark.parametrize("mode", ["protected", "long"])
def test_the_way_is_free_up_to_the_limit(mode: str) -> None:
    found = guest(mode, UD)
    assert way(found, UD) == ""
    assert "has room for 7 gates only" in way(found, UD + 1)
    found.sregs.idt.limit -= 1
    assert "has room for 6 gates only" in way(found, UD)
    found.sregs.idt.limit = (16 if mode == "long" else 8) - 1
    assert "has room for 1 gate only" in way(found, UD)


def test_in_real_mode_a_vector_has_four_bytes() -> None:
    found = dead("real")
    found.sregs.idt.limit = 4 * UD + 3
    assert way(found, UD) == ""
    found.sregs.idt.limit -= 1
    assert "ends at offset 0x1a" in way(found, UD)


@pytest.mark.parametrize(("vector", "words"), [(UD, 5), (PF, 6)])
def test_the_frame_in_long_mode_is_five_words_or_six(vector: int, words: int) -> None:
    found = guest("long", vector)
    found.regs.rsp = 8 * words + 15 & ~15  # just room enough above address 0, on an aligned stack
    assert way(found, vector) == ""
    found.regs.rsp -= 16
    assert "can't be written" in way(found, vector)


def test_in_long_mode_the_stack_is_aligned_before_the_frame() -> None:
    found = guest("long", UD)
    found.regs.rsp = 0x100008  # the word at the top of RAM's end would not fit, but nothing is pushed there
    assert way(found, UD) == ""


@pytest.mark.parametrize(("vector", "words"), [(UD, 3), (PF, 4)])
def test_the_frame_in_protected_mode_is_three_words_or_four(vector: int, words: int) -> None:
    found = guest("protected", vector)
    found.regs.rsp = 4 * words
    assert way(found, vector) == ""
    found.regs.rsp -= 4
    assert "0xfffffffc can't be written" in way(found, vector)


def test_a_16_bit_stack_pointer_is_16_bits() -> None:
    found = guest("protected", UD)
    found.sregs.ss.db = 0
    found.regs.rsp = 0xABCD_4000
    assert way(found, UD) == ""
    found.sregs.ss.base = 0x20_0000
    assert "0x203fff can't be written" in way(found, UD)


def test_a_handler_in_an_inner_ring_takes_the_stack_of_the_tss() -> None:
    found = guest("protected", UD)
    found.sregs.ss.dpl = 3
    found.sregs.tr.base, found.sregs.tr.limit = 0x4000, 0x67
    assert "ESP0 in the TSS = 0x0" in way(found, UD)
    found.ram.write(0x4004, (0x9000).to_bytes(4, "little"))
    assert way(found, UD) == ""
    found.sregs.tr.limit = 6
    assert "TR's TSS ends at offset 0x6" in way(found, UD)
    found.sregs.tr.limit, found.sregs.tr.present = 0x67, 0
    assert "wants the stack ESP0 in the TSS" in way(found, UD)


def test_an_ist_of_the_gate_is_where_the_frame_goes() -> None:
    found = guest("long", UD, ist=7)
    found.sregs.tr.base, found.sregs.tr.limit = 0x4000, 0x67
    assert "IST7 in the TSS = 0x0" in way(found, UD)
    found.ram.write(0x4000 + 0x24 + 6 * 8, (0x9000).to_bytes(8, "little"))
    assert way(found, UD) == ""
    found.sregs.tr.limit = 0x24 + 7 * 8 - 1
    assert way(found, UD) == ""
    found.sregs.tr.limit -= 1
    assert "can't be read" in way(found, UD)


def test_a_five_level_address_is_canonical_with_five_levels() -> None:
    found = guest("long", UD, offset=0x00F0_0000_0000_0000)
    assert "is not canonical" in way(found, UD)


def test_the_exceptions_have_the_numbers_of_the_manual() -> None:
    short = {vector: text.split()[0] for vector, text in NAMES.items()}
    assert short == {
        0: "#DE", 1: "#DB", 2: "NMI", 3: "#BP", 4: "#OF", 5: "#BR", 6: "#UD", 7: "#NM", 8: "#DF", 10: "#TS", 11: "#NP",
        12: "#SS", 13: "#GP", 14: "#PF", 16: "#MF", 17: "#AC", 18: "#MC", 19: "#XM", 20: "#VE", 21: "#CP",
    }  # fmt: skip
    assert name_of(0x40) == "interrupt 0x40"


def test_error_codes_in_words() -> None:
    assert error_in_words(13, 0xF0) == "GDT entry 0xf0"
    assert error_in_words(13, 0xF4) == "LDT entry 0xf0"
    assert error_in_words(13, 0x102) == "IDT entry 0x20"
    assert error_in_words(13, 0xF1) == "GDT entry 0xf0"
    assert "page not present, write" in error_in_words(14, 2)
