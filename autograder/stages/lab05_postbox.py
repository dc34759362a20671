"""Lab 05, a device of one's own: the same letters for fewer exits, and a guest that lies."""

from __future__ import annotations

from typing import Any

from autograder.judge import fail, same_text
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.common import guest
from autograder.stages.lab05_common import LOOP, number, of
from autograder.stages.models import expected_console

POST = int.from_bytes(b"POST", "little")


def posted(nonces: Nonces) -> list[Case]:
    cases = []
    for run, size in enumerate((40, 64, 100)):
        parameters = {"nonce": nonces.u64(f"nonce{run}"), "count": nonces.range(f"count{run}", 400, 700), "size": size,
                      "address": 0x8000 + nonces.range(f"at{run}", 0, 0x1000), "option": 0x700 + 16 * run}  # fmt: skip
        label = f"{parameters['count']} letters, {size} at a time"
        cases.append(Case(guest("postman", **parameters), expected_console("postman", parameters), label))
    return cases


def delivered(case: Case, obs: Observation) -> Finding:
    plain, boxed = obs.list("without"), obs.list("with")
    if not all(len(each) == 2 and isinstance(each[0], bytes) and type(each[1]) is int for each in (plain, boxed)):
        return fail("the guest did not run to its end")
    if odd := obs.list("odd"):
        return fail(f"`read` gave {number(odd[0])} where a number of 4 bytes is expected", "number")
    if boxed[1] >= plain[1]:
        return fail(
            f"it took {boxed[1]} exits with the postbox and {plain[1]} without: the guest didn't find it", "magic"
        )
    if boxed[0] != case.expected:
        key = "nothing" if not boxed[0] else "letters"
        return fail(same_text(case.expected, boxed[0], "what the postbox sent").message, key)
    if 10 * boxed[1] > plain[1]:
        return fail(f"it took {boxed[1]} exits with the postbox and {plain[1]} without: a tenth is expected", "exits")
    return OK


def lies(nonces: Nonces) -> list[Case]:
    """[step, what the read gives or None, what is sent, hint] each."""
    cases = []
    memory, port = 0x10000, 0x700
    at, n = nonces.range("at", 0x1000, 0xE000), nonces.range("n", 20, 60)
    letters, last = nonces.bytes("letters", 100), nonces.bytes("last", 64)
    end = memory - len(last)

    def case(label: str, *steps: tuple[list[Any], Any, bytes, str]) -> None:
        inputs = {"memory": memory, "port": port, "letters": [[at, letters], [end, last]]}
        expected = [[*rest] for _, *rest in steps]
        cases.append(Case(inputs | {"script": [step for step, *_ in steps]}, expected, label))

    def ring(buffer: int, length: int, text: bytes, key: str) -> tuple[tuple[list[Any], Any, bytes, str], ...]:
        return (["write", 0, 4, buffer], None, b"", "bell"), (["write", 4, 4, length], None, text, key), (
            ["read", 4, 4], len(text), b"", "sent")  # fmt: skip

    case(
        "a guest that is honest",
        (["read", 0, 4], POST, b"", "magic"), (["read", 4, 4], 0, b"", "sent"),
        *ring(at, n, letters[:n], "letters"), (["write", 4, 4, 5], None, letters[:5], "buffer"),
        (["read", 4, 4], 5, b"", "sent"), *ring(at + 3, 0, b"", "zero"),
    )  # fmt: skip
    case(
        "letters up to the last byte of memory",
        *ring(end, len(last), last, "edge"),
        *ring(memory - 1, 1, last[-1:], "edge"),
    )
    honest = ring(at, n, letters[:n], "after")
    case("one letter too many", *honest, *ring(end, len(last) + 1, b"", "beyond"), *honest)
    case("a length of 4 GiB less one", *ring(at, 0xFFFF_FFFF, b"", "beyond"))
    case(
        "a buffer where no memory is",
        *ring(0xFFFF_FFF0, n, b"", "buffer-beyond"),
        *ring(memory, 1, b"", "buffer-beyond"),
    )
    case(
        "accesses that are not of 4 bytes",
        *ring(at, n, letters[:n], "letters"), (["write", 4, 1, 9], None, b"", "narrow"),
        (["write", 6, 2, 9], None, b"", "narrow"), (["write", 0, 2, 0], None, b"", "narrow"),
        (["read", 0, 1], 0, b"", "narrow"), (["read", 2, 2], 0, b"", "narrow"), (["read", 4, 2], 0, b"", "narrow"),
        (["write", 4, 4, n], None, letters[:n], "narrow"),
    )  # fmt: skip
    case(
        "accesses between the registers",
        *ring(at, n, letters[:n], "letters"),
        *((["write", offset, 4, 9], None, b"", "narrow") for offset in (1, 2, 3, 5, 7)),
        *((["read", offset, 4], 0, b"", "narrow") for offset in (1, 2, 3, 5, 7)),
        (["write", 4, 4, n], None, letters[:n], "narrow"),
    )
    return cases


