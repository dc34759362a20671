"""Lab 05, costs: percentiles, who takes the time, and the price of one exit."""

from __future__ import annotations

from math import ceil
from typing import Any

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.lab05_common import LOOP, of

# ---- 05.8 percentile ----


def nearest_rank(values: list[int], percent: int) -> int:
    return sorted(values)[-(-percent * len(values) // 100) - 1]


def some_times(nonces: Nonces, label: str, many: int) -> list[int]:
    """Quick exits and a few slow ones, no two alike, in no order."""
    quick = [1000 + 7 * n + nonces.range(f"quick {label} {n}", 0, 7) for n in range(many)]
    for n in range(many // 8):
        quick[n] *= 1000
    quick.sort(key=lambda value: nonces.u64(f"order {label} {value}"))
    while many > 2 and quick[-1] in (min(quick), max(quick)):  # or who forgets to sort gets the last one right
        quick.insert(0, quick.pop())
    return quick


def percentiles(nonces: Nonces) -> list[Case]:
    cases = []
    for many in (4, 1, 100, 37, 10):
        values = some_times(nonces, str(many), many)
        asked = [100, 50, 1, 99, 90, 25, nonces.range(f"percent {many}", 2, 99)]
        calls = [[values, percent] for percent in asked]
        right = [nearest_rank(values, percent) for percent in asked]
        cases.append(Case({"calls": calls}, right, of(many, "value")))
    return [*cases, twins(nonces), round_ranks(nonces)]


def twins(nonces: Nonces) -> Case:
    """Values that occur more than once: each of them counts."""
    low = nonces.range("low", 1000, 2000)
    values = [low] * 7 + [low + 10] * 2 + [low + 500]
    values.sort(key=lambda value: nonces.u64(f"twins {value}"))
    asked = (50, 70, 71, 90, 91)
    return Case({"calls": [[values, each] for each in asked]}, [nearest_rank(values, each) for each in asked],
                "10 values, some of them alike")  # fmt: skip


def round_ranks(nonces: Nonces) -> Case:
    """Percents of a hundred values: their ranks are whole numbers, which fractions of 100 miss (7 / 100 * 100 > 7)."""
    values = some_times(nonces, "whole", 100)
    asked = (7, 14, 28, 55, 56)
    return Case({"calls": [[values, each] for each in asked]}, [nearest_rank(values, each) for each in asked],
                "100 values, at ranks that are whole numbers")  # fmt: skip


def ranked(case: Case, obs: Observation) -> Finding:
    seen = obs.list("values")
    for place, wanted in enumerate(case.expected):
        values, percent = case.inputs["calls"][place]
        actual = seen[place] if place < len(seen) else None
        if type(actual) is int and actual == wanted:
            if obs.list("kept")[place : place + 1] != [True]:
                return fail(f"`percentile(values, {percent})` is right, and has changed `values`", "kept")
            continue
        shown = actual if isinstance(actual, (int, float)) else describe(actual)
        message = f"`percentile(values, {percent})` is {wanted}, not {shown}, where the values are {some(values)}"
        return fail(message, wrong_rank(values, percent, actual))
    return OK


def some(values: list[int]) -> str:
    return str(values) if len(values) <= 10 else f"{len(values)} numbers from {min(values)} to {max(values)}"


def wrong_rank(values: list[int], percent: int, actual: object) -> str:
    in_order, rank = sorted(values), -(-percent * len(values) // 100)
    different, fractional = sorted(set(values)), ceil(percent / 100 * len(values))
    wrong = {
        "twins": nearest_rank(different, percent) if different != in_order else None,
        "float": in_order[fractional - 1] if fractional > rank else None,
        "none": in_order[-1] if percent * len(values) < 100 else None,
        "down": in_order[max(percent * len(values) // 100 - 1, 0)],
        "order": values[rank - 1],
        "beyond": in_order[min(percent * len(values) // 100, len(values) - 1)],
        "largest": in_order[::-1][rank - 1],
    }
    if type(actual) is float:
        return "average"
    key = next((key for key, value in wrong.items() if value == actual), "rank")
    return {"none": "down"}.get(key, key)


# ---- 05.9 tally ----

PLACES = (("out", "port 0x3f8"), ("in", "port 0x3fd"), ("in", "port 0x3f8"), ("write", "address 0xd0000000"))


def samples(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(3):
        # One is called often and is quick, one hardly ever and is very slow; the others lie between.
        # The first has more than 100, so that its 99th percentile isn't its largest; the third has twins.
        many, base, alike = [160, 9, 25, 14], [900, 90_000, 2_000, 5_000], [1, 1, 2, 1]
        drawn = [[kind, place, base[n] + 10 * (i // alike[n]) + nonces.range(f"ns{run}{n}{i // alike[n]}", 0, 10)]
                 for n, (kind, place) in enumerate(PLACES) for i in range(many[n])]  # fmt: skip
        drawn.sort(key=lambda sample: nonces.u64(f"order{run}{sample[2]}"))
        cases.append(Case({"calls": [[drawn]]}, rows(drawn), f"{len(drawn)} samples, list {run + 1} of 3"))
    return cases


def rows(drawn: list[list[Any]]) -> list[list[Any]]:
    made = []
    for kind, place in PLACES:
        times = [ns for *where, ns in drawn if where == [kind, place]]
        made.append([kind, place, len(times), nearest_rank(times, 50), nearest_rank(times, 99), sum(times)])
    return sorted(made, key=lambda row: -int(row[-1]))


FIELDS = ("kind", "place", "count", "p50", "p99", "total")


def tallied(case: Case, obs: Observation) -> Finding:
    given = obs.list("values")
    seen = given[0] if given and isinstance(given[0], list) else []
    if not given or not isinstance(given[0], list) or not all(isinstance(row, list) for row in seen):
        return fail("`tally` must give a list of tuples", "tuple")
    if any(len(row) != len(FIELDS) for row in seen):
        return fail(f"a row has {len(FIELDS)} parts: {', '.join(FIELDS)}", "tuple")
    wanted = {tuple(row[:2]): row for row in case.expected}
    if sorted(map(str, (row[:2] for row in seen))) != sorted(map(str, (list(key) for key in wanted))):
        message = f"{of(len(seen), 'row')} where there are {len(wanted)} pairs of kind and place"
        return fail(message, "heaps" if len(seen) > len(wanted) else "rows")
    for row in seen:
        right = wanted[row[0], row[1]]
        for field, value, actual in zip(FIELDS, right, row, strict=True):
            if type(actual) is not type(value) or actual != value:
                shown = actual if isinstance(actual, (int, float)) else describe(actual)
                return fail(f"{row[0]} {row[1]}: {field} is {shown} where {value} is expected", field)
    return OK if seen == case.expected else fail("the rows are right, and in the wrong order", "order")


# ---- 05.10 cost ----


def races(nonces: Nonces) -> list[Case]:
    cases = []
    for run, price in enumerate((850, 9_300, 31_000)):
        rounds = nonces.range(f"rounds{run}", 500, 3000)
        start, exit = nonces.range(f"start{run}", 10**6, 10**7), price + nonces.range(f"exit{run}", 0, 300)
        quiet = [start + nonces.range(f"quiet{run}{n}", 10_000, 10**6) for n in range(5)]
        loud = [start + rounds * exit + nonces.range(f"loud{run}{n}", 10_000, 10**6) for n in range(5)]
        loud[1] *= 4  # the host was busy
        quiet[run] *= 5
        right = (min(loud) - min(quiet)) / rounds
        cases.append(Case({"calls": [[rounds, loud, quiet]]}, right, f"{rounds} rounds, timed five times"))
    return cases


def weighed(case: Case, obs: Observation) -> Finding:
    given = obs.list("values")
    actual, (rounds, loud, quiet) = (given[0] if given else None), case.inputs["calls"][0]
    if type(actual) not in (int, float):
        return fail(f"{describe(actual)} where a number of ns is expected", "number")
    if abs(actual - case.expected) <= 1:
        return OK
    means = sum(loud) / 5, sum(quiet) / 5
    medians = sorted(loud)[2], sorted(quiet)[2]
    wrong = {
        "base": min(loud) / rounds, "rounds": min(loud) - min(quiet), "mean": (means[0] - means[1]) / rounds,
        "median": (medians[0] - medians[1]) / rounds, "units": case.expected / 1000,
    }  # fmt: skip
    key = next((key for key, value in wrong.items() if abs(actual - value) <= 1), "number")
    return fail(f"an exit costs {case.expected:.1f} ns here, not {actual:.1f}", {"median": "mean"}.get(key, key))


CHECKS = (
    Check(
        "05.8", "percentiles by nearest rank", 1,
        exercise="percentile", driver="called_with", cases=percentiles, judge=ranked,
        hints=(
            Hint("rank", "In order, the values have ranks from 1 on. The rank is `percent * n / 100`, rounded up."),
            Hint("order", "First in order: `sorted(values)`."),
            Hint("down", "The rank is rounded up: of four values, 90 percent are not reached by three. And there is no "
                 "rank 0."),
            Hint("beyond", "Ranks count from 1, Python's places from 0. The classic mistake takes item `percent * n // "
                 "100`, one too far.", when="IndexError"),
            Hint("twins", "Values that are alike count each for itself: no `set`."),
            Hint("float", "A fraction is seldom exact: `7 / 100 * 100` is a little more than 7, and is rounded up to "
                 "8. Stay with whole numbers: `-(-a // b)`."),
            Hint("kept", "`values.sort()` sorts the caller's own list, `sorted(values)` a new one."),
            Hint("average", "Nearest rank makes no averages: the answer is one of the values."),
            Hint("largest", "From the smallest on: the 100th percentile is the largest."),
            LOOP,
        ),
    ),
    Check(
        "05.9", "who takes the time", 1,
        exercise="tally", driver="called_with", cases=samples, judge=tallied,
        hints=(
            Hint("order", "The largest total first. The classic mistake sorts by the count: what comes often need not "
                 "be what costs."),
            Hint("rows", "A row for each pair of kind *and* place: reads and writes of one port are two things."),
            Hint("heaps", "One row for each kind and place. Its samples don't come one behind the other: gather all of "
                 "them first."),
            Hint("count", "How many samples there are of this kind and place. (Two that took the same time are two.)"),
            Hint("p50", "`percentile(times, 50)`, of this row's times only."),
            Hint("p99", "`percentile(times, 99)`, of this row's times only."),
            Hint("total", "The sum of all times of this kind and place."),
            Hint("tuple", "Each row is a tuple (kind, place, count, p50, p99, total)."),
            Hint("unpack", "A sample has three parts: kind, place, ns.", when="unpack"),
            LOOP,
        ),
    ),
    Check(
        "05.10", "the price of an exit", 1,
        exercise="cost", driver="called_with", cases=races, judge=weighed,
        hints=(
            Hint("number", "The difference of the two minima, shared out among the rounds: one number, in ns."),
            Hint("base", "That is a whole round. What both loops do, and the start of the guest, is no exit: take away "
                 "the quiet loop."),
            Hint("rounds", "That is for all rounds together: divide by `rounds`."),
            Hint("mean", "A run that the host disturbed spoils a mean, and moves a median. Noise only adds: take the "
                 "minimum of each list."),
            Hint("units", "In nanoseconds, as the lists are."),
            LOOP,
        ),
    ),
)  # fmt: skip
