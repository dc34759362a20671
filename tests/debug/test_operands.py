"""What memory an instruction touches, and the registers behind it."""

from __future__ import annotations

import pytest
from deaths import Dead, dead

from minivmm.debug.evidence import Evidence
from minivmm.debug.operands import is_noncanonical, register, touches
from minivmm.exits import Shutdown
from minivmm.x86.state import Regs


def evidence(guest: Dead) -> Evidence:
    return Evidence(Shutdown(), (), guest.ram, guest.regs, guest.sregs)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rax", 0x1122334455667788), ("eax", 0x55667788), ("ax", 0x7788), ("ah", 0x77), ("al", 0x88),
        ("rsi", 0xA1A2A3A4A5A6A7A8), ("esi", 0xA5A6A7A8), ("si", 0xA7A8), ("sil", 0xA8), ("spl", 0xB8),
        ("sp", 0xB7B8), ("r9", 0xC1C2C3C4C5C6C7C8), ("r9d", 0xC5C6C7C8), ("r9w", 0xC7C8), ("r9b", 0xC8),
        ("r10", 0xD1), ("bh", 0), ("bl", 0),
    ],
)  # fmt: skip
def test_a_register_by_name(name: str, value: int) -> None:
    regs = Regs(rax=0x1122334455667788, rsi=0xA1A2A3A4A5A6A7A8, rsp=0xB1B2B3B4B5B6B7B8, r9=0xC1C2C3C4C5C6C7C8, r10=0xD1)
    assert register(regs, name) == value


def test_no_register_of_that_name() -> None:
    with pytest.raises(AttributeError):
        register(Regs(), "xmm1")


# mode, code, registers, and what is touched: (linear address, size, whether it writes)
TOUCHED = [
    ("long", "8b 04 8d 00 01 00 00", {"rcx": 4}, [(0x110, 4, False)]),  # mov eax, [rcx*4 + 0x100]
    ("long", "89 43 f8", {"rbx": 0x2008}, [(0x2000, 4, True)]),  # mov [rbx - 8], eax
    ("long", "8a 04 25 34 12 00 00", {}, [(0x1234, 1, False)]),  # mov al, [0x1234]
    ("long", "48 8d 03", {"rbx": 8}, []),  # lea rax, [rbx]
    ("long", "0f 1f 00", {"rax": 8}, []),  # nop [rax]
    ("long", "48 ff 33", {"rbx": 0x3000}, [(0x3000, 8, False), (0x7EFF8, 8, True)]),  # push [rbx]
    ("long", "c3", {}, [(0x7F000, 8, False)]),
    ("long", "e8 00 00 00 00", {}, [(0x7EFF8, 8, True)]),
    ("long", "0f 0b", {}, []),
    ("protected", "50", {}, [(0x7EFFC, 4, True)]),
    ("real", "50", {"rsp": 0xFFFF_0000}, [(0xFFFE, 2, True)]),  # SP wraps within 64 KiB
    ("real", "8b 47 10", {"rbx": 0xFFFF_FFF8}, [(0x8, 2, False)]),  # mov ax, [bx + 0x10], in 16 bits
    ("protected", "67 8b 07", {"rbx": 0x1_2345}, [(0x2345, 4, False)]),  # mov eax, [bx]
    ("long", "a4", {"rsi": 0x10, "rdi": 0x20}, [(0x20, 1, True), (0x10, 1, False)]),  # movsb
]


@pytest.mark.parametrize(("mode", "code", "registers", "expected"), TOUCHED)
def test_the_operands(mode: str, code: str, registers: dict[str, int], expected: list[tuple[int, int, bool]]) -> None:
    found = touches(evidence(dead(mode, code, **registers)))
    assert [(touch.linear, touch.size, touch.write) for touch in found] == expected


def test_segments_count_outside_64_bit_mode() -> None:
    guest = dead("real", "8b 07")  # mov ax, [bx]
    guest.sregs.ds.base = 0x20000
    guest.sregs.ss.base = 0x30000
    assert touches(evidence(guest))[0].linear == 0x20000
    guest.ram.write(0x1000, bytes.fromhex("8b 46 00"))  # mov ax, [bp]: the stack segment
    assert touches(evidence(guest))[0].linear == 0x30000
    guest.ram.write(0x1000, bytes.fromhex("26 8b 07"))  # mov ax, es:[bx]
    guest.sregs.es.base = 0x40000
    assert touches(evidence(guest))[0].linear == 0x40000
    guest.ram.write(0x1000, bytes.fromhex("50"))
    guest.regs.rsp = 0x1000
    assert touches(evidence(guest))[0].linear == 0x30FFE


def test_canonical_is_a_matter_of_64_bit_mode_and_of_the_width() -> None:
    guest = dead("long")
    assert is_noncanonical(evidence(guest), 0x8000_0000_0000)
    assert not is_noncanonical(evidence(guest), 0x7FFF_FFFF_FFFF)
    guest.sregs.cr4 |= 1 << 12
    assert not is_noncanonical(evidence(guest), 0x8000_0000_0000)
    assert not is_noncanonical(evidence(guest), 0xFF_FFFF_FFFF_FFFF)
    assert is_noncanonical(evidence(guest), 0x100_0000_0000_0000)
    guest.sregs.cs.l = 0
    assert not is_noncanonical(evidence(guest), 0x100_0000_0000_0000)
