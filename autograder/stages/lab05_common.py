"""What the stages of lab 05 share: devices drawn from the seed, judges of cycles and counts, hints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from autograder.judge import fail
from autograder.model import OK, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages import common

Device = list[Any]  # name, first address, how many, width, contents
NAMES = ("north", "east", "south", "west", "attic", "cellar")

LOOP = replace(common.LOOP, when="still running|more than 6000|recursion")
OFFSET = Hint(
    "offset",
    "A device counts from its own first address: give it `at - device.claim.start`. The classic mistakes pass the "
    "address, or ask the owner of the first byte for all of them.",
    when="was asked for number",
)
CALL = Hint(
    "call",
    "A device has `read(offset, size)`, which gives a number, and `write(offset, size, value)`, which takes one.",
    when="positional argument|unsupported operand|not supported between|an integer is required|as an integer",
)
NOBODY = Hint("nobody", "Where nobody is, `find` gives None: that has no `read` and no `claim`.", when="NoneType")


def a_device(nonces: Nonces, name: str, first: int, count: int, width: int) -> Device:
    """A device whose bytes the seed decides."""
    return [name, first, count, width, nonces.bytes(f"contents {name}", count)]


def row_of_devices(nonces: Nonces, base: int) -> list[Device]:
    """Four devices, within 24 addresses: two neighbours, a gap, a single address, a gap of two, and a wide one."""
    names = list(NAMES)
    shift = nonces.range("names", 0, len(names))
    north, east, south, west, *_ = names[shift:] + names[:shift]
    return [
        a_device(nonces, north, base + 2, 3, 1),
        a_device(nonces, east, base + 5, 4, 2),
        a_device(nonces, south, base + 11, 1, 1),
        a_device(nonces, west, base + 14, 8, 4),
    ]


def of(count: int, noun: str) -> str:
    """1 byte, 2 bytes."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def number(value: object) -> str:
    """A number as a student would write it, or what it is instead."""
    return hex(value) if type(value) is int else describe(value)


def cycle(entry: object) -> str:
    """A cycle of a device in words."""
    if not (isinstance(entry, list) and len(entry) == 5):
        return describe(entry)
    name, kind, offset, size, value = entry
    arrow = "gives" if kind == "read" else "gets"
    return f"{name}: {kind} of {size} at offset {offset} {arrow} {number(value)}"


def same_log(wanted: Sequence[Any], obs: Observation, hint: str) -> Finding:
    """The cycles that reached the devices, in order."""
    seen = obs.list("log")
    for place, (right, actual) in enumerate(zip(wanted, seen, strict=False)):
        if right != actual:
            return fail(f"cycle {place + 1}: {cycle(actual)}, where the right one is {cycle(right)}", hint)
    if len(seen) != len(wanted):
        return fail(f"the devices saw {len(seen)} cycles where {len(wanted)} are expected", hint)
    return OK


def same_counts(wanted: dict[int, int], obs: Observation, hint: str) -> Finding:
    """What the bus has counted in vain."""
    seen = obs.list("unclaimed")
    right = [[at, wanted[at]] for at in sorted(wanted)]
    if seen == right:
        return OK
    shown = {hex(at): times for at, times in right[:6]}
    pairs = [each for each in seen if isinstance(each, list) and len(each) == 2]
    found = {number(at): times if type(times) is int else describe(times) for at, times in pairs[:6]}
    return fail(f"`bus.unclaimed` begins with {found} where {shown} is expected", hint)
