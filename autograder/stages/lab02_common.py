"""What the judges of lab 02 share: a guest's image, and the verdict on its whole run."""

from __future__ import annotations

from autograder import judge
from autograder.model import OK, Finding
from autograder.observation import Observation
from minivmm import guests


def image(name: str, **parameters: int) -> bytes:
    return guests.load(name).patched(**parameters)


def ran(expected: bytes, obs: Observation, hint: str) -> Finding:
    """A guest's whole run: the state was taken, it printed what it should, it halted."""
    if "refused" in obs:
        return judge.fail(f"KVM_SET_SREGS would refuse the state: {obs.str('refused')}", hint)
    console, stop = obs.bytes("console"), obs.str("stop")
    if console == expected and stop == "halted":
        return OK
    found = judge.same_bytes(expected, console, "the guest's console", hint)
    parts = (found.message, f"the guest ended with: {stop}", judge.show_exits(obs.exits))
    return judge.fail("\n".join(part for part in parts if part), hint)
