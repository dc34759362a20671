"""Claims, overlaps, unclaimed accesses, string items, and accesses that straddle two claims."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivmm.bus import Bus, BusConflictError


class Register:
    """A device that is one little-endian register as wide as its claim."""

    def __init__(self, name: str, claim: range, fill: int = 0) -> None:
        self.name = name
        self.claim = claim
        self.cells = bytearray([fill] * len(claim))

    def read(self, offset: int, size: int) -> int:
        return int.from_bytes(self.cells[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        self.cells[offset : offset + size] = value.to_bytes(size, "little")

    def save(self) -> dict[str, Any]:
        return {}

    def load(self, state: dict[str, Any]) -> None:
        pass


def test_an_overlap_is_refused_with_both_names() -> None:
    bus = Bus("port")
    bus.attach(Register("uart", range(0x3F8, 0x400)))
    with pytest.raises(BusConflictError, match="mouse and uart both claim port 0x3f8"):
        bus.attach(Register("mouse", range(0x3F0, 0x3F9)))
    bus.attach(Register("next door", range(0x400, 0x401)))


@pytest.mark.parametrize("claim", [range(0), range(5, 3), range(0, 8, 2)])
def test_an_empty_or_gappy_claim_is_refused(claim: range) -> None:
    with pytest.raises(ValueError, match="at least one address"):
        Bus("port").attach(Register("nothing", claim))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
def test_unclaimed_reads_float_high_and_are_counted(size: int) -> None:
    bus = Bus("address")
    assert bus.read(0x1000, size) == (1 << 8 * size) - 1
    bus.write(0x1000, size, 0)
    assert bus.unclaimed == {0x1000: 2}


def test_a_guest_that_touches_everything_does_not_fill_our_memory() -> None:
    bus = Bus("address")
    for address in range(3 * Bus.KEPT):
        bus.read(address, 1)
    assert len(bus.unclaimed) == Bus.KEPT
    bus.read(0, 1)
    assert bus.unclaimed[0] == 2


def test_string_items_all_go_to_one_port() -> None:
    bus = Bus("port")
    seen: list[tuple[int, int, int]] = []
    device = Register("log", range(0x10, 0x14))
    device.write = lambda offset, size, value: seen.append((offset, size, value))  # type: ignore[method-assign]
    bus.attach(device)
    bus.write_from(0x10, 2, b"\x01\x02\x03\x04\x05\x06")
    assert seen == [(0, 2, 0x0201), (0, 2, 0x0403), (0, 2, 0x0605)]
    fifo = iter(range(5))
    device.read = lambda offset, size: next(fifo)  # type: ignore[method-assign]
    bus.detach(device)
    bus.attach(device)
    buffer = memoryview(bytearray(6))
    bus.read_into(0x10, 2, buffer)
    assert bytes(buffer) == b"\0\0\1\0\2\0"


@given(st.integers(0, 12), st.sampled_from([1, 2, 4, 8]), st.binary(min_size=8, max_size=8))
def test_straddling_accesses_are_byte_cycles(address: int, size: int, data: bytes) -> None:
    bus = Bus("port")
    left, right = Register("left", range(4, 8)), Register("right", range(8, 10))
    bus.attach(right)
    bus.attach(left)
    space = bytearray(b"\xff" * 24)
    value = int.from_bytes(data[:size], "little")
    bus.write(address, size, value)
    for i in range(size):
        if 4 <= address + i < 10:
            space[address + i] = data[i]
    expected = bytearray(space)
    for at in (*range(4, 10),):
        if not address <= at < address + size:
            expected[at] = 0
    assert bytes(left.cells + right.cells) == bytes(expected[4:10])
    assert bus.read(address, size) == int.from_bytes(expected[address : address + size], "little")


def test_a_claim_that_comes_later_is_seen_at_once() -> None:
    bus = Bus("port")
    assert bus.read(0x70, 1) == 0xFF
    rtc = Register("rtc", range(0x70, 0x72), fill=0x26)
    bus.attach(rtc)
    assert bus.read(0x70, 1) == 0x26
    assert bus.device_at(0x71) is rtc
    bus.detach(rtc)
    assert bus.read(0x70, 1) == 0xFF
