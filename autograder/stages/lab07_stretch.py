"""Lab 07, stretch problems: checked like the others, and worth no points."""

from __future__ import annotations

from autograder.differences import in_words
from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import LOOP
from autograder.stages.lab07_common import one_value
from autograder.stages.lab07_models import counter
from autograder.stages.lab07_share import SHARE, fair

# ---- 07.11 clock_scale ----


ROUGH = 63_999_991  # kHz: five doublings of a rounded mul make an error that can be seen


def rates(nonces: Nonces) -> list[Case]:
    made = [1_000_000, 2_000_000, 999_999, 100, 5_000_000, ROUGH, nonces.range("slow", 1000, 900_000)]
    made += [nonces.range(f"fast{n}", 1_000_001, 6_000_000) for n in range(3)]
    return [Case({"calls": [[khz]]}, None, f"a TSC of {khz} kHz") for khz in made]


def scaled(case: Case, obs: Observation) -> Finding:
    khz, answer = case.inputs["calls"][0][0], (obs.list("values") or [None])[0]
    if not (isinstance(answer, list) and [type(each) for each in answer] == [int, int]):
        return fail(f"{describe(answer)} where a tuple of two whole numbers is expected", "numbers")
    mul, shift = answer
    if not (0 < mul < 1 << 32 and -32 <= shift <= 31):
        return fail(f"mul {mul:#x}, shift {shift}: mul has 32 bits in the page, shift eight, signed", "fits")
    ns = mul * 2.0**shift / 2**32
    # One unit of mul is less than 5e-10 of it; rounding up is as good as rounding down.
    if abs(ns * khz / 1e6 - 1) > 5e-10:
        message = f"mul {mul:#x} and shift {shift} make {ns:.9g} ns of a tick; {1e6 / khz:.9g} is expected"
        return fail(message, "small" if abs(ns * khz / 1e6 - 1) < 1e-2 or mul < 1 << 31 else "scale")
    return OK if mul >= 1 << 31 else fail(f"mul is {mul:#x}: its highest bit is unused", "small")


# ---- 07.12 status ----


def status_byte(mode: int, count: int, elapsed: int | None) -> int:
    out = mode != 0 if elapsed is None else counter(mode, count, elapsed)[1]
    return out << 7 | (elapsed is None) << 6 | 0x30 | mode << 1


def statuses(nonces: Nonces) -> list[Case]:
    n = nonces.range("count", 50, 5000)
    asked = [
        (0, n, None),
        (2, n, None),
        (3, n, None),
        (0, n, n - 1),
        (0, n, n),
        (0, n, 2 * n),
        (2, n, n - 1),
        (2, n, 1),
    ]
    asked += [(3, n, n - 1), (3, n, 0)]
    return [Case({"calls": [list(each)]}, status_byte(*each), f"status{each}") for each in asked]


def status_told(case: Case, obs: Observation) -> Finding:
    mode, right = case.inputs["calls"][0][0], case.expected
    wrong = {"null": right ^ 0x40, "out": right ^ 0x80, "access": right & ~0x30, "place": right & 0xF0 | mode}
    return one_value(case, obs, {k: v for k, v in wrong.items() if v != right}, "place", "the status")


# ---- 07.13 PatientTimer ----


def owed(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(3):
        count = nonces.range(f"count{run}", 100, 3000) | 1
        waits = [nonces.range(f"wait{run}{n}", 1, 5 * count) for n in range(10)]
        total, before, wanted = 0, 0, []
        for wait in waits:
            total += wait
            wanted.append(total // count - before)
            before = total // count
        inputs = {"start": nonces.range(f"start{run}", 10**5, 10**6), "count": count, "waits": waits}
        inputs["idle"] = nonces.range(f"idle{run}", 1, 5 * count)  # so that the load is no multiple of anything
        cases.append(Case(inputs, wanted, f"a period of {count} ticks"))
    return cases


def all_paid(case: Case, obs: Observation) -> Finding:
    fired, wanted = obs.ints("fired"), case.expected
    if odd := [each for each in obs.list("vectors") if each != 8]:
        return fail(f"`fire` gave {in_words(odd[0])} where 8 is expected", "vector")
    if fired == wanted:
        return OK
    message = f"after each wait it fired {fired} times where {wanted} are expected"
    return fail(message, "lost" if sum(fired) < sum(wanted) else "again")


# ---- 07.14 share_by_weight ----


def weighted(nonces: Nonces) -> list[Case]:
    length = nonces.range("length", 200, 400)
    cases = []
    for run, weights in enumerate(((1, 2), (3, 1), (1, 2, 4))):
        vms = []
        for number, weight in enumerate(weights):
            pieces = [nonces.range(f"piece{run}{number}{n}", 10, 60) for n in range(60 * weight)]
            vms.append({"pieces": pieces, "weight": weight})
        cases.append(Case({"length": length, "vms": vms}, None, f"weights {weights}"))
    return cases


CHECKS = (
    Check(
        "07.11", "stretch: from kHz to mul and shift", 0,
        exercise="clock_scale", driver="called_with", cases=rates, judge=scaled,
        hints=(
            Hint("scale", "A tick is 1 000 000 / khz ns. The guest computes (ticks << shift) * mul >> 32, so mul is "
                 "2**32 times the ns of a tick, divided by 2**shift."),
            Hint("fits", "A tick of 1 ns or longer needs a positive shift, or mul has more than 32 bits."),
            Hint("small", "Too coarse. The largest mul below 2**32 has the smallest error: halve or double it until "
                 "its highest bit is set, with the shift to match, and divide only once, at the end."),
            Hint("numbers", "Return (mul, shift), two whole numbers: `//`, not `/`."),
            LOOP,
        ),
    ),
    Check(
        "07.12", "stretch: the status byte of a counter", 0,
        exercise="status", driver="called_with", cases=statuses, judge=status_told,
        hints=(
            Hint("place", "OUT in bit 7, null count in bit 6, access in bits 4 and 5, the mode in bits 1 to 3."),
            Hint("null", "Null count is 1 while the counter has not been loaded (`elapsed` is None), 0 afterwards."),
            Hint("out", "Bit 7 is the output. Before the first load it is low in mode 0, high in modes 2 and 3.",
                 when="NoneType"),
            Hint("access", "Access is 3, low byte and then high byte: both bits set."),
            LOOP,
        ),
    ),
    Check(
        "07.13", "stretch: no tick is lost", 0,
        exercise="PatientTimer", driver="owed_ticks", cases=owed, judge=all_paid,
        hints=(
            Hint("lost", "Ticks were lost: `fire` must step over one rise, the one that was due, and not over all that "
                 "have passed."),
            Hint("again", "More fired than came: each `fire` moves `seen` to the rise that it takes, `self.next`."),
            Hint("vector", "`fire` returns the vector, 8, as in `PitTimer`."),
            LOOP,
        ),
    ),
    Check(
        "07.14", "stretch: shares by weight", 0,
        exercise="share_by_weight", driver="shared", cases=weighted, judge=fair,
        hints=(
            Hint("unfair", "A VM of weight 2 may run twice as long as one of weight 1: compare `ran / weight`."),
            Hint("ran", "`ran` is what the VM has really had, in ticks; only the comparison is weighted."),
            *SHARE,
        ),
    ),
)  # fmt: skip
