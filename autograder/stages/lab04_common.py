"""What the stages of lab 04 share: addresses, frames and lists from nonces, how a guest ended, two hints."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from autograder import judge
from autograder.judge import fail
from autograder.model import OK, Case, Finding, Hint, Limits
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import guest
from autograder.stages.lab04_models import far_writer_values
from autograder.stages.lab04_tables import NAMES, PAT, SHIFTS, USER, WRITABLE, Tables, canonical
from autograder.stages.models import expected_console

LIST = 0x8000  # where a guest finds its list
RAM_PAGES = range(0x200, 0x800)  # frames for what is mapped, above the tables
Access = tuple[bool, bool, bool]  # write, user, fetch
ACCESSES: list[Access] = [(write, user, fetch) for user in (False, True)
                          for write, fetch in ((False, False), (True, False), (False, True))]  # fmt: skip


ORDER = tuple(NAMES[shift] for shift in SHIFTS)
UPPER_RIGHTS = WRITABLE | USER


# A guest needs milliseconds; an emulated host, with a processor that others use too, may need seconds.
LIMITS, SHADOW_LIMITS = Limits(seconds=8.0), Limits(seconds=16.0)


# ---- cases ----


def far(nonces: Nonces, label: str, upper: bool = False) -> int:
    """A page's virtual address in one half, out of the guest's own 512 GiB."""
    return canonical(nonces.range(label, 1 << 27, 1 << 35) << 12 | upper << 47)


def frames(nonces: Nonces, pages: range = RAM_PAGES) -> list[int]:
    """The physical pages in an order of their own."""
    return [number << 12 for number in _shuffled(nonces, pages)]


@lru_cache(maxsize=8)  # the cases of a check ask again and again, and 1500 digests take some milliseconds
def _shuffled(nonces: Nonces, pages: range) -> list[int]:
    return nonces.shuffled("frame", pages)


def written(nonces: Nonces, label: str, addresses: list[int]) -> tuple[dict[str, Any], list[list[Any]], dict[str, Any]]:
    """far-writer on these addresses: its inputs, its list for `plant`, and what comes of it."""
    parameters = {"nonce": nonces.u64(label), "address": LIST, "count": len(addresses)}
    values = [value.to_bytes(4, "little") for value in far_writer_values(parameters["nonce"], len(addresses))]
    expected = {"values": values, "console": expected_console("far-writer", parameters)}
    return guest("far-writer", **parameters), [[LIST, numbers(addresses)]], expected


def inside(nonces: Nonces, label: str) -> int:
    """An offset for 4 bytes in a page."""
    return nonces.range(label, 0, 1024) << 2


def numbers(values: list[int], size: int = 8) -> bytes:
    return b"".join(value.to_bytes(size, "little") for value in values)


def low(tables: Tables) -> Tables:
    """The first 2 MiB where they are, in one large page, for the guest's code and stack."""
    place = tables.map(0, 0, shift=21)
    tables.entries[place] &= ~PAT
    return tables


def access_list(tried: list[tuple[int, Access]]) -> bytes:
    """What rights-prober reads: an address and a sum of 1, 2 and 4 for each access."""
    return b"".join(numbers([va, write | user << 1 | fetch << 2]) for va, (write, user, fetch) in tried)


# ---- judges ----


def ended(obs: Observation, hint: str = "died") -> Finding:
    """Whether the guest halted, as all guests of this lab do."""
    if obs.str("stop") == "halted":
        return OK
    text = f"the guest did not halt: {obs.str('stop')}. {obs.str('why')}".rstrip()
    return fail("\n".join(part for part in (text, judge.show_exits(obs.exits[-6:])) if part), hint)


def on_console(obs: Observation, expected: bytes, hint: str = "") -> Finding:
    return judge.same_text(expected, obs.bytes("console"), "what the guest printed", hint)


def wrote(case: Case, obs: Observation, hint: str, what: str = "what the guest wrote") -> Finding:
    """The verdict on far-writer: the bytes that it left, and what it printed."""
    finding = judge.same_value(case.expected["values"], obs.list("bytes"), what, hint)
    return finding if not finding.ok else on_console(obs, case.expected["console"])


def number(value: Any) -> str:
    return f"{value:#x}" if type(value) is int else describe(value)


# ---- hints ----


TYPES = Hint("types", "A number was expected, or a tuple, and something else came: does every path return?",
             when="TypeError|ValueError: (not enough|too many)|unpack")  # fmt: skip


DIED = Hint(
    "died",
    "The guest lost its own code or stack. Two things do that: entries that the guest needs were overwritten, or "
    "point to the wrong place.",
)
