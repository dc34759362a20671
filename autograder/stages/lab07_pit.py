"""Lab 07, the 8254: three modes, two bytes, a latch, and when its output rises."""

from __future__ import annotations

from autograder import judge
from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import LOOP, console_lines, guest, on_console
from autograder.stages.lab07_common import one_value
from autograder.stages.lab07_models import counter, next_rise
from autograder.stages.models import expected_console

TUPLE = Hint("tuple", "Return two things, (value, out): the 16 bits that the counter holds, and a bool.")
ZERO = Hint("zero", "The counter has 16 bits, and 65536 is the largest count: it is written as 0.",
            when="ZeroDivision|modulo by zero")  # fmt: skip
A_BYTE = Hint("a-byte", "`read` gives one byte, 0 to 255, at each call.")
NOW = Hint("now", "`now` is a function: the present tick is `self.now()`.", when="'function'|'method'")

# ---- 07.1 counter ----


def moments(nonces: Nonces, mode: int, *extra: tuple[int, int]) -> list[Case]:
    """Counts and ticks: the edges of a period, some within, and `extra`."""
    even, odd = 2 * nonces.range("even", 50, 3000), 2 * nonces.range("odd", 50, 3000) + 1
    asked = [(even, 1), (even, 0), (even, even - 1), (even, even + 1), (even, even)]
    asked += [(odd, nonces.range("early", 2, odd // 2)), (odd, nonces.range("late", odd // 2 + 2, odd))]
    asked += [(even, 3 * even + nonces.range("later", 1, even)), *extra]
    return [
        Case({"calls": [[mode, count, elapsed]]}, counter(mode, count, elapsed), f"counter({mode}, {count}, {elapsed})")
        for count, elapsed in asked
    ]


def mode_2(nonces: Nonces) -> list[Case]:
    return moments(nonces, 2, (0, nonces.range("long", 1, 0x10000)), (0, 0))


def mode_0(nonces: Nonces) -> list[Case]:
    count = nonces.range("count", 100, 5000)
    return moments(nonces, 0, (count, count + nonces.range("past", 2, 300)), (0, 0xFFFF), (0, 0x10000))


def mode_3(nonces: Nonces) -> list[Case]:
    odd = 2 * nonces.range("more", 50, 3000) + 1
    return moments(nonces, 3, (odd, odd // 2), (odd, odd // 2 + 1), (odd, odd - 1), (odd, odd), (0, 0x8000))


Mistakes = list[tuple[str, tuple[int, bool]]]  # the key of a hint, and what who needs it would answer


def mistakes_of_mode_0(count: int, elapsed: int, right: tuple[int, bool]) -> Mistakes:
    value, out = right
    stops, late = ("stops", (0, True)), ("late", (value, elapsed > count))
    return [stops, ("reloads", (count - elapsed % count & 0xFFFF, out)), ("negative", (count - elapsed, out)), late]


def mistakes_of_mode_2(count: int, elapsed: int, right: tuple[int, bool]) -> Mistakes:
    value, out = right
    low, longer = ("low-at-0", (value, elapsed % count != 0)), elapsed % (count + 1)
    to_0: Mistakes = [("to-0", (count - longer, seen)) for seen in (out, True, longer != count)]
    once: Mistakes = [("no-reload", counter(0, count, elapsed)), ("no-reload", (count - elapsed & 0xFFFF, out))]
    return [low, ("like-3", counter(3, count, elapsed)), *to_0, *once]


def mistakes_of_mode_3(count: int, elapsed: int, right: tuple[int, bool]) -> Mistakes:
    value, out = right
    into, half, up = elapsed % count, count // 2, (count + 1) // 2
    by_one, down = counter(2, count, elapsed), 2 * (into if into < half else into - half)
    ones: Mistakes = [("by-one", by_one), ("by-one", (by_one[0], out)), ("out", (value, by_one[1]))]
    odd = [((count & ~1) - down, into < half), (count - down, into < half)]
    odd.append((count - 2 * (into if into < up else into - up), out))
    once: Mistakes = [
        ("one-half", ((count & ~1) - 2 * into & 0xFFFF, out)),
        ("one-half", ((count & ~1) - 2 * into, out)),
    ]
    return [*ones, *(("odd", (number & 0xFFFF, high)) for number, high in odd), *once]


OF_MODE = {0: mistakes_of_mode_0, 2: mistakes_of_mode_2, 3: mistakes_of_mode_3}


def counted(case: Case, obs: Observation) -> Finding:
    (mode, count, elapsed), (value, out) = case.inputs["calls"][0], case.expected
    mistakes = OF_MODE[mode](count or 0x10000, elapsed, case.expected)
    if elapsed == 1:
        mistakes.insert(0, ("inverted", (value, not out)))
    if elapsed == 0 and not count:
        mistakes.insert(0, ("wide", (0x10000, out)))
    said = obs.list("values")
    other = "zero" if not count else "out" if judge.same_value(value, _first(obs)).ok else "value"
    key = next((key for key, answer in mistakes if answer != case.expected and said == [list(answer)]), other)
    return one_value(case, obs, {}, key, "(value, out)")


def _first(obs: Observation) -> object:
    values = obs.list("values")
    return values[0][0] if values and isinstance(values[0], list) and values[0] else None


SHARED = (
    TUPLE,
    Hint("inverted", "Just loaded, a counter of mode 0 holds its output low, one of the modes 2 and 3 high."),
    Hint("wide", "A guest reads 16 bits: 65536 is read as 0."),
    ZERO, LOOP,
)  # fmt: skip

# ---- 07.2 Counter ----


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


# ---- 07.3 next_rise ----


def rises(nonces: Nonces) -> list[Case]:
    n, odd = 2 * nonces.range("count", 50, 5000), 2 * nonces.range("odd", 50, 5000) + 1
    at = nonces.range("at", 1, n)
    asked = [(0, n, 0), (0, n, at), (0, n, n - 1), (0, n, n), (0, n, n + at), (2, n, 0), (2, n, n - 1), (2, n, n)]
    asked += [(2, n, 5 * n + at), (3, odd, 0), (3, odd, odd // 2), (3, odd, odd), (3, odd, 3 * odd - 1)]
    asked += [(0, 0, at), (2, 0, 0x10000), (3, 0, 5)]
    return [Case({"calls": [list(each)]}, next_rise(*each), f"next_rise{each}") for each in asked]


def rise(case: Case, obs: Observation) -> Finding:
    mode, count, elapsed = case.inputs["calls"][0]
    full = count or 0x10000
    mistakes = {"behind": elapsed, "distance": None if case.expected is None else case.expected - elapsed}
    if mode == 0:
        mistakes |= {"once": (elapsed // full + 1) * full} if elapsed >= full else {"never": None}
        mistakes |= {"behind": full} if elapsed == full else {}
        if case.expected is None and obs.list("values")[:1] in ([-1], [0], [False]):
            return fail(f"the next rise: {describe(obs.list('values')[0])} where None is expected", "none")
    else:
        mistakes |= {"edge": elapsed // full * full + full - 1} if mode == 2 else {}
        mistakes |= {"half": elapsed // full * full + (full + 1) // 2}
        mistakes |= {"periodic": full, "never": None}
        mistakes |= {"odd": (elapsed // full + 1) * (full - 1)} if mode == 3 and full & 1 else {}
    mistakes = {key: value for key, value in mistakes.items() if value != case.expected}
    return one_value(case, obs, mistakes, "zero" if not count else "multiple", "the next rise")


CHECKS = (
    Check(
        "07.1", "mode 2: a pulse at the end of each period", 1,
        exercise="counter", driver="called_with", cases=mode_2, judge=counted,
        hints=(
            Hint("value", "Mode 2 counts down by one and begins again: `count - elapsed % count`."),
            Hint("low-at-0", "The output is low while the counter holds 1, that is in the *last* tick of a period. A "
                 "counter of mode 2 never shows 0 (but for the 0 that means 65536)."),
            Hint("to-0", "Mode 2 goes from 1 straight back to the full count: a period is `count` ticks, and 0 isn't "
                 "among the values. The classic mistake lets it reach 0."),
            Hint("no-reload", "Mode 2 is periodic: after `count` ticks the counter is loaded again. Take the elapsed "
                 "ticks modulo the count."),
            Hint("like-3", "Only mode 3 counts by twos; mode 2 counts by ones, and is low for one tick."),
            Hint("out", "The value is right. The output of mode 2 is high, but for the one tick in which it holds 1."),
            *SHARED,
        ),
    ),
    Check(
        "07.1b", "mode 0: once, and the counter goes on", 1,
        exercise="counter", driver="called_with", cases=mode_0, judge=counted,
        hints=(
            Hint("value", "Mode 0 counts down by one, and nothing loads it again."),
            Hint("stops", "The classic mistake stops at 0. In mode 0 the output stays high from then on, but the "
                 "counter runs on: below 0 comes 0xFFFF."),
            Hint("reloads", "Mode 0 is no period: nothing loads the count again. Below 0 comes 0xFFFF."),
            Hint("negative", "A counter has 16 bits: below 0 comes 0xFFFF (`& 0xFFFF`)."),
            Hint("late", "The output rises in the tick in which the counter reaches 0, not one later."),
            Hint("out", "The value is right. The output of mode 0 is low until the count is reached, then high for "
                 "good."),
            *SHARED,
        ),
    ),
    Check(
        "07.1c", "mode 3: a square wave, also of an odd count", 1,
        exercise="counter", driver="called_with", cases=mode_3, judge=counted,
        hints=(
            Hint("value", "Mode 3 counts down by two, and does so twice in a period: once with the output high, once "
                 "with it low."),
            Hint("by-one", "Mode 3 counts by *two*, so that it runs through its count twice in each period. The "
                 "classic mistake takes it for mode 2: a guest that reads the counter sees time at half its speed."),
            Hint("odd", "An odd count: the counter starts from the even number below it, and the high half is the "
                 "longer one, by one tick: (count + 1) // 2."),
            Hint("one-half", "At the half of the period the counter is loaded again."),
            Hint("out", "The value is right. The output is high for the first (count + 1) // 2 ticks of each period."),
            *SHARED,
        ),
    ),
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
    Check(
        "07.3", "when the output rises next", 1,
        exercise="next_rise", driver="called_with", cases=rises, judge=rise,
        hints=(
            Hint("multiple", "In modes 2 and 3 the output rises with each load of the count: at count, 2 × count, … "
                 "The first multiple *behind* `elapsed` is `(elapsed // count + 1) * count`."),
            Hint("behind", "The next rise is later than `elapsed`, not the one that happens in this very tick. The "
                 "classic mistake gives the same tick again, and a run loop never gets past it."),
            Hint("distance", "That is how long it takes from now. Wanted is the tick, counted from the load."),
            Hint("once", "Mode 0 fires once. From then on there is nothing to wait for: None."),
            Hint("none", "There is no rise to come: None says so, and no number does."),
            Hint("odd", "Half of an odd count is uneven, but the period is the whole count: `count` ticks from rise to "
                 "rise, in mode 3 as in mode 2."),
            Hint("never", "There is a rise to come, and None says that there is none."),
            Hint("edge", "One tick too early: in the last tick of a period mode 2 goes *low*. It rises with the next."),
            Hint("half", "At the half of its period mode 3 goes low. IRQ0 wants the rise."),
            Hint("periodic", "That was the first one. Modes 2 and 3 rise again and again."),
            ZERO, LOOP,
        ),
    ),
)  # fmt: skip
