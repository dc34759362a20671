"""Lab 07, the latch of an 8254 counter: it keeps both bytes until they are read, and leaves all else alone."""

from __future__ import annotations

from types import SimpleNamespace

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import LOOP, console_lines, guest, on_console, suited
from autograder.stages.lab07_counter import ZERO
from autograder.stages.lab07_models import counter, pit_readings
from autograder.stages.lab07_pit import A_BYTE, NOW, a_count
from autograder.stages.models import expected_console


def latched(nonces: Nonces) -> list[Case]:
    cases = []
    for run, (word, value) in enumerate(((0x34, 0x0002_FFFC), (0x36, 0x0003_FFFF), (0x30, 0x0001_FFFF))):
        parameters = {"count": 5, "option": word, "value": value}

        def comes_round(nonce: int, parameters: dict[str, int] = parameters) -> bool:
            readings = pit_readings(SimpleNamespace(**(parameters | {"nonce": nonce})))
            return any(latched > count for count, latched, _ in readings)

        parameters["nonce"] = suited(nonces.u64, f"nonce{run}", comes_round)
        inputs = {"start": nonces.range(f"start{run}", 1, 10**6)} | guest("pit-reader", **parameters)
        cases.append(Case(inputs, expected_console("pit-reader", parameters), f"control word {word:#x}"))
    return cases


def latch_kept(case: Case, obs: Observation) -> Finding:
    if odd := obs.list("odd"):
        return fail(f"`read` gave {describe(odd[0])} where a byte, 0 to 255, is expected", "a-byte")
    lines = console_lines(obs)
    for wanted, actual in zip(case.expected.decode().splitlines(), lines, strict=False):
        if wanted == actual:
            continue  # its bytes may be equal, and "turned" too
        (_, kept, present), words = wanted.split(), actual.split()
        if words[1:] == [present, present]:
            return fail(f"the guest read {actual!r} where {wanted!r} is expected: the latch kept nothing", "latch")
        if words[1:] == [kept, kept]:
            return fail(f"the guest read {actual!r} where {wanted!r} is expected: the latch is still there", "released")
        if words[1:] == [kept[2:] + kept[:2], present]:
            return fail(f"the guest read {actual!r} where {wanted!r} is expected: the bytes of the latch", "turned")
        break
    return on_console(obs, case.expected, "parts")


def second_latch(nonces: Nonces) -> list[Case]:
    a, b, c = (nonces.range(name, 0x110, 0xD00) for name in "abc")
    count = a_count(nonces, "count", 0, a, a + b + c)
    script = [["control", 0x34], ["write", count & 0xFF], ["write", count >> 8], ["wait", a], ["control", 0]]
    script += [["wait", b], ["control", 0], ["read"], ["wait", c], ["control", 0], ["read"], ["read"], ["read"]]
    kept, now = counter(2, count, a)[0], counter(2, count, a + b + c)[0]
    again = [["control", 0], ["wait", a], ["read"], ["read"]]
    wanted = [kept & 0xFF, kept >> 8, now & 0xFF, now >> 8, now & 0xFF, now >> 8]
    inputs = {"start": nonces.range("start", 1, 10**6), "script": [*script, *again]}
    inputs["second"] = list(counter(2, count, a + b)[0].to_bytes(2, "little"))
    return [Case(inputs, wanted, "latch, wait, latch again, read"), *latches(nonces)]


def latches(nonces: Nonces) -> list[Case]:
    """What else is a latch, what ends one, and what it leaves alone. `hint` is what a wrong read shows."""
    counts = [a_count(nonces, f"count {name}", 0) for name in "ab"]
    (low1, high1), (low2, high2) = (count.to_bytes(2, "little") for count in counts)
    first, second = [["write", low1], ["write", high1]], [["write", low2], ["write", high2]]
    loaded, pair, wait = [["control", 0x34], *first], [["read"], ["read"]], ["wait", nonces.range("wait", 0x110, 0xD00)]
    word = ["control", nonces.range("word", 1, 16)]
    cases = (
        ("a latch whose low four bits are not 0", "latch-word", [*loaded, word, wait, *pair], [low1, high1]),
        ("a control word while a latch waits", "left", [*loaded, ["control", 0], ["control", 0x34], *second, *pair],
         [low2, high2]),
        ("a latch between the bytes of a count", "interleaved",
         [*loaded, second[0], ["control", 0], *pair, second[1], *pair], [low1, high1, low2, high2]),
    )  # fmt: skip
    start = nonces.range("start of latches", 1, 10**6)
    return [
        Case({"start": start, "script": script, "hint": hint}, wanted, label) for label, hint, script, wanted in cases
    ]


def first_latch_kept(case: Case, obs: Observation) -> Finding:
    reads = obs.list("reads")
    if reads == case.expected:
        return OK
    numbers = all(type(each) is int and each >= 0 for each in reads)
    seen = " ".join(f"{each:02x}" for each in reads) if numbers else describe(reads)
    message = f"the reads gave {seen} where {' '.join(f'{each:02x}' for each in case.expected)} is expected"
    if "hint" in case.inputs:
        return fail(message, case.inputs["hint"])
    if reads[:2] == case.expected[:2]:
        return fail(message, "then")
    if reads[:2] == case.expected[1::-1]:
        return fail(message, "turned")
    return fail(message, "ignored" if reads[:1] == case.inputs["second"][:1] else "kept")


CHECKS = (
    Check(
        "07.2b", "a latch keeps the count for the guest", 1,
        exercise="Counter", driver="counter_under_a_guest", cases=latched, judge=latch_kept, guests=("pit-reader",),
        hints=(
            Hint("parts", "The count goes through `counter`: if 07.1 or 07.2 is red, mend that first."),
            Hint("latch", "The guest latched, let time pass, and read the present count. A control word whose bits 4 "
                 "and 5 are 0 isn't about the mode: it stores both bytes of the count, for the next two reads."),
            Hint("released", "The latch serves two reads; then the counter is read as it is again."),
            Hint("turned", "The latched pair came high byte first. `latched` is `[value & 0xFF, value >> 8]`, and "
                 "`read` takes from its front: `pop(0)`."),
            A_BYTE, NOW, ZERO, LOOP,
        ),
    ),
    Check(
        "07.2c", "a latch waits to be read, and changes nothing else", 1,
        exercise="Counter", driver="counter_by_hand", cases=second_latch, judge=first_latch_kept,
        hints=(
            Hint("kept", "A latched count stays until it has been read; see 07.2b."),
            Hint("ignored", "The classic mistake: a second latch before the first is read replaces it. \"The second "
                 "Counter Latch Command is ignored\" until both bytes have been read; or an interrupt handler that "
                 "latches too would change the bytes under whoever it interrupted."),
            Hint("then", "The latched pair is right. Behind it, low and high byte take turns again, beginning with "
                 "low, and a new latch works."),
            Hint("latch-word", "A latch is any word whose bits 4 and 5 are 0: the bits below don't count. It leaves "
                 "mode and count alone, and keeps both bytes."),
            Hint("left", "A control word begins afresh, and what a latch still keeps is gone: it waits until it "
                 "is read, or the counter is programmed anew."),
            Hint("interleaved", "A latch leaves a half-written count as it is, and the old count counts until the new "
                 "one is whole."),
            Hint("turned", "The latched pair came high byte first; see 07.2b."),
            NOW, ZERO, LOOP,
        ),
    ),
)  # fmt: skip
