"""Lab 01, tasks 8 to 10: KVM_RUN, the run loop, and the whole VMM."""

from __future__ import annotations

from typing import Any

from autograder import judge
from autograder.model import OK, Case, Finding
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.lab01_common import a_port, said, text, with_exits
from autograder.stages.models import expected_console

# ---- 01.8: enter ----


def interruptions(nonces: Nonces) -> list[Case]:
    times = nonces.range("times", 2, 9)
    parameters = {"nonce": nonces.u64("nonce")}
    inputs = {"guest": "hello", "parameters": parameters}
    return [
        Case({**inputs, "error": "EINTR", "times": 0}, 1, "no signal at all"),
        Case({**inputs, "error": "EINTR", "times": times}, times + 1, f"{times} signals before the first exit"),
        Case({**inputs, "error": "EFAULT", "times": 1}, None, "an error that is no signal (EFAULT)"),
    ]


def entered(case: Case, obs: Observation) -> Finding:
    runs = obs.int("runs")
    if case.expected is None:
        if obs.raised == "KvmError" and runs == 1:
            return OK
        words = f"raised {obs.raised}" if obs.raised else "went on as if nothing had happened"
        return judge.fail(f"`enter` {words} where the KvmError must come out", "all-errors")
    if obs.raised:
        return judge.fail(f"`enter` raised {obs.raised}: {said(obs)}", "eintr")
    return judge.all_of(
        judge.same_value(case.expected, runs, "the number of KVM_RUN calls", "once"),
        judge.same_value(2, obs.int("reason"), "the exit reason that is in the page afterwards", "once"),
    )


# ---- 01.9: run_loop ----

ALL_RAM = [(0, 1 << 20)]


def to_the_end(nonces: Nonces) -> list[Case]:
    line = text(nonces, "line", nonces.range("length", 3, 20)) + b"\0"
    echo = {"nonce": nonces.u64("echo")}
    first = {"nonce": nonces.u64("hello")}
    return [
        loop_case("hello", first, expected_console("hello", first), "halted", "a guest that only writes"),
        loop_case(
            "port-echo",
            echo,
            expected_console("port-echo", echo, received=line),
            "halted",
            "a guest that reads and writes",
            typed=line,
        ),
    ]


def three_faults(nonces: Nonces) -> list[Case]:
    parameters = {"nonce": nonces.u64("nonce")}
    console = expected_console("triple-fault", parameters)
    return [loop_case("triple-fault", parameters, console, "triple fault", "a guest that faults three times")]


def not_ours(nonces: Nonces) -> list[Case]:
    keyed = {"nonce": nonces.u64("key"), "address": 0x8000 + 8 * nonces.range("where", 0, 99), "size": 8}
    stepped = {"nonce": nonces.u64("stepped")}
    hole = [(0, 0x8000), (0xC000, 0x4000)]
    return [
        loop_case("checksum-real", keyed, b"", 6, "a guest that reads where no memory is", slots=hole),
        loop_case("hello", stepped, b"", 4, "a guest that is single-stepped", single_step=True),
    ]


def loop_case(
    guest: str, parameters: dict[str, int], console: bytes, end: str | int, words: str, **inputs: Any
) -> Case:
    settings = {"typed": b"", "slots": ALL_RAM, "single_step": False} | inputs
    return Case({"guest": guest, "parameters": parameters, **settings}, (console, end), words)


def looped(case: Case, obs: Observation) -> Finding:
    console, end = case.expected
    if obs.raised:
        hint = "never-ends" if obs.raised == "OverflowError" else "too-strict"
        return judge.fail(with_exits(f"`run_loop` raised {obs.raised}: {said(obs)}", obs), hint)
    handled = obs.strs("handled")
    if wrong_way(handled, obs.exits):
        return judge.fail(with_exits("`on_in` was called for an OUT, or `on_out` for an IN", obs), "direction")
    return judge.all_of(
        judge.same_bytes(console, obs.bytes("console"), "what came out of the guest", "both-ways"),
        judge.same_value(end, obs.raw(), "what `run_loop` returned", "words"),
    )


