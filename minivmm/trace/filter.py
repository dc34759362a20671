"""Which exits a trace writes: `--trace-filter 'io,mmio,device=uart,!port=0x3fd'`.

Terms are separated by commas. A bare word is a kind of exit: in, out, read, write (mmio), hlt, rdmsr, …; io, mmio and
msr stand for two each. The others narrow it down:

    port=0x3f8  port=0x3f8-0x3ff      address=0xd0000000-0xd0000fff      where
    device=uart                       a part of the device's name, in upper or lower case
    cpu=1                             the vCPU
    slower=50us                       served in no less than this (ns, us, ms, s)

Terms about the same thing are alternatives, terms about different things must all hold, and "!" before a term leaves
out what it matches: "io,mmio,device=uart" is any port or MMIO access that the UART serves. Ports and addresses are one
thing, the place. Without a filter, all is written but kicks (our own signals to the vCPU): "kick" asks for them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass

from minivmm.exits import Exit, MmioRead, MmioWrite, PortIn, PortOut
from minivmm.trace.kinds import GROUPS, KICK, WORDS, kind_of

KEYS = ("port", "address", "device", "cpu", "slower")
UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}


class TraceFilterError(ValueError):
    """A filter that can't be understood; the text says which term, and what would be right."""


@dataclass(frozen=True, slots=True)
class Served:
    """An exit as a filter sees it, once it is served. `service` is in ns, None where the run ended with it."""

    exit: Exit
    cpu: int
    device: str
    service: int | None


Test = Callable[[Served], bool]


class TraceFilter:
    """A filter made from `text`; an empty one takes every exit but kicks. Raises TraceFilterError."""

    def __init__(self, text: str = "") -> None:
        self._wanted: dict[str, list[Test]] = {}
        self._unwanted: list[Test] = []
        for term in filter(None, (part.strip() for part in text.split(","))):
            topic, test = _term(term.removeprefix("!").strip())
            if term.startswith("!"):
                self._unwanted.append(test)
            else:
                self._wanted.setdefault(topic, []).append(test)
        if "kind" not in self._wanted:
            self._unwanted.append(_kinds((KICK,)))

    def __call__(self, served: Served) -> bool:
        """Whether the trace writes it."""
        return all(any(test(served) for test in tests) for tests in self._wanted.values()) and not any(
            test(served) for test in self._unwanted
        )


def _term(term: str) -> tuple[str, Test]:
    """What a term is about, and the test that it makes."""
    key, equals, value = (part.strip() for part in term.partition("="))
    if not equals:
        if key not in WORDS:
            raise TraceFilterError(f"The trace filter's {term!r} is no kind of exit.{_hint(key, (*WORDS, *KEYS))}")
        return "kind", _kinds(GROUPS.get(key, (key,)))
    if key in ("port", "address"):
        places = _range(term, value)
        return "place", lambda served: _place(served.exit, key) in places
    match key:
        case "device":
            if not value:
                raise TraceFilterError(f"The trace filter's {term!r} names no device: write device=uart.")
            return key, lambda served: value.lower() in served.device.lower()
        case "cpu":
            cpus = _range(term, value)
            return key, lambda served: served.cpu in cpus
        case "slower":
            least = _duration(term, value)
            return key, lambda served: served.service is not None and served.service >= least
    raise TraceFilterError(f"The trace filter's {term!r} asks for {key!r}, which no exit has.{_hint(key, KEYS)}")


def _kinds(kinds: tuple[str, ...]) -> Test:
    return lambda served: kind_of(served.exit) in kinds


def _place(exit: Exit, key: str) -> int:
    if key == "port" and isinstance(exit, PortIn | PortOut):
        return exit.port
    if key == "address" and isinstance(exit, MmioRead | MmioWrite):
        return exit.address
    return -1


def _range(term: str, value: str) -> range:
    first, dash, last = value.partition("-")
    try:
        low = int(first, 0)
        high = int(last, 0) if dash else low
    except ValueError:
        raise TraceFilterError(
            f"The trace filter's {term!r} needs a number or a range, such as 0x3f8 or 0x3f8-0x3ff."
        ) from None
    if not 0 <= low <= high:
        raise TraceFilterError(f"The trace filter's {term!r} is an empty range: write the lower number first.")
    return range(low, high + 1)


def _duration(term: str, value: str) -> int:
    matched = re.fullmatch(r"(\d{1,12}(?:\.\d{1,12})?)(ns|us|µs|ms|s)", value, re.ASCII)
    if not matched:
        raise TraceFilterError(f"The trace filter's {term!r} needs a time with its unit, such as 50us or 1.5ms.")
    return round(float(matched[1]) * UNITS[matched[2]])


def _hint(word: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, known, n=2, cutoff=0.6)
    if close:
        return f" Did you mean {' or '.join(close)}?"
    return f" It knows {', '.join(known)}."
