"""Lab 01, tasks 6 and 7: what an OUT carries, and what an IN is answered."""

from __future__ import annotations

from typing import Any

from autograder import judge
from autograder.model import Case, Finding
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.lab01_common import a_port, ran, text
from autograder.stages.models import expected_console

# ---- 01.6: bytes_of ----


def widths(nonces: Nonces) -> list[Case]:
    return [
        out_case("hello", {"nonce": nonces.u64("hello")}, 0, "bytes, one by one"),
        out_case("port-widths", {"nonce": nonces.u64("widths"), "port": a_port(nonces, "port")}, 0, "1, 2 and 4 bytes"),
    ]


def strings(nonces: Nonces) -> list[Case]:
    cases = []
    for guest, items in (("rep-outsb", "bytes"), ("rep-outsw", "words")):
        parameters = {"nonce": nonces.u64(guest), "count": nonces.range(f"{guest} count", 3, 40)}
        parameters["port"] = a_port(nonces, f"{guest} port")
        shift = 16 * nonces.range(f"{guest} shift", 1, 60)
        cases.append(out_case(guest, parameters, shift, f"a string of {items} in one exit"))
    return cases


def out_case(guest: str, parameters: dict[str, int], shift: int, words: str) -> Case:
    return Case({"guest": guest, "parameters": parameters, "shift": shift}, expected_console(guest, parameters), words)


def all_bytes(case: Case, obs: Observation) -> Finding:
    pieces, shapes = obs.list("pieces"), obs.list("shapes")
    for piece in pieces:
        if isinstance(piece, str):
            return judge.fail(f"`bytes_of` returned {piece} where bytes are expected", "type")
    sent = b"".join(pieces)
    ended = judge.same_value("halted", obs.str("how"), "the end of the guest")
    return judge.all_of(judge.same_bytes(case.expected, sent, "the bytes sent", too_few(pieces, shapes)), ended)


def too_few(pieces: list[bytes], shapes: list[Any]) -> str:
    """Which of `size` and `count` explains the lengths of the pieces; where both are right, the place is wrong."""
    for piece, (size, count) in zip(pieces, shapes, strict=False):
        if len(piece) != size * count:
            return "rep-count" if len(piece) == size else "rep-size" if len(piece) in (1, count) else "length"
    return "data-offset"


# ---- 01.7: fill ----


def widths_read(nonces: Nonces) -> list[Case]:
    line = text(nonces, "line", nonces.range("length", 5, 30)) + b"\0"
    echo = {"nonce": nonces.u64("echo"), "port": a_port(nonces, "echo port")}
    seven = nonces.bytes("seven", 7)
    answers = [int.from_bytes(part, "little") for part in (seven[:1], seven[1:3], seven[3:])]
    wide = {"nonce": nonces.u64("wide"), "port": a_port(nonces, "wide port")}
    return [
        in_case("port-echo", echo, line, line, expected_console("port-echo", echo, received=line), "a line, typed"),
        in_case(
            "port-widths",
            wide,
            seven,
            seven,
            expected_console("port-widths", wide, answers=answers),
            "reads of 1, 2 and 4 bytes",
        ),
    ]


def string_read(nonces: Nonces) -> list[Case]:
    typed = nonces.bytes("typed", nonces.range("length", 6, 90))
    parameters = {"nonce": nonces.u64("nonce"), "count": len(typed), "port": a_port(nonces, "port")}
    console = expected_console("rep-insb", parameters, received=typed)
    return [in_case("rep-insb", parameters, typed, typed, console, "one exit for many bytes")]


def nothing_left(nonces: Nonces) -> list[Case]:
    probe = {"nonce": nonces.u64("probe"), "value": a_port(nonces, "unknown")}
    five = nonces.bytes("five", 5)
    answers = [five[0], int.from_bytes(five[1:3], "little"), int.from_bytes(five[3:] + b"\xff\xff", "little")]
    wide = {"nonce": nonces.u64("wide"), "port": a_port(nonces, "wide port")}
    return [
        in_case("unknown-port", probe, b"", b"\xff" * 7, expected_console("unknown-port", probe), "nothing typed"),
        in_case(
            "port-widths",
            wide,
            five,
            five + b"\xff\xff",
            expected_console("port-widths", wide, answers=answers),
            "less typed than is read",
        ),
    ]


def in_case(guest: str, parameters: dict[str, int], typed: bytes, answers: bytes, console: bytes, words: str) -> Case:
    port = parameters.get("value", parameters.get("port", 0))
    inputs = {"guest": guest, "parameters": parameters, "typed": typed, "port": port, "stale": b"\x5a\xa5"}
    return Case(inputs, (answers, console), words)


def answered(case: Case, obs: Observation) -> Finding:
    wanted, console = case.expected
    pieces = obs.list("answers")
    given = b"".join(piece for piece in pieces if isinstance(piece, bytes))
    key = "filler"
    if b"\x5a\xa5" in given or given[1:2] == b"\xa5":
        key = "rep-count"
    elif given[:1] == b"\x5a" != wanted[:1]:
        key = "place"
    elif given[:2] == wanted[:1] * 2 != wanted[:2]:
        key = "take-away"
    finding = judge.same_bytes(wanted, given, "the answers", key)
    if finding.ok:
        left = max(0, len(case.inputs["typed"]) - len(wanted))
        finding = judge.same_value(left, obs.int("left"), "the number of bytes left in `typed`", "take-away")
    return finding if not finding.ok else ran(console, obs)
