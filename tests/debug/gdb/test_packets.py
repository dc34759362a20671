"""The envelopes of the protocol, in good order and in none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivmm.debug.gdb.packets import LONGEST, Odd, PacketReader, escape, packet, unescape


def read(received: bytes) -> list[bytes | Odd]:
    return list(PacketReader().feed(received))


def summed(data: bytes) -> bytes:
    return b"$%b#%02x" % (data, sum(data) & 0xFF)


@pytest.mark.parametrize(
    ("received", "parts"),
    [
        (b"$g#67", [b"g"]),
        (b"$#00", [b""]),
        (b"+$g#67", [b"g"]),
        (b"--++", []),
        (b"\x03", [Odd.INTERRUPT]),
        (b"$c#63\x03", [b"c", Odd.INTERRUPT]),
        (b"$g#00", [Odd.CORRUPT]),
        (b"$g#6", []),
        (b"$g#zz", [Odd.CORRUPT]),
        (b"$gg$g#67", [b"g"]),  # the first one was cut off
        (summed(b"X0,1:}\x03"), [b"X0,1:#"]),
        (summed(b"X0,1:\x03"), [b"X0,1:\x03"]),  # within a packet it is a byte like any other
        (b"$k#6B", [b"k"]),
        (b"$" + b"x" * 3 * LONGEST + b"#00$g#67", [Odd.TOO_LONG, b"g"]),
    ],
)
def test_reading(received: bytes, parts: list[bytes | Odd]) -> None:
    assert read(received) == parts


@given(st.lists(st.binary(max_size=50)), st.integers(1, 20))
def test_what_is_packed_is_read_however_it_is_cut(datas: list[bytes], size: int) -> None:
    reader = PacketReader()
    stream = b"+".join(packet(data) for data in datas)
    got = [part for at in range(0, len(stream), size) for part in reader.feed(stream[at : at + size])]
    assert got == datas


@given(st.binary())
def test_escapes(data: bytes) -> None:
    assert unescape(escape(data)) == data
    assert not set(escape(data)) & set(b"$#*")


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"$", b"#", b"}", b"$}#7d", b"\x03"])))
def test_noise_does_no_harm(received: list[bytes]) -> None:
    reader = PacketReader()
    for piece in received:
        for part in reader.feed(piece):
            assert isinstance(part, bytes | Odd)
    assert [*reader.feed(b"#00$?#3f")][-1] == b"?"


def test_a_packet_without_end_takes_no_memory() -> None:
    reader = PacketReader()
    assert list(reader.feed(b"$" + b"x" * (1 << 20))) == []
    assert reader._data is not None
    assert len(reader._data) <= 2 * LONGEST
