"""A lab of plain Python, so that the grader can be tested without any device."""

from __future__ import annotations

from autograder import judge
from autograder.model import Case, Check, Finding, Hint, Lab, Limits
from autograder.nonces import Nonces
from autograder.observation import Observation

LIMITS = Limits(seconds=1.0, memory_mib=128)  # a slow machine needs 0.4 s to touch 128 MiB


def numbers(nonces: Nonces) -> list[Case]:
    return [
        Case({"args": [a, b]}, a + b, f"{a} and {b}")
        for a, b in ((nonces.range(f"a{n}", 0, 99), nonces.range(f"b{n}", 1, 99)) for n in range(3))
    ]


def texts(nonces: Nonces) -> list[Case]:
    data = nonces.bytes("data", 40)
    return [Case({"args": [data]}, data[::-1], "40 bytes")]


def lists(nonces: Nonces) -> list[Case]:
    data = [nonces.range(str(n), 0, 9) for n in range(5)]
    return [Case({"numbers": data}, sum(data), f"{len(data)} numbers")]


def negative(nonces: Nonces) -> list[Case]:
    return [Case({"args": [-nonces.range("n", 1, 9)]}, "ValueError")]


def same_number(case: Case, obs: Observation) -> Finding:
    hint = "forgot-b" if obs.raw() == case.inputs.get("args", [None])[0] else ""
    return judge.same_value(case.expected, obs.int(), "the sum", hint)


def same_data(case: Case, obs: Observation) -> Finding:
    return judge.same_bytes(case.expected, obs.bytes(), "what `flip` returned")


def raises(case: Case, obs: Observation) -> Finding:
    return judge.same_value(case.expected, obs.raised, "the exception that `root` raised")


def check(id: str, exercise: str, driver: str, cases: object, verdict: object, *hints: Hint, **more: object) -> Check:
    return Check(id, f"{exercise} works", 2, exercise, driver, cases, verdict, hints, limits=LIMITS, **more)  # type: ignore[arg-type]


LAB = Lab(
    "70",
    "A toy",
    (
        check(
            "70.1", "add", "call", numbers, same_number,
            Hint("sign", "Add, don't subtract."),
            Hint("forgot-b", "The classic mistake is to return the first argument."),
            Hint("unpack", "Arguments come one by one.", when="TypeError"),
        ),
        check("70.2", "flip", "call", texts, same_data, Hint("order", "The last byte comes first.")),
        check("70.3", "Counter", "fill_and_sum", lists, same_number, needs=("add",)),
        check("70.4", "root", "try_call", negative, raises),
        check("70.4b", "root", "call", lambda nonces: [Case({"args": [49]}, 7)], same_number),
    ),
    drivers="toy_drivers",
)  # fmt: skip
