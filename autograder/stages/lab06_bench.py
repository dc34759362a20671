"""Lab 06, guests on the bench: their parameters, the script that moves their lines, and how such a guest ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autograder import judge
from autograder.judge import fail
from autograder.model import OK, Case, Finding
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import console_lines
from autograder.stages.models import expected_console

NONSPECIFIC, SPECIFIC, ROTATING = 0x20, 0x60, 0xA0
LINES = (0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)  # 2 is the cascade


# ---- cases ----


def chips(nonces: Nonces, masks: int = 0, command: int = NONSPECIFIC, name: str = "") -> dict[str, int]:
    """Parameters of a guest of the irq family: vectors at random places, never among the processor's own."""
    first, second = pick(nonces, f"bases {name}", 2, range(4, 32))
    return {
        "nonce": nonces.u64(f"nonce {name}"),
        "value": first << 3 | second << 11,
        "option": masks | command << 16,
    }


def up(*numbers: int) -> list[list[Any]]:
    return [["line", number, 1] for number in numbers]


def down(*numbers: int) -> list[list[Any]]:
    return [["line", number, 0] for number in numbers]


def pulse(*numbers: int) -> list[list[Any]]:
    return [action for number in numbers for action in up(number) + down(number)]


def bench(
    guest: str, parameters: dict[str, int], script: Sequence[Any], label: str, theirs: dict[str, str], **host: Any
) -> Case:
    """A guest on the bench: `script` is what happens at each step."""
    steps = 1 + max(step for step, _ in script if step < 0x80)
    parameters = {**parameters, "count": steps}
    told = {"script": script} if guest not in ("irq-window", "sti-hlt") else {}
    expected = {"console": expected_console(guest, parameters, **told, **host)}
    inputs = {"guest": guest, "parameters": parameters, "script": [list(each) for each in script], "theirs": theirs}
    return Case(inputs, expected, label)


def pick(nonces: Nonces, name: str, count: int, among: Sequence[int] = LINES) -> list[int]:
    """So many different numbers, in no order."""
    left, taken = list(among), []
    for number in range(count):
        taken.append(left.pop(nonces.range(f"{name} {number}", 0, len(left))))
    return taken


def mask_of(numbers: Sequence[int]) -> int:
    return sum(1 << number for number in numbers)


def rounds(nonces: Nonces, guest: str, count: int, label: str) -> Case:
    lines = [pick(nonces, f"{guest} round {number}", 1)[0] for number in range(count)]
    script = [[number, pulse(line)] for number, line in enumerate(lines)]
    return bench(guest, chips(nonces, name=guest), script, label, {})


def nest_script(nonces: Nonces, slave: bool) -> list[list[Any]]:
    """Four steps of one line each, in whose handler a more and a less urgent one come."""
    urgent, middle, other = sorted(pick(nonces, "nest", 3, (0, 1, 3, 4, 5, 6)))  # whether 7 is known is 06.4's affair
    script = [
        [0, pulse(middle)], [0x80 + middle, pulse(other, urgent)],
        [1, pulse(other)], [0x80 + other, []], [0x80 + other, pulse(middle, other)],
        [0x80 + urgent, []], [2, pulse(urgent)], [0x80 + urgent, pulse(middle)],
    ]  # fmt: skip
    if slave:
        script += [[3, pulse(8 + middle)], [0x80 + 8 + middle, pulse(8 + urgent, 0)]]
    return script


# ---- judges ----


ENDS = {
    "asleep": "the guest sleeps in HLT and nothing wakes it: an interrupt that it waits for did not come",
    "halted": "the guest halted with interrupts off before it had come to its end",
    "timeout": "the guest was still running after 1.5 s and was stopped",
    "endless": "the guest made 6000 exits and was stopped: it gets interrupts, or is entered, again and again",
}


def ended(obs: Observation, wanted: str = "ended", hints: dict[str, str] | None = None) -> Finding:
    """The guest ran to its end."""
    how = obs.str("stop")
    if how == wanted:
        return OK
    hint = (hints or {}).get(how, how)
    if how == "stray":
        return fail(f"an interrupt came with vector {obs.int('vector'):#x}, and the guest has no handler for it", hint)
    if how == "odd":
        vector = obs.raw("vector")
        seen = hex(vector) if type(vector) is int else describe(vector)
        return fail(f"{seen} where a vector, 0 to 255, is expected", hint)
    if how not in ENDS and how != "died":
        return fail("the guest did not run to its end")
    text = ENDS.get(how) or f"the guest died: {obs.str('why')}"
    return fail(f"{text}\n{judge.show_exits(obs.exits)}".rstrip(), hint)


def console(case: Case, obs: Observation, hint: str = "") -> Finding:
    """The guest's lines, one by one: what is missing or too much on the first wrong one says more than a diff."""
    wanted = case.expected["console"].decode().splitlines()
    seen = console_lines(obs)
    for number, line in enumerate(wanted):
        actual = seen[number] if number < len(seen) else "nothing"
        if actual != line:
            return fail(f"step {number}: the guest printed {short(actual)} where {line!r} is expected", hint)
    if len(seen) > len(wanted):
        return fail(f"the guest printed {short(seen[len(wanted)])} after its last line", hint)
    return OK


def short(line: str) -> str:
    """A line in quotes; an interrupt that comes for ever fills one with the same few letters."""
    return repr(line) if len(line) <= 60 else f"{line[:40]!r} … ({len(line)} characters)"


def on_the_bench(case: Case, obs: Observation, hint: str) -> Finding:
    """A guest of the irq family: how it ended decides before what it printed, unless it hung."""
    how = obs.str("stop")
    if how in ("ended", "endless", "asleep", "timeout"):
        finding = console(case, obs, hint)
        if not finding.ok or how == "ended":
            return finding
    return ended(obs)
