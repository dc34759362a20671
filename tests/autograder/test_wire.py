"""The channel: plain values go through unchanged, everything else is described or refused."""

from __future__ import annotations

import contextlib
import enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autograder.odd import Odd
from autograder.sandbox import wire

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 1000), 1 << 1000)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.binary(), inner),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_values_arrive_as_they_left(value: object) -> None:
    assert wire.decode(wire.encode(value)) == value


def test_the_tag_itself_is_an_ordinary_key() -> None:
    for value in ({"$": "bytes", "v": "AA=="}, {"$": {"$": 1}}, {"$": "odd", "v": "x"}):
        assert wire.decode(wire.encode(value)) == value


class Colour(enum.IntEnum):
    RED = 3


def test_subclasses_travel_as_what_they_hold() -> None:
    class Text(str):
        def __str__(self) -> str:
            return "a lie"

    class Table(dict):  # type: ignore[type-arg]
        def items(self) -> object:  # type: ignore[override]
            raise KeyError

    sent = [Colour.RED, Text("truth"), Table(a=1), bytearray(b"x"), memoryview(b"y"), (1, 2), {3}, frozenset({4})]
    assert wire.decode(wire.encode(sent)) == [3, "truth", {"a": 1}, b"x", b"y", [1, 2], [3], [4]]


def test_what_is_no_data_is_described() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    assert wire.decode(wire.encode(object())) == Odd("a object")
    assert wire.decode(wire.encode(1 << 5000)) == Odd("a number of 5001 bits")
    assert "nested too deep" in str(wire.decode(wire.encode(cycle)))
    assert len(wire.decode(wire.encode([0] * 300_000))) == wire.MOST_ITEMS


@given(st.binary())
def test_garbage_is_refused_and_nothing_else_happens(data: bytes) -> None:
    with contextlib.suppress(wire.WireError):
        list(wire.frames(data))


BAD = [b"[" * 50_000, b'{"$": 1}', b'{"$": "bytes", "v": 7}', b'{"$": "bytes", "v": "?"}', b"1" * 5000, b"\xff", b"{"]
BAD += [b'{"$": "dict", "v": [1]}', b'{"$": "dict", "v": [[1]]}', b'{"$": []}']


@pytest.mark.parametrize("data", BAD, ids=lambda data: data[:20].decode("latin-1"))
def test_what_encode_would_not_write(data: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(data)


def test_a_frame_cut_short_is_left_out() -> None:
    whole = wire.frame({"case": 0}) + wire.frame({"end": True})
    assert list(wire.frames(whole)) == [{"case": 0}, {"end": True}]
    assert list(wire.frames(whole[:-1])) == [{"case": 0}]
