"""Lab 07, a slice of time: it ends when it should, and leaves nothing behind for the next."""

from __future__ import annotations

from errno import EFAULT, EINVAL, EIO, errorcode
from types import SimpleNamespace
from typing import Any

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import guest
from autograder.stages.lab07_models import pieces_of_work
from minivmm.kvm import KVM_EXIT_HLT, KVM_EXIT_IO


def a_worker(nonces: Nonces, label: str, count: int) -> dict[str, int]:
    return {"nonce": nonces.u64(label), "count": count, "value": nonces.range(f"value {label}", 60, 200), "option": 63}


def sliced(parameters: list[dict[str, int]], slices: list[list[int]]) -> list[list[Any]]:
    """[guest, has it halted, ticks, letters, length] of each slice. A guest that has halted gets no more."""
    left = [pieces_of_work(SimpleNamespace(**each)) for each in parameters]
    log: list[list[Any]] = []
    for number, length in slices:
        if any(each[0] == number and each[1] for each in log):
            continue
        used, letters = 0, ""
        while left[number] and used < length:
            letter, ticks = left[number].pop(0)
            used, letters = used + ticks, letters + letter
        log.append([number, used < length, used, letters, length])
    return log


def slice_case(nonces: Nonces, label: str, counts: tuple[int, ...], slices: list[list[int]], between: int) -> Case:
    workers = [a_worker(nonces, f"{label} {number}", count) for number, count in enumerate(counts)]
    inputs = {
        "start": nonces.range(f"start {label}", 1, 10**6),
        "guests": workers,
        "slices": slices,
        "between": between,
    }
    return Case(inputs, sliced(workers, slices), label)


def cut_in_time(nonces: Nonces) -> list[Case]:
    length = nonces.range("length", 300, 700)
    return [
        slice_case(nonces, "slices of one guest", (12,), [[0, length + 10 * n] for n in range(9)], 0),
        slice_case(nonces, "a slice that is longer than all the work", (5,), [[0, 10**6]], 0),
        no_exit(nonces),
        failure(nonces),
    ]