def wrong_way(handled: list[str], exits: list[str]) -> bool:
    """Whether the first call of a handler does not fit the first port exit."""
    ports = [line for line in exits if line.startswith(("in", "out"))]
    return bool(handled and ports and not ports[0].startswith(handled[0]) and len(exits) < 64)


def refused(case: Case, obs: Observation) -> Finding:
    number = case.expected[1]
    name = {4: "KVM_EXIT_DEBUG", 6: "KVM_EXIT_MMIO"}[number]
    if not obs.raised:
        return judge.fail(with_exits(f"`run_loop` went on after {name} ({number}), or took it for an end", obs), "else")
    if obs.raised == "OverflowError":
        return judge.fail(with_exits(f"`run_loop` went on after {name} ({number})", obs), "else")
    if obs.raised != "RuntimeError":
        return judge.fail(f"`run_loop` raised {obs.raised} where RuntimeError is expected: {said(obs)}", "which")
    text_of = said(obs)
    if str(number) not in text_of and name not in text_of:
        return judge.fail(f'the text of your RuntimeError, "{text_of}", does not name exit reason {number}', "reason")
    return OK


# ---- 01.10: vmm ----


def says_hello(nonces: Nonces) -> list[Case]:
    cases = []
    for n in range(2):
        parameters = {"nonce": nonces.u64(f"nonce {n}")}
        cases.append(vmm_case("hello", parameters, b"", expected_console("hello", parameters), f"hello number {n + 1}"))
    return cases


def talks(nonces: Nonces) -> list[Case]:
    line = text(nonces, "line", nonces.range("length", 5, 40)) + b"\0"
    echo = {"nonce": nonces.u64("echo")}
    typed = text(nonces, "typed", nonces.range("count", 5, 60))
    string = {"nonce": nonces.u64("string"), "count": len(typed)}
    letters = {"nonce": nonces.u64("letters"), "count": nonces.range("letters count", 5, 60)}
    return [
        vmm_case("port-echo", echo, line, expected_console("port-echo", echo, received=line), "the guest port-echo"),
        vmm_case("rep-insb", string, typed, expected_console("rep-insb", string, received=typed), "the guest rep-insb"),
        vmm_case("rep-outsb", letters, b"", expected_console("rep-outsb", letters), "the guest rep-outsb"),
    ]


def other_ports(nonces: Nonces) -> list[Case]:
    probe = {"nonce": nonces.u64("probe"), "value": a_port(nonces, "unknown")}
    typed = text(nonces, "typed", 12)
    quiet = {"nonce": nonces.u64("quiet"), "port": a_port(nonces, "quiet")}
    return [
        vmm_case("unknown-port", probe, typed, expected_console("unknown-port", probe), "a read from another port"),
        vmm_case("hello", quiet, b"", b"", "a greeting to another port"),
    ]


def vmm_case(guest: str, parameters: dict[str, int], typed: bytes, console: bytes, words: str) -> Case:
    return Case({"guest": guest, "parameters": parameters, "typed": typed}, console, words)


def whole(case: Case, obs: Observation) -> Finding:
    value = obs.raw()
    if not isinstance(value, list) or len(value) != 2:
        return judge.fail(f"`vmm` gave {describe(value)} where (how, console) is expected", "pair")
    how, console = value
    if not (isinstance(how, str) and isinstance(console, bytes)):
        given = f"{describe(how)} and {describe(console)}"
        return judge.fail(f"`vmm` gave {given} where a str and bytes are expected", "pair")
    hint = "ports" if console else "console"
    if case.expected and console.endswith(case.expected):
        hint = "earlier"
    out = judge.same_bytes(case.expected, console, "the console", hint)
    finding = judge.all_of(out, judge.same_value("halted", how, "how the guest ended", "how"))
    return Finding(finding.ok, with_exits(finding.message, obs), finding.hint) if not finding.ok else OK
