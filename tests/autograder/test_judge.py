"""The judge's helpers: right is OK, wrong shows the difference, and nothing hostile makes them raise."""

from __future__ import annotations

import pytest

from autograder import judge
from autograder.model import OK
from autograder.observation import IllTypedError, Observation
from autograder.odd import Odd


def test_equal_things_are_ok() -> None:
    assert judge.same_bytes(b"ab", b"ab") is OK
    assert judge.same_text("ab", b"ab") is OK
    assert judge.same_value((1, [2]), [1, [2]]) is OK
    assert judge.same_values({"a": 1}, {"a": 1, "b": 2}) is OK
    assert judge.same_exits(["halt"], ["halt"]) is OK
    assert judge.all_of(OK, OK) is OK


def test_the_first_different_byte_is_marked() -> None:
    expected, actual = bytes(range(40)), bytes(range(19)) + b"\xff" + bytes(range(20, 40))
    message = judge.same_bytes(expected, actual, "the console").message
    assert message.splitlines() == [
        "the console: wrong bytes; the first difference is at byte 19",
        "  both      0000  00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f  |................|",
        "  expected  0010  10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f  |................|",
        "  actual    0010  10 11 12 ff 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f  |................|",
        "                           ^^",
        "  expected  0020  20 21 22 23 24 25 26 27                          | !\"#$%&'|",
        "  actual    0020  20 21 22 23 24 25 26 27                          | !\"#$%&'|",
    ]


def test_short_bytes_say_how_many() -> None:
    message = judge.same_bytes(b"hello", b"h", "the console").message
    assert message.startswith("the console: 1 bytes where 5 are expected; the first difference is at byte 1\n")
    assert "(nothing here)" in judge.same_bytes(bytes(20), bytes(16)).message


def test_text_shows_missing_and_unexpected_lines_with_two_of_context() -> None:
    expected = "\n".join(f"line {n}" for n in range(9))
    message = judge.same_text(expected, expected.replace("line 5", "line five"), "the log").message
    lines = message.splitlines()
    assert lines[0] == "the log differs from what is expected"
    assert "  - line 5" in lines
    assert "  + line five" in lines
    assert "    line 3" in lines
    assert "    line 7" in lines
    assert "    line 1" not in lines


def test_text_shows_what_can_not_be_seen() -> None:
    assert "+ ok\\r" in judge.same_text("ok\nend", "ok\r\nend").message
    assert "nothing at all" in judge.same_text("ok", "").message


def test_exits_show_the_five_before_they_part() -> None:
    same = [f"out {n}" for n in range(9)]
    lines = judge.same_exits([*same, "halt"], [*same, "shutdown"]).message.splitlines()
    assert lines[0] == "the exits part at number 9"
    assert lines[1].split() == ["4", "out", "4"]
    assert lines[-2].split() == ["9", "expected", "halt"]
    assert lines[-1].split() == ["9", "actual", "shutdown"]
    assert "(no more exits)" in judge.same_exits(["halt"], []).message


def test_values_in_a_table() -> None:
    message = judge.same_values({"rip": 0x1000, "mode": "long"}, {"rip": 0x1002, "mode": "long"}, "registers").message
    assert message.splitlines()[0] == "registers: 1 of 2 differ"
    assert message.splitlines()[2].split() == ["rip", "0x1000", "(4096)", "0x1002", "(4098)"]
    assert "(not given)" in judge.same_values({"rip": 1}, {}).message


def test_numbers_are_not_equal_across_kinds() -> None:
    assert not judge.same_value(1, 1.0).ok
    assert not judge.same_value([1], [1.0]).ok
    assert judge.same_value(1, True).ok
    assert "a str where 16" not in judge.same_value(16, "16").message
    assert "a str where 0x10 (16) is expected" in judge.same_value(16, "16").message


def test_a_hint_travels_with_the_finding() -> None:
    assert judge.same_value(1, 2, hint="classic").hint == "classic"


EVIL = [
    None,
    3,
    float("nan"),
    "\ud800" * 9,
    "x" * 100_000,
    b"\xff" * 100_000,
    [[]] * 5000,
    {"a": {"b": []}},
    Odd("a Bus"),
]
EVIL += [{1: 2, None: 3}, [None], "\n" * 9000, -(1 << 900), True, [b"x", "y"]]


@pytest.mark.parametrize("actual", EVIL, ids=lambda value: f"{type(value).__name__}")
def test_nothing_makes_a_helper_raise(actual: object) -> None:
    for helper, expected in (
        (judge.same_bytes, b"right"),
        (judge.same_text, "right\nand more"),
        (judge.same_value, {"right": [1]}),
        (judge.same_values, {"right": 1}),
        (judge.same_exits, ["right"]),
    ):
        finding = helper(expected, actual)  # type: ignore[operator]
        assert not finding.ok
        assert len(finding.message) < 4000


def test_typed_getters_name_what_is_wrong() -> None:
    obs = Observation({"value": [1], "console": 3, "numbers": [1, "x"], "odd": Odd("a Bus"), "exits": "no"}, "bytes_of")
    assert obs.list() == [1]
    assert obs.exits == []
    for get, words in (
        (lambda: obs.bytes(), "`bytes_of` gave a list where bytes are expected"),
        (lambda: obs.bytes("console"), r"`bytes_of` gave a number where bytes are expected \(in `console`\)"),
        (lambda: obs.ints("numbers"), r"gave a str where a number is expected \(in `numbers\[1\]`\)"),
        (lambda: obs.str("odd"), "gave a Bus where a str"),
        (lambda: obs.int("absent"), "ended without giving `absent`"),
    ):
        with pytest.raises(IllTypedError, match=words):
            get()


def test_an_observation_is_a_dict() -> None:
    with pytest.raises(IllTypedError, match="answered with a list where a dict is expected"):
        Observation([], "f")
