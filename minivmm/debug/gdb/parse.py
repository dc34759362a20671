"""What the data of a packet holds: numbers and bytes in hex, ranges, points; and what an answer can be.

Source: the GDB manual, appendix E, "Packets".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from minivmm.debug.gdb.model import Action
from minivmm.debug.gdb.points import Kind, Point, UnsupportedError

OK, NONE = b"OK", b""  # NONE: a command that we don't have


class CommandError(ValueError):
    """A command that can't be done; its text goes to gdb, which shows it."""


@dataclass(frozen=True)
class Resume:
    """Lets vCPUs go."""

    actions: Mapping[int, Action]


@dataclass(frozen=True)
class Leave:
    """gdb goes. `kill`: and the machine with it."""

    kill: bool


@dataclass(frozen=True)
class Say:
    """Text for gdb's user, then OK."""

    text: str


Answer = bytes | Resume | Leave | Say


def number(text: bytes) -> int:
    if not re.fullmatch(rb"[0-9a-fA-F]{1,16}", text):
        raise CommandError("a number in hex was expected")
    return int(text, 16)


def hex_bytes(text: bytes) -> bytes:
    if not re.fullmatch(rb"(?:[0-9a-fA-F]{2})*", text):
        raise CommandError("bytes in hex were expected")
    return bytes.fromhex(text.decode("ascii"))


def address_and_size(text: bytes) -> tuple[int, int]:
    address, _, size = text.partition(b",")
    return number(address), number(size)


def point(text: bytes) -> Point:
    """type,address,kind; conditions and commands behind a semicolon are gdb's to keep."""
    kind, _, rest = text.partition(b",")
    address, size = address_and_size(rest.partition(b";")[0])
    try:
        return Point(Kind(number(kind)), address, size)
    except ValueError:
        raise UnsupportedError("a kind of point that we don't know") from None
