"""Lab 01, tasks 1 and 2: the number of an ioctl, and the system handle."""

from __future__ import annotations

from collections.abc import Callable

from autograder import judge
from autograder.model import OK, Case, Finding
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.lab01_common import said

# ---- 01.1: request_number ----

MISREAD: dict[str, Callable[[int, int, int], int]] = {
    "no-letter": lambda direction, number, size: direction << 30 | size << 16 | number,
    "order": lambda direction, number, size: direction << 30 | number << 16 | 0xAE << 8 | size,
    "direction": lambda direction, number, size: direction << 29 | size << 16 | 0xAE << 8 | number,
    "size": lambda direction, number, size: direction << 30 | size << 14 | 0xAE << 8 | number,
}


def triples(nonces: Nonces) -> list[Case]:
    cases = []
    for n in range(6):
        direction, number = nonces.range(f"direction {n}", 0, 4), nonces.range(f"number {n}", 0, 256)
        size = nonces.range(f"size {n}", 1, 1 << 14) if direction else 0
        label = f"direction {direction}, number {number:#x}, size {size}"
        request = direction << 30 | size << 16 | 0xAE << 8 | number
        cases.append(Case({"arguments": [direction, number, size]}, request, label))
    return cases


def right_number(case: Case, obs: Observation) -> Finding:
    actual = obs.int()
    key = next((key for key, wrong in MISREAD.items() if wrong(*case.inputs["arguments"]) == actual), "")
    return judge.same_value(case.expected, actual, "the request number", key)


# ---- 01.2: open_system ----


def version_12(nonces: Nonces) -> list[Case]:
    return [Case({"version": 12}, label="a kernel that answers 12")]


def usable_handle(case: Case, obs: Observation) -> Finding:
    if obs.raised:
        return judge.fail(f"`open_system` raised {obs.raised} though the API version is 12: {said(obs)}", "twelve")
    obs.int()
    made = obs.bool("makes_vm")
    return OK if made else judge.fail("KVM_CREATE_VM failed on what `open_system` returned", "handle")


def other_versions(nonces: Nonces) -> list[Case]:
    versions = [nonces.range("older", 1, 12), nonces.range("newer", 13, 99)]
    return [Case({"version": version}, label=f"a kernel that answers {version}") for version in versions]


def refuses(case: Case, obs: Observation) -> Finding:
    calls = obs.strs("calls")
    if not obs.raised:
        asked = any(line.startswith("KVM_GET_API_VERSION") for line in calls)
        words = "asked for the version and went on" if asked else "never asked for the version"
        return judge.fail(f"`open_system` {words} where RuntimeError is expected", "refuse" if asked else "ask")
    return judge.same_value("RuntimeError", obs.raised, "the exception that `open_system` raised", "which")
