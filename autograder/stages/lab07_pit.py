"""Lab 07, the two ports of an 8254 counter: two bytes in, two bytes out."""

from __future__ import annotations

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import LOOP, suited
from autograder.stages.lab07_counter import ZERO
from autograder.stages.lab07_models import counter

A_BYTE = Hint("a-byte", "`read` gives one byte, 0 to 255, at each call.")
NOW = Hint("now", "`now` is a function: the present tick is `self.now()`.", when="'function'|'method'")


def a_count(nonces: Nonces, label: str, *elapsed: int) -> int:
    """A count whose two bytes differ, as do those of what it has become after so many ticks: else nobody could see them
    turned. It does not come round in 0x3000 ticks."""

    def uneven(count: int) -> bool:
        return all(count - ticks >> 8 != count - ticks & 0xFF for ticks in elapsed)

    return suited(lambda name: nonces.range(name, 0x3000, 0xEF00) | 1, label, uneven)


def by_hand(nonces: Nonces) -> list[Case]:
    """Two bytes in, two bytes out; the second byte starts the count; a control word begins afresh."""
    cases = []
    for run, mode in enumerate((2, 0, 2)):
        wait, pause, more = (nonces.range(f"{name}{run}", 0x110, 0xD00) for name in ("wait", "pause", "more"))
        count = a_count(nonces, f"count{run}", 0, wait, wait + more)
        word = 0x30 | mode << 1 | (8 if run == 2 else 0)  # bit 3 means nothing in modes 2 and 3
        load = [["control", word], ["write", count & 0xFF], ["wait", pause], ["write", count >> 8]]
        now = counter(mode, count, wait)[0]
        later = counter(mode, count, wait + more)[0]
        script = [*load, ["wait", wait], ["read"], ["read"], ["wait", more], ["read"], ["read"]]
        wanted = [now & 0xFF, now >> 8, later & 0xFF, later >> 8]
        if run == 1:
            script += [*load, ["read"], *load, ["read"], ["read"]]
            wanted += [count & 0xFF, count & 0xFF, count >> 8]
        inputs = {"start": nonces.range(f"start{run}", 1, 10**6), "script": script, "pause": pause}
        cases.append(Case(inputs, wanted, f"mode {mode}, count {count:#06x}, control word {word:#04x}"))
    return [*cases, *small_things(nonces)]


def small_things(nonces: Nonces) -> list[Case]:
    """What goes wrong where a byte is 0, where a count is half-written, or where time passes between two bytes.
    `hint` is what a wrong read shows."""
    first, second = (0x100 * nonces.range(f"count of {each}", 0x12, 0x7F) for each in ("first", "second"))
    wait = 0x100 * nonces.range("between", 2, 9)
    control, low, high = [["control", 0x34]], [["write", 0x00]], ["write", first >> 8]
    odd = second | nonces.range("odd", 1, 0xFF)
    load = [["write", odd & 0xFF], ["write", odd >> 8]]
    pair = [["read"], ["read"]]
    counts = [a_count(nonces, f"count {name}", 0) for name in "ab"]
    (low1, high1), (low2, high2) = (count.to_bytes(2, "little") for count in counts)
    loaded = [*control, ["write", low1], ["write", high1]]
    in_turns = [["read"], ["write", low2], ["read"], ["write", high2], *pair]
    cases = (
        ("a low byte of 0", "zero-byte", [*control, *low, high, *pair], [0, first >> 8]),
        ("a second count, without a control word", "next-count", [*control, *low, high, *load, *pair],
         [odd & 0xFF, odd >> 8]),
        ("a control word after half a count", "fresh", [*control, *low, *control, *load, *pair],
         [odd & 0xFF, odd >> 8]),
        ("time that passes between two reads", "stale",
         [*control, *load, ["read"], ["wait", wait], ["read"]], [odd & 0xFF, counter(2, odd, wait)[0] >> 8]),
        ("reads and writes in turns", "interleaved", [*loaded, *in_turns], [low1, high1, low2, high2]),
    )  # fmt: skip
    start = nonces.range("start of small things", 1, 10**6)
    return [
        Case({"start": start, "script": script, "pause": 0, "hint": hint}, wanted, label)
        for label, hint, script, wanted in cases
    ]


def reads_by_hand(case: Case, obs: Observation) -> Finding:
    reads, wanted = obs.list("reads"), case.expected
    if reads == wanted:
        return OK
    if len(reads) < 2:
        return fail("the counter was hardly read", "bytes")
    at = next((i for i, (one, two) in enumerate(zip(reads, wanted, strict=False)) if one != two), len(reads))
    shown = describe(reads[at]) if at < len(reads) and type(reads[at]) is not int else ""
    seen = shown or " ".join(f"{each:02x}" for each in reads if isinstance(each, int) and each >= 0)
    message = f"the reads gave {seen} where {' '.join(f'{each:02x}' for each in wanted)} is expected"
    if shown or any(not 0 <= each <= 0xFF for each in reads):
        return fail(message, "a-byte")
    if "hint" in case.inputs:
        return fail(message, case.inputs["hint"])
    if at >= 4:
        return fail(f"{message}; they part at read {at + 1}, after a new control word", "fresh")
    right, count = wanted[0] | wanted[1] << 8, reads[0] | reads[1] << 8
    if reads[1] | reads[0] << 8 == right:
        return fail(message, "order")
    if right - count == case.inputs["pause"]:
        return fail(message, "start")
    return fail(message, "stale" if at >= 2 else "bytes")


CHECKS = (
    Check(
        "07.2", "two bytes in, two bytes out", 1,
        exercise="Counter", driver="counter_by_hand", cases=by_hand, judge=reads_by_hand,
        hints=(
            Hint("bytes", "Low byte first, then high byte, both ways: `value & 0xFF`, `value >> 8`. What is read is "
                 "what `counter(mode, count, now - start)` says. Modes 2 and 3 don't care for bit 3 of the word, so "
                 "the mode is bits 1 and 2."),
            Hint("order", "The low byte comes first, in both directions."),
            Hint("start", "The count begins when its second byte arrives. The classic mistake takes the time at the "
                 "first one."),
            Hint("stale", "The second pair of reads doesn't show the present. Without a latch each byte is taken from "
                 "the counter as it is at that moment, and the two take turns: low, high, low, high."),
            Hint("fresh", "A control word begins afresh: the next byte written, or read, is a low byte again. The "
                 "classic mistake forgets a half-read pair, and from then on every count has its bytes swapped."),
            Hint("zero-byte", "A low byte of 0 is a byte, too. The classic mistake is `if self.low`, which takes it "
                 "for none; ask `self.low is None`."),
            Hint("next-count", "A count is two bytes, each time: once the second has come, `low` is None again, and "
                 "the next byte is the low one of another count."),
            Hint("interleaved", "The two bytes of a count and the two of a reading may come in turns: what is "
                 "half-written stays so, and what is half-read. (8254 datasheet, \"Counter Latch Command\")",
                 when="'int' and 'NoneType'"),
            A_BYTE, NOW, ZERO, LOOP,
        ),
    ),
)  # fmt: skip
