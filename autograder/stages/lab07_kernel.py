"""Lab 07, a preemptive kernel: the student's counter as a timer, in the student's run loop."""

from __future__ import annotations

from autograder.differences import in_words
from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.common import guest, on_console
from autograder.stages.models import expected_console


def by_hand(nonces: Nonces) -> list[Case]:
    """A timer without a guest: what `next` and `fire` say. A None among the numbers is a None."""
    count = 2 * (nonces.range("count", 500, 2000) | 1)  # a low byte of 0 is 07.2's affair
    start = nonces.range("start", 10**5, 10**6)
    idle, past = nonces.range("idle", 3 * count, 9 * count), nonces.range("past", 1, count)
    loaded = start + idle
    load = [["write", count & 0xFF], ["write", count >> 8]]
    late = [["wait", 2 * count + past]]
    periodic = [["next"], ["wait", idle], ["control", 0x34], *load, ["next"], *late, ["next"], ["fire"], ["next"]]
    once = [["wait", idle], ["control", 0x30], *load, ["next"], ["fire"], ["next"], *late, ["next"], ["fire"], ["next"]]
    return [
        Case({"start": start, "count": count, "script": periodic,
              "hints": ["early", "loaded", "seen", "vector", "forever"]},
             [None, loaded + count, loaded + count, 8, loaded + 3 * count],
             f"a timer that is loaded {idle} ticks after it was made, with {count} in mode 2"),
        Case({"start": start, "count": count, "script": once,
              "hints": ["loaded", "vector", "loaded", "seen", "vector", "over"]},
             [loaded + count, 8, loaded + count, loaded + count, 8, None], f"a timer that is loaded with {count} in "
             "mode 0"),
    ]  # fmt: skip


def answers_by_hand(case: Case, obs: Observation) -> Finding:
    questions = [step for step in case.inputs["script"] if step[0] in ("next", "fire")]
    seen = obs.list("answers")
    for number, ((name,), wanted, hint) in enumerate(zip(questions, case.expected, case.inputs["hints"], strict=True)):
        actual = seen[number] if number < len(seen) else "nothing"
        if type(actual) is type(wanted) and actual == wanted:
            continue
        odd = actual is not None and type(actual) is not int
        message = f"question {number + 1}, `{name}`: {in_words(actual)} where {in_words(wanted)} is expected"
        if name == "next" and not odd and actual in (case.inputs["count"], 3 * case.inputs["count"]):
            return fail(message, "clock")
        return fail(message, "property" if odd and name == "next" else hint)
    return OK


def kernels(nonces: Nonces) -> list[Case]:
    cases = []
    for run, (low, high) in enumerate(((900, 1500), (150, 400), (1500, 2200))):
        parameters = {
            "nonce": nonces.u64(f"nonce{run}"),
            "count": 8,
            "value": nonces.range(f"value{run}", low, high) | 1,
        }
        wanted = expected_console("three-tasks", parameters)
        inputs = {"start": nonces.range(f"start{run}", 10**5, 10**6)} | guest("three-tasks", **parameters)
        cases.append(Case(inputs, wanted, f"a tick each {parameters['value']} ticks of the 8254"))
    return cases


def timers(nonces: Nonces) -> list[Case]:
    return [*by_hand(nonces), *kernels(nonces)]


def three_tasks(case: Case, obs: Observation) -> Finding:
    if "script" in case.inputs:
        return answers_by_hand(case, obs)
    if obs.raw("early") is not None:
        return fail("`next` is not None before the guest has loaded a count", "early")
    printed, wanted = obs.bytes("console"), case.expected
    if stuck := obs.ints("stuck"):
        return fail(
            f"at tick {stuck[0]} the timer has just fired, and `next` is {stuck[1]}: it is still due", "forever"
        )
    if printed == wanted:
        return OK
    if printed == b"A" * len(printed):
        return fail(f"only the first task ran: {printed.decode()!r} where {wanted.decode()!r} is expected", "no-ticks")
    return on_console(obs, wanted, "rhythm")


CHECKS = (
    Check(
        "07.10", "all together: three tasks that never yield", 2,
        exercise="PitTimer", driver="kernel_with_ticks", cases=timers, judge=three_tasks, guests=("three-tasks",),
        needs=("run_timed",),
        hints=(
            Hint("rhythm", "The tasks change at the wrong ticks. The next tick is the first rise behind the last one "
                 "that was taken (`seen`), and it counts from `start`. If an earlier task is red, mend that first."),
            Hint("no-ticks", "Nobody took the processor from the first task: is `next` None, or never due? Once a "
                 "count is loaded, `next` is `start` plus the next rise."),
            Hint("early", "A counter that was never loaded has no next rise: `start` is None, and so is `next`. Nor "
                 "has one of which `next_rise` says None.",
                 when="NoneType"),
            Hint("loaded", "The count was loaded long after the timer was made, so `seen` lies before `start`: count "
                 "from the load then, `max(self.seen - self.start, 0)`, with the counter's own mode."),
            Hint("seen", "A rise that nobody has taken yet stays the next one, also when it is over: count from "
                 "`seen`, not from the present."),
            Hint("clock", "That is counted from the load. `next` is a tick of the clock: `self.start` plus the rise."),
            Hint("over", "Mode 0 rises once. `next_rise` then says None, and so does `next`."),
            Hint("vector", "This kernel's timer has vector 8: `fire` returns it, each time.", when="no device's"),
            Hint("property", "`next` is a property, an attribute that is computed: leave its `@property`, and return "
                 "a number or None."),
            Hint("forever", "After `fire`, `next` must be later than the present, or the guest gets nothing but "
                 "interrupts: `fire` notes the present in `seen`, and `next` counts from `start`, as the clock does."),
            Hint("loop", "Your run loop never ends: mend `run_timed` first (07.4, 07.4b).",
                 when="more than 6000|still running|request_interrupt_window"),
        ),
    ),
)  # fmt: skip
