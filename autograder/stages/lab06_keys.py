"""Lab 06, a keyboard: a guest that draws what is typed, and a byte with an edge of its own."""

from __future__ import annotations

from collections.abc import Sequence

from autograder.differences import in_words
from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages import lab06_models as models
from autograder.stages.lab06_bench import chips, ended
from autograder.stages.lab06_hints import hints

OTHER_KEYS = (0x02, 0x10, 0x30, 0x39)


def bursts(nonces: Nonces, name: str, sizes: Sequence[int], escape: bool) -> list[bytes]:
    """Scan codes, with releases between and other keys among them."""
    typed = []
    for number, size in enumerate(sizes):
        codes = bytearray()
        for place in range(size):
            key = nonces.choice(f"{name} key {number} {place}", (*models.MOVES, *models.MOVES, *OTHER_KEYS))
            codes += bytes([key, key | 0x80])
        typed.append(bytes(codes))
    if escape:
        typed[-1] += bytes([models.ESCAPE])
    return typed


def etching(nonces: Nonces, name: str, sizes: Sequence[int], label: str, escape: bool = True) -> Case:
    parameters = chips(nonces, 0xFFF9, name=name)
    typed = bursts(nonces, name, sizes, escape)
    console, places = models.etching(parameters["nonce"], b"".join(typed))
    screen = bytearray(80 * 25)
    for place, letter in places.items():
        screen[place] = letter
    answers = ["asleep"] * len(typed) + ["halted" if escape else "asleep"]
    expected = {"console": console, "screen": bytes(screen), "answers": answers}
    inputs = {"guest": "etch", "parameters": parameters, "script": [], "bursts": typed}
    return Case(inputs, expected, label)


def by_hand(label: str, waiting: bytes, ports: Sequence[int]) -> Case:
    """Single reads of the keyboard's ports, and what they give: (port, answer, bytes left)."""
    left, expected = bytearray(waiting), []
    for port in ports:
        answer = int(bool(left)) if port == 0x64 else left.pop(0) if left else 0
        expected.append((port, answer, len(left)))
    return Case({"waiting": waiting, "ports": list(ports)}, expected, label)


def keys(nonces: Nonces) -> list[Case]:
    code = nonces.choice("code", tuple(models.MOVES))
    return [
        by_hand("a keyboard with two bytes", bytes([code, code | 0x80]), (0x64, 0x60, 0x64, 0x60, 0x64)),
        by_hand("a keyboard with nothing to say", b"", (0x64, 0x60)),
        etching(nonces, "slow", [1, 1, 2], "keys one by one"),
        etching(nonces, "fast", [nonces.range("fast", 6, 12), 3], "many keys at once"),
    ]


def drawn(case: Case, obs: Observation, hint: str) -> Finding:
    """What etch drew and printed."""
    wanted, seen = case.expected["console"].decode(), obs.bytes("console").decode(errors="backslashreplace")
    if seen != wanted:
        return fail(f"the guest printed {seen!r} where {wanted!r} is expected", hint)
    if obs.bytes("screen") != case.expected["screen"]:
        return fail("the drawing on the guest's screen is wrong", hint)
    return OK


def keyboard(case: Case, obs: Observation) -> Finding:
    if "waiting" in case.inputs:
        return read_by_hand(case, obs)
    how = obs.str("stop")
    if how == "asleep" and obs.int("left"):
        return fail(f"the guest sleeps, and {obs.int('left')} scan codes still wait in the keyboard", "edge")
    if how in ("halted", "asleep"):
        finding = drawn(case, obs, "status" if len(obs.bytes("console")) <= 3 else "order")
        if not finding.ok:
            return finding
    return ended(obs, "halted", {"asleep": "order"})


def read_by_hand(case: Case, obs: Observation) -> Finding:
    """Single reads, without a guest: [answer, bytes left, how the line was moved] after each."""
    reads = obs.list("reads")
    for number, (port, wanted, left) in enumerate(case.expected):
        seen = reads[number] if number < len(reads) else None
        actual, still, moves = seen if isinstance(seen, list) and len(seen) == 3 else (None, None, [])
        if type(actual) not in (int, bool) or actual != wanted:
            hint = "empty" if case.inputs["waiting"] == b"" else "status" if port == 0x64 else "order"
            return fail(f"port {port:#x} gave {in_words(actual)} where {in_words(wanted)} is expected", hint)
        if still != left:
            hint = "taken" if port == 0x60 else "status"
            return fail(f"after port {port:#x} was read {in_words(still)} bytes wait where {left} are expected", hint)
        if port == 0x64 and moves:
            return fail("a read of port 0x64 moved the keyboard's line", "status")
        if port == 0x60 and moves[-2:] != [False, True] if left else moves[-1:] == [True]:
            shown = ", ".join("up" if up else "down" for up in moves) or "not at all"
            return fail(f"with {left} bytes left the line was moved: {shown}", "edge")
    return OK


CHECKS = (
    Check(
        "06.12", "a keyboard that interrupts for each byte", 1,
        exercise="read_keyboard", driver="etch_a_sketch", cases=keys, judge=keyboard,
        guests=("etch",),
        hints=hints(
            Hint("status", "Port 0x64 has bit 0 set while a byte waits, and port 0x60 gives the byte that came "
                 "first. Return a number for both, and let a look at the status take nothing away, and move no line.",
                 when="TypeError"),
            Hint("order", "The bytes come in the order in which they were typed, and each one once: take it from "
                 "the front, `waiting.pop(0)`. Reading the *status* takes nothing."),
            Hint("edge", "Each byte needs an edge of its own. The classic mistake leaves the line up when the "
                 "first byte is read: let it fall, and raise it again if, and only if, another byte waits."),
            Hint("empty", "No byte waits: port 0x60 gives 0, and nothing goes wrong.", when="IndexError"),
            Hint("taken", "The byte must leave the keyboard. `waiting.pop(0)` changes the keyboard's own bytes; "
                 "`waiting = waiting[1:]` only makes the name mean something else."),
            Hint("endless", "Interrupts without end: the line is to be raised only while a byte waits, and a byte "
                 "that was read waits no more."),
        ),
    ),
)  # fmt: skip
