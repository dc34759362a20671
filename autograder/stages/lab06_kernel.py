"""Lab 06, KVM's own chips: a line of theirs that is struck."""

from __future__ import annotations

from typing import Any

from autograder.judge import fail
from autograder.model import Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.lab06_bench import chips, console, ended, pick, pulse
from autograder.stages.lab06_hints import hints
from autograder.stages.models import expected_console


def strikes(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(2):
        line = pick(nonces, f"twice{run}", 1)[0]
        numbers = [pick(nonces, f"a{run}", 3), [line], [line], pick(nonces, f"b{run}", 2)]
        strikes = [[step, each] for step, each in enumerate(numbers)]
        parameters = chips(nonces, name=str(run)) | {"count": 4}
        script = [[step, pulse(*each)] for step, each in enumerate(numbers)]
        console = expected_console("irq-log", parameters, script=script)
        inputs = {"guest": "irq-log", "parameters": parameters, "strikes": strikes}
        cases.append(Case(inputs, {"console": console}, f"line {line} struck twice"))
    return cases


def struck(case: Case, obs: Observation) -> Finding:
    told = changes(obs.list("told"))
    wanted = [[line, level] for _, numbers in case.inputs["strikes"] for line in numbers for level in (1, 0)]
    if not told:
        return fail("KVM_IRQ_LINE was never called", "ioctl")
    for number, pair in enumerate(wanted):
        actual = told[number] if number < len(told) else None
        if actual != pair:
            seen = f"irq {actual[0]}, level {actual[1]}" if isinstance(actual, list) and len(actual) == 2 else "nothing"
            which = isinstance(actual, list) and len(actual) == 2 and actual[0] == pair[0]
            text = f"call {number + 1} of KVM_IRQ_LINE said {seen} where irq {pair[0]}, level {pair[1]} is expected"
            again = len(told) == 2 * len(wanted)
            return fail(text, "once" if again else "falls" if which or pair[1] == 0 else "line")
    if len(told) > len(wanted):
        return fail(f"{len(told)} calls of KVM_IRQ_LINE where {len(wanted)} are expected", "once")
    finding = ended(obs)
    return finding if not finding.ok else console(case, obs)


def changes(told: list[Any]) -> list[Any]:
    """The calls without those that lower a line which is down: they change nothing."""
    up: set[Any] = set()
    kept = []
    for each in told:
        if isinstance(each, list) and len(each) == 2 and type(each[0]) is int:
            if not each[1] and each[0] not in up:
                continue
            (up.add if each[1] else up.discard)(each[0])
        kept.append(each)
    return kept


CHECKS = (
    Check(
        "06.13", "a line of KVM's own chips", 1,
        exercise="strike", driver="chips_in_the_kernel", cases=strikes, judge=struck,
        guests=("irq-log",),
        hints=hints(
            Hint("ioctl", "`ioctl(vm, KVM_IRQ_LINE, struct(\"kvm_irq_level\", irq=…, level=…))`, on the VM's "
                 "handle.", when="ENOTTY|EFAULT|EINVAL|TypeError|AttributeError"),
            Hint("falls", "An edge needs a line that goes up *and* down. The classic mistake only raises it: the "
                 "first strike works, the second is no edge, and no key is ever heard again."),
            Hint("line", "`irq` is the number of the line, 0 to 15, not a vector; `level` is 1 or 0."),
            Hint("once", "One strike is one edge: up once, and down once."),
        ),
    ),
)  # fmt: skip
