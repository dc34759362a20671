"""Lab 07, the arithmetic of an 8254 counter: what it holds in three modes, and when its output rises."""

from __future__ import annotations

from autograder import judge
from autograder.judge import fail
from autograder.model import Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import LOOP
from autograder.stages.lab07_common import one_value
from autograder.stages.lab07_models import counter, next_rise

TUPLE = Hint("tuple", "Return two things, (value, out): the 16 bits that the counter holds, and a bool.")
ZERO = Hint("zero", "The counter has 16 bits, and 65536 is the largest count: it is written as 0.",
            when="ZeroDivision|modulo by zero")  # fmt: skip


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
)  # fmt: skip


RISES = (
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
