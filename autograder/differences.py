"""Expected against actual, laid out so that the eye finds the difference. Pure text; no verdicts here."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

ROW = 16  # bytes in a row of a hex dump, as `hexdump -C` has
CONTEXT = 2  # lines of text shown around a difference
WIDTH = 160  # characters of one line shown before it is cut


def first_difference(left: Sequence[object], right: Sequence[object]) -> int | None:
    """The index where two sequences part, or None where they are equal."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return None if len(left) == len(right) else min(len(left), len(right))


def hex_row(data: bytes, start: int) -> str:
    row = data[start : start + ROW]
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
    digits = " ".join(f"{byte:02x}" for byte in row)
    return f"{start:04x}  {digits:<{3 * ROW - 1}}  |{text}|" if row else f"{start:04x}  (nothing here)"


def hex_diff(expected: bytes, actual: bytes) -> str:
    """The row of the first difference from both, with a row before and after; carets mark the bytes that differ."""
    at = first_difference(expected, actual)
    if at is None:
        return ""
    here = at - at % ROW
    lines = [f"  both      {hex_row(expected, here - ROW)}"] if here else []
    lines += [f"  expected  {hex_row(expected, here)}", f"  actual    {hex_row(actual, here)}"]
    rows = max(len(expected), len(actual)) - here
    carets = (
        "^^" if expected[here + i : here + i + 1] != actual[here + i : here + i + 1] else "  "
        for i in range(min(ROW, rows))
    )
    lines.append(f"            {'':4}  {' '.join(carets)}".rstrip())
    if rows > ROW:
        lines += [f"  expected  {hex_row(expected, here + ROW)}", f"  actual    {hex_row(actual, here + ROW)}"]
    return "\n".join(lines)


def clip(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[:WIDTH]}… ({len(line)} characters)"


def visible(line: str) -> str:
    """A line with its unprintable characters written as escapes, so that a stray NUL or CR can be seen."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def text_diff(expected: str, actual: str) -> str:
    """Lines that are missing (-) and unexpected (+) around the first difference, then the last lines of `actual`."""
    wanted = [clip(visible(line)) for line in expected.split("\n")]
    got = [clip(visible(line)) for line in actual.split("\n")]
    at = first_difference(wanted, got) or 0
    # difflib is quadratic, and `actual` is the student's: compare a window that starts just above the difference.
    top = max(0, at - CONTEXT)
    window = slice(top, top + 40)
    rows = [line for line in difflib.ndiff(wanted[window], got[window], None, None) if not line.startswith("?")]
    changed = [index for index, line in enumerate(rows) if line[0] in "+-"]
    if not changed:
        return f"  they part in line {at + 1}, beyond character {WIDTH}"
    shown = [line for index, line in enumerate(rows) if any(abs(index - change) <= CONTEXT for change in changed[:12])]
    lines = [f"  {line.rstrip()}" for line in shown]
    lines.insert(0, f"  from line {top + 1}; - is missing, + is unexpected:")
    if len(got) > window.stop:
        lines += ["  the last lines of the actual text:"] + [f"    {line}" for line in got[-3:]]
    return "\n".join(lines)


def in_words(value: object) -> str:
    """A value as a student wants to read it: numbers also in hex, bytes as hex digits, long things cut."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return f"{value:#x} ({value})" if abs(value) > 9 else str(value)
    if isinstance(value, bytes):
        return clip(f"{len(value)} bytes: {value[:32].hex(' ')}{' …' if len(value) > 32 else ''}")
    if isinstance(value, list):
        return clip("[" + ", ".join(in_words(item) for item in value[:8]) + (", …]" if len(value) > 8 else "]"))
    if isinstance(value, dict):
        items = list(value.items())[:8]
        inside = ", ".join(f"{visible(str(key))}: {in_words(item)}" for key, item in items)
        return clip("{" + inside + (", …}" if len(value) > 8 else "}"))
    return clip(visible(repr(value) if isinstance(value, str) else str(getattr(value, "what", value))))


def table(rows: Sequence[tuple[str, str, str]]) -> str:
    """Field, expected, actual in columns."""
    rows = [("", "expected", "actual"), *rows]
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f"  {name:<{first}}  {want:<{second}}  {got}".rstrip() for name, want, got in rows)
