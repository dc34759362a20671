"""Lab 07, the two ports of an 8254 counter: two bytes in, two bytes out, and a latch."""

from __future__ import annotations

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import LOOP, console_lines, guest, on_console
from autograder.stages.lab07_counter import ZERO
from autograder.stages.lab07_models import counter
from autograder.stages.models import expected_console

A_BYTE = Hint("a-byte", "`read` gives one byte, 0 to 255, at each call.")
NOW = Hint("now", "`now` is a function: the present tick is `self.now()`.", when="'function'|'method'")


# ---- 07.2, by hand ----


def by_hand(nonces: Nonces) -> list[Case]:
    """Two bytes in, two bytes out; the second byte starts the count; a control word begins afresh."""
    cases = []
    for run, mode in enumerate((2, 0, 2)):
        count = nonces.range(f"count{run}", 0x1200, 0xEF00) | 1
        wait, pause, more = (nonces.range(f"{name}{run}", 0x110, 0xD00) for name in ("wait", "pause", "more"))
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
    cases = (
        ("a low byte of 0", "zero-byte", [*control, *low, high, *pair], [0, first >> 8]),
        ("a second count, without a control word", "next-count", [*control, *low, high, *load, *pair],
         [odd & 0xFF, odd >> 8]),
        ("a control word after half a count", "fresh", [*control, *low, *control, *load, *pair],
         [odd & 0xFF, odd >> 8]),
        ("time that passes between two reads", "stale",
         [*control, *load, ["read"], ["wait", wait], ["read"]], [odd & 0xFF, counter(2, odd, wait)[0] >> 8]),
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


# ---- 07.2b and c, the latch ----


def latched(nonces: Nonces) -> list[Case]:
    cases = []
    for run, (word, value) in enumerate(((0x34, 0x0002_FFFC), (0x36, 0x0003_FFFF), (0x30, 0x0001_FFFF))):
        parameters = {"nonce": nonces.u64(f"nonce{run}"), "count": 5, "option": word, "value": value}
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
    count = nonces.range("count", 0x8000, 0xEF00) | 1
    a, b, c = (nonces.range(name, 0x110, 0xD00) for name in "abc")
    script = [["control", 0x34], ["write", count & 0xFF], ["write", count >> 8], ["wait", a], ["control", 0]]
    script += [["wait", b], ["control", 0], ["read"], ["wait", c], ["control", 0], ["read"], ["read"], ["read"]]
    kept, now = counter(2, count, a)[0], counter(2, count, a + b + c)[0]
    again = [["control", 0], ["wait", a], ["read"], ["read"]]
    wanted = [kept & 0xFF, kept >> 8, now & 0xFF, now >> 8, now & 0xFF, now >> 8]
    inputs = {"start": nonces.range("start", 1, 10**6), "script": [*script, *again]}
    inputs["second"] = list(counter(2, count, a + b)[0].to_bytes(2, "little"))
    return [Case(inputs, wanted, "latch, wait, latch again, read")]


def first_latch_kept(case: Case, obs: Observation) -> Finding:
    reads = obs.list("reads")
    if reads == case.expected:
        return OK
    numbers = all(type(each) is int and each >= 0 for each in reads)
    seen = " ".join(f"{each:02x}" for each in reads) if numbers else describe(reads)
    message = f"the reads gave {seen} where {' '.join(f'{each:02x}' for each in case.expected)} is expected"
    if reads[:2] == case.expected[:2]:
        return fail(message, "then")
    if reads[:2] == case.expected[1::-1]:
        return fail(message, "turned")
    return fail(message, "ignored" if reads[:1] == case.inputs["second"][:1] else "kept")


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
            A_BYTE, NOW, ZERO, LOOP,
        ),
    ),
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
        "07.2c", "a second latch waits for the first", 1,
        exercise="Counter", driver="counter_by_hand", cases=second_latch, judge=first_latch_kept,
        hints=(
            Hint("kept", "A latched count stays until it has been read; see 07.2b."),
            Hint("ignored", "The classic mistake: a second latch before the first is read replaces it. \"The second "
                 "Counter Latch Command is ignored\" until both bytes have been read; or an interrupt handler that "
                 "latches too would change the bytes under whoever it interrupted."),
            Hint("then", "The latched pair is right. Behind it, low and high byte take turns again, beginning with "
                 "low, and a new latch works."),
            Hint("turned", "The latched pair came high byte first; see 07.2b."),
            NOW, ZERO, LOOP,
        ),
    ),
)  # fmt: skip