def in_words(step: list[Any]) -> str:
    kind, offset, size, *value = step
    to = f"{value[0]:#x} to" if value else "at"
    return f"a {kind} of {of(size, 'byte')}, {to} offset {offset}"


def not_fooled(case: Case, obs: Observation) -> Finding:
    answers, script = obs.list("answers"), case.inputs["script"]
    for place, (step, (value, text, key)) in enumerate(zip(script, case.expected, strict=True)):
        answer = answers[place] if place < len(answers) else None
        actual, sent = answer if isinstance(answer, list) and len(answer) == 2 else (None, None)
        if sent != text:
            count = len(sent) if isinstance(sent, bytes) else 0
            many = f"{of(count, 'letter')} sent where {len(text)} are expected"
            return fail(f"{in_words(step)}: {many if count != len(text) else 'other letters were sent'}", key)
        if value is not None and (type(actual) is not int or actual != value):
            return fail(f"{in_words(step)} gives {number(actual)} where {value:#x} is expected", key)
    wanted = [case.inputs["port"], case.inputs["port"] + 8]
    if obs.raw("claim") != wanted or obs.raw("length") != case.inputs["memory"]:
        return fail("the claim, or the guest's memory, was changed", "letters")
    return OK


BYTES = Hint("bytes", "`send` takes bytes, as they lie in memory: they need not be text.", when="encoding|Unicode")

CHECKS = (
    Check(
        "05.13", "the same letters for a tenth of the exits", 1,
        exercise="Postbox", driver="letters", cases=posted, judge=delivered, guests=("postman",),
        hints=(
            Hint("magic", "A guest looks before it uses anything: 4 bytes at offset 0 must read as the number that "
                 "spells POST, lowest byte first."),
            Hint("letters", "Length letters, from the buffer's address on, each time that the bell rings."),
            Hint("nothing", "Nothing was sent. A write to offset 4 is the bell: `self.send(bytes(…))`."),
            Hint("number", "Every `read` gives a number, 0 where there is nothing to read."),
            Hint("exits", "One exit a batch is enough: is everything sent at the bell?"),
            BYTES, LOOP,
        ),
    ),
    Check(
        "05.13b", "a guest that lies gets nothing", 1,
        exercise="Postbox", driver="letters_by_hand", cases=lies, judge=not_fooled,
        hints=(
            BYTES,
            Hint("beyond", "The letters reach beyond the guest's memory. The classic mistake trusts the length: send "
                 "nothing unless `self.buffer + value <= len(self.memory)`.", when="MemoryError|MiB"),
            Hint("buffer-beyond", "A short length is no proof: the buffer itself lies outside. Look at where the "
                 "letters *end*."),
            Hint("edge", "The last byte of memory is memory, too: `<=`, not `<`."),
            Hint("after", "A lie must not break the postbox: the next honest length is served as ever."),
            Hint("sent", "Offset 4 reads as how many letters the last length has sent: 0 at first, and 0 after a "
                 "refusal."),
            Hint("bell", "Only the length rings: a write to offset 0 says where the buffer is, and sends nothing."),
            Hint("narrow", "Only accesses of 4 bytes, at offsets 0 and 4, mean anything: others read 0 and do "
                 "nothing."),
            Hint("letters", "Length letters, from the buffer's address on."),
            Hint("buffer", "The buffer's address stays until the guest gives another."),
            Hint("refuse", "A guest's lie must not stop your VMM: send nothing, and go on.",
                 when="ValueError|AssertionError|IndexError|RuntimeError|OverflowError"),
            Hint("zero", "A length of 0 sends nothing, and is no lie."),
            Hint("magic", "4 bytes at offset 0 read as the number that spells POST, lowest byte first."),
            LOOP,
        ),
    ),
)  # fmt: skip
