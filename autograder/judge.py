"""Helpers for the authors of stages: each compares expected with actual and returns a Finding with the difference.

`actual` is an observation, so it may be of any type and size: no helper here raises, whatever it is given.
`what` names the thing compared, as a noun phrase: "the console", "what `bytes_of` returned".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autograder.differences import first_difference, hex_diff, in_words, table, text_diff
from autograder.model import OK, Finding
from autograder.odd import describe

__all__ = ["all_of", "fail", "same_bytes", "same_exits", "same_text", "same_value", "same_values", "show_exits"]


def fail(message: str, hint: str = "") -> Finding:
    """A finding against the student. `hint` is the key of one of the check's hints."""
    return Finding(False, message, hint)


def all_of(*findings: Finding) -> Finding:
    """The first finding that is against the student, else OK."""
    return next((finding for finding in findings if not finding.ok), OK)


def same_bytes(expected: bytes, actual: object, what: str = "the bytes", hint: str = "") -> Finding:
    """Equal bytes, or a hex diff around the first difference."""
    if not isinstance(actual, bytes):
        return fail(f"{what}: {describe(actual)} where bytes are expected", hint)
    if actual == expected:
        return OK
    at = first_difference(expected, actual)
    lengths = (
        f"{len(actual)} bytes where {len(expected)} are expected" if len(actual) != len(expected) else "wrong bytes"
    )
    return fail(f"{what}: {lengths}; the first difference is at byte {at}\n{hex_diff(expected, actual)}", hint)


def same_text(expected: str | bytes, actual: object, what: str = "the text", hint: str = "") -> Finding:
    """Equal text, or the missing and the unexpected lines with two lines of context. Bytes are read as UTF-8."""
    if isinstance(expected, bytes):
        expected = expected.decode(errors="backslashreplace")
    if isinstance(actual, bytes):
        actual = actual.decode(errors="backslashreplace")
    if not isinstance(actual, str):
        return fail(f"{what}: {describe(actual)} where text is expected", hint)
    if actual == expected:
        return OK
    if not actual:
        return fail(f"{what}: nothing at all where {in_words(expected)} is expected", hint)
    return fail(f"{what} differs from what is expected\n{text_diff(expected, actual)}", hint)


def plain(value: Any) -> Any:
    """An expected value as it would look after the channel: tuples become lists."""
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return bytes(value) if isinstance(value, (bytearray, memoryview)) else value


def same_value(expected: Any, actual: object, what: str = "the value", hint: str = "") -> Finding:
    """Equal values of the same kind (True is 1, as in Python; 1.0 is not 1)."""
    expected = plain(expected)
    if _equal(expected, actual):
        return OK
    if type(expected) is not type(actual) and not (isinstance(expected, int) and isinstance(actual, int)):
        return fail(f"{what}: {describe(actual)} where {in_words(expected)} is expected", hint)
    return fail(f"{what}: {in_words(actual)} where {in_words(expected)} is expected", hint)


def same_values(expected: Mapping[str, Any], actual: object, what: str = "the values", hint: str = "") -> Finding:
    """Equal fields, or a table of those that differ. Fields that `expected` does not name are not compared."""
    if not isinstance(actual, Mapping):
        return fail(f"{what}: {describe(actual)} where a dict is expected", hint)
    wrong = [
        (name, in_words(plain(value)), in_words(actual[name]) if name in actual else "(not given)")
        for name, value in expected.items()
        if name not in actual or not _equal(plain(value), actual[name])
    ]
    return fail(f"{what}: {len(wrong)} of {len(expected)} differ\n{table(wrong)}", hint) if wrong else OK


def same_exits(expected: Sequence[str], actual: object, what: str = "the exits", hint: str = "") -> Finding:
    """Equal sequences of exits (one line each), or where they part with the five exits before."""
    if not isinstance(actual, list) or not all(isinstance(line, str) for line in actual):
        return fail(f"{what}: {describe(actual)} where a list of exits is expected", hint)
    at = first_difference(list(expected), actual)
    if at is None:
        return OK
    lines = [f"  {index:3}  {actual[index]}" for index in range(max(0, at - 5), at)]
    lines.append(f"  {at:3}  expected  {expected[at] if at < len(expected) else '(no more exits)'}")
    lines.append(f"  {at:3}  actual    {actual[at] if at < len(actual) else '(no more exits)'}")
    return fail("\n".join([f"{what} part at number {at}", *lines]), hint)


def show_exits(exits: Sequence[str], last: int = 5) -> str:
    """The last exits as lines for a message, "" where there are none."""
    return "\n".join(["the last exits:", *(f"  {line}" for line in exits[-last:])]) if exits else ""


def _equal(expected: Any, actual: object) -> bool:
    # Observations are plain values (see sandbox.wire), so == calls no student code; but 1 == 1.0 and True == 1.0.
    if isinstance(expected, float) != isinstance(actual, float):
        return False
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(_equal, expected, actual))
    if isinstance(expected, dict) and isinstance(actual, dict):
        return expected.keys() == actual.keys() and all(_equal(value, actual[key]) for key, value in expected.items())
    return bool(expected == actual)
