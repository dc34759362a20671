"""Lab 07, one thread for several VMs: whose turn it is, and what was stolen from the others."""

from __future__ import annotations

from typing import Any

from autograder.judge import fail, same_value
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.lab07_slice import a_worker
from autograder.stages.models import expected_console


def shares(nonces: Nonces) -> list[Case]:
    length = nonces.range("length", 300, 600)
    brisk = [nonces.range(f"brisk{n}", 10, 60) for n in range(300)]
    heavy = [nonces.range(f"heavy{n}", 2 * length, 3 * length) for n in range(12)]
    short = [nonces.range(f"short{n}", 10, 60) for n in range(30)]
    cases = [
        ("one of them overruns its slices", [brisk, heavy]), ("one of them ends early", [brisk, short]),
        ("three", [brisk[:150], heavy[:6], brisk[150:]]),
    ]  # fmt: skip
    made = [Case({"length": length, "vms": [{"pieces": p} for p in all]}, None, label) for label, all in cases]
    workers = [a_worker(nonces, f"worker{n}", 10 + 4 * n) for n in range(2)]
    consoles = [expected_console("worker", each) for each in workers]
    inputs = {"length": length, "vms": [{"parameters": each} for each in workers]}
    return [*made, Case(inputs, consoles, "two guests that print")]


def run_log(obs: Observation) -> list[list[Any]]:
    """[name, ticks, was it dead] of each slice."""
    return [each[:3] for each in obs.list("log") if isinstance(each, list) and len(each) == 4]


def ended(case: Case, obs: Observation) -> Finding:
    """Every VM came to its end, and none was run behind it."""
    for name, used, dead in run_log(obs):
        if dead:
            return fail(f"VM {name} was run again after it had halted ({used} ticks)", "halted")
    known, told = "ABCDEFGH"[: len(case.inputs["vms"])], obs.list("vms")
    if [vm[0] for vm in told if isinstance(vm, list) and len(vm) == 4] != list(known):
        return fail("the VMs got lost", "all")
    if not {name for name, *_ in run_log(obs)} >= set(known):
        return fail("not every VM was run", "all")
    asleep = [vm[0] for vm in told if not vm[3]]
    if asleep:
        return fail(f"VM {', '.join(asleep)} never came to its end", "all")
    return OK


def longest(case: Case) -> int:
    """The longest piece of work, in ticks."""
    pieces: list[int] = [ticks for vm in case.inputs["vms"] for ticks in vm.get("pieces", [300])]
    return max(pieces)


def fair(case: Case, obs: Observation) -> Finding:
    if not (finding := ended(case, obs)).ok:
        return finding
    weighted = any("weight" in vm for vm in case.inputs["vms"])
    asked = [each[3] for each in obs.list("log") if isinstance(each, list) and len(each) == 4]
    if not weighted and (other := [each for each in asked if each != case.inputs["length"]]):
        return fail(f"`run` was asked for a slice of {describe(other[0]) if type(other[0]) is not int else other[0]} "
                    f"ticks where {case.inputs['length']} are expected", "ticks")  # fmt: skip
    log, ran = run_log(obs), dict.fromkeys((vm[0] for vm in obs.list("vms")), 0)
    last = {name: number for number, (name, *_) in enumerate(log)}
    weights = {"ABCDEFGH"[n]: vm.get("weight", 1) for n, vm in enumerate(case.inputs["vms"])}
    most = case.inputs["length"] + longest(case)
    for number, (name, used, _) in enumerate(log):
        ran[name] += used
        awake = [each for each in ran if last[each] > number]
        parts = [ran[each] / weights[each] for each in awake]
        if parts and max(parts) - min(parts) > most:
            shown = ", ".join(f"{each} {ran[each]}" for each in awake)
            return fail(f"after {number + 1} slices they had run for {shown} ticks", "unfair")
    for name, told, _, _ in obs.list("vms"):
        if told != ran[name]:
            return fail(f"`ran` of VM {name} is {describe(told)} where {ran[name]} is expected", "ran")
    for n, wanted in enumerate(case.expected or []):
        if not (finding := same_value(wanted, obs.list("consoles")[n], f"the console of {'AB'[n]}", "all")).ok:
            return finding
    return OK


def lost(case: Case, obs: Observation) -> Finding:
    if not (finding := ended(case, obs)).ok:
        return finding
    log = run_log(obs)
    last = {name: number for number, (name, *_) in enumerate(log)}
    for name, _, told, _ in obs.list("vms"):
        others = [(number, used) for number, (each, used, _) in enumerate(log) if each != name]
        wanted = sum(used for number, used in others if number < last[name])
        if told == wanted:
            continue
        message = (
            f"`stolen` of VM {name} is {describe(told) if type(told) is not int else told} where {wanted} is expected"
        )
        if told == sum(used for _, used in others):
            return fail(message, "asleep")
        length = case.inputs["length"]
        nominal = sum(length for number, _ in others if number < last[name])
        return fail(message, "length" if told == nominal else "own" if told == wanted + own(log, name) else "stolen")
    return OK


def own(log: list[list[Any]], name: str) -> int:
    return sum(used for each, used, _ in log if each == name)


ENDLESS = Hint("endless", "`share` must end once every VM has halted, and run each again and again until it has.",
               when="still running|more than 2000")  # fmt: skip


SHARE = (
    Hint("halted", "A VM that has halted needs no time: choose among those whose `halted` is false."),
    Hint("all", "Go on until every VM has halted."),
    Hint("key", "`min` must be told by what: `key=lambda vm: vm.ran`.", when="not supported between"),
    Hint("empty", "All have halted: there is nobody left to choose.", when="empty|IndexError"),
    ENDLESS,
)  # fmt: skip


CHECKS = (
    Check(
        "07.8", "each gets its share of the time", 1,
        exercise="share", driver="shared", cases=shares, judge=fair, guests=("worker",),
        hints=(
            Hint("unfair", "In turn is not fair: a guest whose exits take long overruns its slice each time. Choose "
                 "the one that has *run* least so far, `min(…, key=…)`."),
            Hint("ran", "`run` says how many ticks the VM has really had: add that to `ran`, not the length."),
            Hint("ticks", "Each slice is as long as `ticks` says: `run(vm, ticks)`. With longer ones the others wait "
                 "too long, with shorter ones the switches cost too much."),
            *SHARE,
        ),
    ),
    Check(
        "07.8b", "what was stolen from those who waited", 1,
        exercise="share", driver="shared", cases=shares, judge=lost, guests=("worker",),
        hints=(
            Hint("stolen", "While one VM runs, each *other* that wanted to run has lost exactly that time."),
            Hint("asleep", "A VM that has halted wants nothing, so nothing is stolen from it. The classic mistake "
                 "counts its rest as steal time, and an idle guest believes that it is starved."),
            Hint("own", "Nobody steals from the VM that runs."),
            Hint("length", "Stolen is the time that the other really took, as `run` says, not the length of a slice."),
            *SHARE,
        ),
    ),
)  # fmt: skip
