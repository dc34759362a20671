"""What the parts of lab 01 share: random material, and what every guest run is judged by."""

from __future__ import annotations

from typing import Any

from autograder import judge
from autograder.differences import in_words
from autograder.model import Case, Finding
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.models import expected_console

CONSOLE = 0x3F8
PAGE = 4096


def text(nonces: Nonces, label: str, length: int) -> bytes:
    """`length` letters, none of them 0 or 0xFF."""
    return bytes(ord("a") + byte % 26 for byte in nonces.bytes(label, length))


def a_port(nonces: Nonces, label: str) -> int:
    """A port that no device of a PC claims."""
    return nonces.range(label, 0x500, 0xC00) & ~7


def hello(nonces: Nonces, label: str, inputs: dict[str, Any], words: str) -> Case:
    parameters = {"nonce": nonces.u64(label)}
    whole = {"guest": "hello", "parameters": parameters, **inputs}
    return Case(whole, expected_console("hello", parameters), words)


def ran(console: bytes, obs: Observation) -> Finding:
    """The guest printed this, and halted."""
    how = obs.str("how")
    if how != "halted":
        return judge.fail(with_exits(f"the guest did not reach its HLT; it stopped with: {how}", obs), "guest")
    return judge.same_bytes(console, obs.bytes("console"), "what the guest sent", "guest")


def said(obs: Observation) -> str:
    """The text of the exception that the student's code raised."""
    return obs.str("said") if "said" in obs else in_words(None)


def with_exits(message: str, obs: Observation) -> str:
    # How often a clock of ours interrupted the guest is chance, and no exit of the guest's.
    exits = judge.show_exits([line for line in obs.exits if line != "KVM_RUN: EINTR"])
    return f"{message}\n{exits}" if exits else message
