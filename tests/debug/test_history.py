"""The last exits in lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from minivmm.debug.history import fold, last
from minivmm.exits import Halted, PortOut


def test_a_repeated_line_is_shown_once() -> None:
    assert fold(["a", *["b"] * 37, "c"]) == ["a", "b  × 37", "c"]
    assert fold(["a", "b", "a", "c"]) == ["a", "b", "a", "c"]
    assert fold([]) == []


def test_a_repeated_group_is_shown_once() -> None:
    assert fold(["a", "b"] * 5 + ["c"]) == ["a", "b  (these 2) × 5", "c"]
    assert fold(["a", "b", "c", "d"] * 2) == ["a", "b", "c", "d  (these 4) × 2"]
    assert fold(["a", "a", "b"] * 3) == ["a", "a", "b  (these 3) × 3"]
    five = ["a", "b", "c", "d", "e"] * 2
    assert fold(five) == five


def test_only_the_last_exits_are_shown_oldest_first() -> None:
    exits = [PortOut(0x80, 1, 1, bytes([n])) for n in range(100)]
    lines = last([*exits, Halted()])
    assert len(lines) == 64
    assert lines[0] == str(exits[37])
    assert lines[-1] == "KVM_EXIT_HLT"
    assert last([Halted()] * 3, 2) == ["KVM_EXIT_HLT  × 2"]


@given(st.lists(st.sampled_from("ab"), max_size=30))
def test_folding_loses_nothing(lines: list[str]) -> None:
    unfolded: list[str] = []
    for line in fold(lines):
        text, _, times = line.partition(" × ")
        text, _, group = text.strip().partition("  (these ")
        unfolded.append(text)
        if times:
            period = int(group.rstrip(")")) if group else 1
            unfolded += unfolded[-period:] * (int(times) - 1)
    assert unfolded == lines