def no_exit(nonces: Nonces) -> Case:
    """A guest that is acted: it works on and on, and leaves only at its HLT, so that only the alarm can end a slice."""
    step, pieces = nonces.range("step", 20, 60), nonces.range("pieces", 10, 20)
    length = pieces * step  # a slice ends with a piece of work, and not one later
    work = [step] * (3 * pieces + pieces // 2)
    acts = [{"work": work, "exit": KVM_EXIT_HLT, "flag": 0, "ready": 0}]
    inputs = {"start": nonces.range("start of it", 1, 10**6), "acts": acts, "lengths": [length] * 4} | guest("worker")
    wanted = [[False, length]] * 3 + [[True, pieces // 2 * step]]
    return Case(inputs, wanted, f"slices of {length} ticks, of a guest that works without any exit")


def failure(nonces: Nonces) -> Case:
    """KVM_RUN fails in earnest."""
    error = nonces.choice("error", (EFAULT, EIO, EINVAL))
    acts = [{"work": [50], "exit": KVM_EXIT_IO, "flag": 0, "ready": 0}, {"error": error}]
    inputs = {"start": nonces.range("start of failure", 1, 10**6), "acts": acts, "lengths": [1000]} | guest("worker")
    return Case(inputs, errorcode[error], f"a KVM_RUN that fails with {errorcode[error]}")


def acted(case: Case, obs: Observation) -> Finding:
    """[answer, name of the error, ticks, is the alarm still set] of each slice of a guest that is acted."""
    log = [each for each in obs.list("log") if isinstance(each, list) and len(each) == 4]
    if isinstance(case.expected, str):
        answer, raised, *_ = log[0] if log else (None, "", 0, False)
        if isinstance(raised, str) and raised not in ("", "TooManyExitsError"):
            return OK
        became = "`run_slice` called it again and again" if raised else f"the answer was {describe(answer)}"
        return fail(f"KVM_RUN failed with {case.expected}, and {became}, where the error is expected", "swallowed")
    for number, (answer, ticks) in enumerate(case.expected):
        actual, raised, used, alarm = log[number] if number < len(log) else (None, "", 0, False)
        where = f"slice {number + 1} ({case.inputs['lengths'][number]} ticks)"
        if raised:
            return fail(f"{where}: {raised}", "eintr")
        if used != ticks:
            text = f"{where}: the guest, which makes no exit, worked for {used} ticks where {ticks} are expected"
            if type(used) is int and used > ticks:
                return fail(text, "polled" if used > 2 * ticks else "long")
            return fail(text, "stale" if number else "short")
        if actual is not answer:
            return fail(f"{where}: {describe(actual)} where {answer} is expected", "answer")
        if alarm:
            return fail(f"{where} is over, and its alarm is still set", "alarm")
    return OK


def nothing_left_over(nonces: Nonces) -> list[Case]:
    length = nonces.range("length", 400, 700)
    turns = [[n % 2, length if n % 2 else 10**5] for n in range(2)] + [[1, length]] * 8
    return [
        slice_case(nonces, "a guest that halts long before its slice is over", (3, 14), turns, 10**5),
        slice_case(nonces, "two guests in turn", (8, 8), [[n % 2, length] for n in range(8)], 3 * length),
    ]


def each_slice(case: Case, obs: Observation) -> Finding:
    if "acts" in case.inputs:
        return acted(case, obs)
    log = [each for each in obs.list("log") if isinstance(each, list) and len(each) == 5]
    for number, (wanted, actual) in enumerate(zip(case.expected, log, strict=False)):
        guest, halted, used, letters, length = wanted
        where = f"slice {number + 1} (guest {'AB'[guest]}, {length} ticks)"
        if actual[3] != letters or actual[2] != used:
            message = (
                f"{where}: the guest printed {actual[3]!r} in {actual[2]} ticks where {letters!r} in {used} is expected"
            )
            short = isinstance(actual[3], str) and len(actual[3]) < len(letters)
            return fail(message, "stale" if short and number else "short" if short else "long")
        if bool(actual[1]) is not halted or not isinstance(actual[1], bool):
            return fail(f"{where}: {describe(actual[1])} where {halted} is expected", "answer")
        if actual[4]:
            ended = "the guest has halted" if halted else "its time is over"
            return fail(f"{where}: {ended}, and its alarm is still set", "alarm")
    return OK if len(log) == len(case.expected) else fail("not all slices were run", "short")


ANSWER = Hint("answer", "True if the guest has halted, False if its slice is over.")


CHECKS = (
    Check(
        "07.7", "a slice ends in time", 1,
        exercise="run_slice", driver="run_a_slice", cases=cut_in_time, judge=each_slice, guests=("worker",),
        hints=(
            Hint("long", "The guest went on when its time was over. The alarm should set `page.immediate_exit` to 1: "
                 "the next KVM_RUN then gives EINTR instead of running."),
            Hint("short", "The slice ended too soon. Set the alarm for the length of the slice, once; and hand over "
                 "the function itself, `clock.set(ticks, ring)`, not what a call of it returns.", when="not callable"),
            Hint("stale", "A slice that ended before it began: `immediate_exit` was still 1. KVM never clears it, so "
                 "you must, at the latest before the next slice."),
            ANSWER,
            Hint("alarm", "The slice is over, and its alarm is still set: `clock.cancel()` where the guest halts "
                 "early."),
            Hint("polled", "A guest need not leave: one that computes makes no exit for minutes. The classic mistake "
                 "looks at the clock, or at a note, between two exits; only the alarm gets a word in, and KVM_RUN then "
                 "gives EINTR."),
            Hint("swallowed", "Only EINTR is the end of a slice. Any other errno is a failure of KVM's, and whoever "
                 "hides it runs a dead guest for ever: `raise` it again."),
            Hint("eintr", "KVM_RUN fails with EINTR when `immediate_exit` is set: that is how a slice ends, not an "
                 "error. Catch KvmError, and look at its `errno`.", when="EINTR|Interrupted"),
            Hint("served", "HLT ends the slice: look at `page.exit_reason` before you call `guest.serve`.",
                 when="no device's"),
            Hint("endless", "The guest never came back: what sets `immediate_exit`?",
                 when="more than 6000|still running"),
        ),
    ),
    Check(
        "07.7b", "nothing is left over for the next slice", 1,
        exercise="run_slice", driver="run_a_slice", cases=nothing_left_over, judge=each_slice, guests=("worker",),
        hints=(
            Hint("alarm", "A guest that halts early leaves its alarm behind, and it rings in somebody else's slice. "
                 "The classic mistake cancels it in one of the two ways out only."),
            Hint("stale", "A slice ended before it began. `immediate_exit` stays 1 until somebody clears it, and KVM "
                 "never does."),
            Hint("long", "The guest went on when its time was over: see check 07.7."),
            Hint("short", "The slice ended too soon: see check 07.7.", when="not callable"),
            ANSWER,
            Hint("eintr", "EINTR is how a slice ends: see check 07.7.", when="EINTR|Interrupted"),
            Hint("endless", "The guest never came back: see check 07.7.",
                 when="more than 6000|still running|no device's"),
        ),
    ),
)  # fmt: skip
