import pytest

from minivmm.x86 import bits
from minivmm.x86.canonical import is_canonical, sign_extend


@pytest.mark.parametrize(
    ("register", "value", "names"),
    [
        ("cr0", 0x8000_0011, "PE ET PG"),
        ("cr0", 0x6000_0010, "ET NW CD"),
        ("cr4", 0x20, "PAE"),
        ("efer", 0x500, "LME LMA"),
        ("efer", 0xD01, "SCE LME LMA NXE"),
        ("rflags", 0x202, "IF"),
        ("rflags", 0x2, "none"),
        ("rflags", 0x3002, "IOPL=3"),
        ("rflags", 0x3246, "PF ZF IF IOPL=3"),
        ("cr4", 1 << 45, "bit 45"),
        ("cr0", 0, "none"),
    ],
)
def test_names_of_set_bits(register: str, value: int, names: str) -> None:
    assert bits.names_of(register, value) == names


def test_in_words_explains_each_bit() -> None:
    assert bits.in_words("efer", 0x500) == (
        "EFER 0x500 = LME (long mode enabled: it starts when paging does), LMA (long mode active)"
    )
    assert bits.in_words("cr4", 0) == "CR4 0x0 = no bit set"


def test_a_register_without_a_table_is_refused() -> None:
    with pytest.raises(KeyError):
        bits.names_of("cr9", 1)


@pytest.mark.parametrize("register", bits.REGISTERS)
def test_every_bit_is_named_once(register: str) -> None:
    table = bits.REGISTERS[register]
    assert len({bit.name for bit in table}) == len(table)
    assert len({bit.mask for bit in table}) == len(table)
    assert all(bit.mask.bit_count() == 1 for bit in table)


def test_reserved_masks_leave_out_what_is_defined() -> None:
    # The documented layouts: CR0 0-5, 16, 18, 29-31; RFLAGS 1, 3, 5, 15 and 63-22 are fixed.
    assert bits.CR0_RESERVED == (1 << 64) - 1 & ~0xE005_003F
    assert bits.RFLAGS_RESERVED == (1 << 64) - 1 & ~0x003F_7FD7
    assert bits.CR4_RESERVED & 1 << 15
    assert not bits.EFER_RESERVED & 0xD01


@pytest.mark.parametrize(
    ("address", "width", "answer"),
    [
        (0, 48, True),
        (0x7FFF_FFFF_FFFF, 48, True),
        (0x8000_0000_0000, 48, False),
        (0xFFFF_7FFF_FFFF_FFFF, 48, False),
        (0xFFFF_8000_0000_0000, 48, True),
        (0xFFFF_FFFF_FFFF_FFFF, 48, True),
        (0x8000_0000_0000, 57, True),
        (1 << 56, 57, False),
        (1 << 64, 48, False),
        (-1, 48, False),
    ],
)
def test_canonical(address: int, width: int, answer: bool) -> None:
    assert is_canonical(address, width) is answer


def test_sign_extend_copies_the_top_bit() -> None:
    assert sign_extend(0x8000_0000_0000) == 0xFFFF_8000_0000_0000
    assert sign_extend(0x1234_7FFF_FFFF_FFFF) == 0x7FFF_FFFF_FFFF
