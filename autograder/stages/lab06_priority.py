"""Lab 06, who goes first: the mask, the order of the lines, and what is in service."""

from __future__ import annotations

from typing import Any

from autograder.model import Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.common import suited
from autograder.stages.lab06_bench import LINES, bench, chips, mask_of, nest_script, on_the_bench, pick, pulse
from autograder.stages.lab06_chip import Judge, chip_case, registers, values
from autograder.stages.lab06_hints import hints
from minivmm.devices.pic_chip import PicChip


def request(chip: PicChip) -> int | None:
    return chip.request()


def who_is_first(nonces: Nonces) -> list[Case]:
    def two_lines(label: str) -> list[int]:
        return sorted(pick(nonces, label, 2, range(1, 7)))

    low, high = suited(two_lines, "two", lambda two: 1 << two[0] != two[1])  # a bit is no number of a line
    base = 8 * nonces.range("base", 4, 32)
    masked = chips(nonces, mask_of(pick(nonces, "masked", 3, LINES[:7])))
    theirs = {"request": "request"}
    lines = [pick(nonces, f"step {step}", 5, LINES[:7]) for step in range(3)]
    script = [[step, pulse(*numbers)] for step, numbers in enumerate(lines)]
    return [
        chip_case("no line requested", [()], request, base=base),
        chip_case(f"lines {high} and {low} requested", [()], request, irr=1 << low | 1 << high, base=base),
        chip_case(f"lines {low} and {high} requested, {low} masked", [()], request, irr=1 << low | 1 << high,
                  imr=1 << low | 1 << 0),
        chip_case("line 7 requested", [()], request, irr=1 << 7, base=base),
        chip_case("line 0 requested", [()], request, irr=1, base=base),
        chip_case(f"only line {high} requested, and masked", [()], request, irr=1 << high, imr=1 << high),
        bench("irq-log", masked, script, "several lines at once, some of them masked", theirs),
    ]  # fmt: skip


def who_must_wait(nonces: Nonces) -> list[Case]:
    low, middle, high = sorted(pick(nonces, "three", 3, range(1, 8)))
    theirs = {"request": "request"}
    named = f"line {middle} in service"
    return [
        chip_case(f"{named} and line {high} requested", [()], request, irr=1 << high, isr=1 << middle),
        chip_case(f"{named} and line {low} requested", [()], request, irr=1 << low, isr=1 << middle),
        chip_case(f"{named} and requested again", [()], request, irr=1 << middle, isr=1 << middle),
        chip_case(f"{named}, masked meanwhile, and line {high} requested", [()], request, irr=1 << high,
                  isr=1 << middle, imr=1 << middle),
        chip_case(f"line {high} in service, interrupted by line {low}, and line {middle} requested", [()], request,
                  irr=1 << middle, isr=1 << low | 1 << high),
        chip_case(f"line 0 in service and line {high} requested", [()], request, irr=1 << high, isr=1),
        bench("irq-nest", chips(nonces), nest_script(nonces, True), "handlers that may be interrupted", theirs),
    ]  # fmt: skip


def first_line(mask_hint: str, order_hint: str, missed: str) -> Judge:
    """06.4: which line is first. `missed`: the hint where none is named though one waits."""

    def judged(case: Case, obs: Observation) -> Finding:
        if "calls" not in case.inputs:
            return on_the_bench(case, obs, order_hint)
        chip = case.inputs["chip"]

        def hint(wanted: Any, actual: Any) -> str:
            if type(actual) is not int:
                one = missed if wanted else "zero"
                return one if actual is None else "none" if wanted is None else "number"
            requested = 0 <= actual <= 7 and bool(chip.get("irr", 0) >> actual & 1)
            if not requested:
                return "none" if wanted is None else "number"
            if chip.get("imr", 0) >> actual & 1:
                return mask_hint
            return order_hint

        finding = values(case, obs, "the line", hint)
        return finding if not finding.ok else untouched(case, obs)

    return judged


def untouched(case: Case, obs: Observation) -> Finding:
    """A question must not change the chip."""
    return registers(case, obs, ("irr", "isr", "imr"), lambda *_: "touched")


QUESTION = (
    Hint("number", "The *number* of a line that is requested, 0 to 7, is asked for: not its bit, and not its vector."),
    Hint("touched", "`request` is a question: it changes nothing. Taking the request is `acknowledge`'s."),
)

CHECKS = (
    Check(
        "06.4", "the lowest number that isn't masked goes first", 1,
        exercise="request", driver="on_the_bench", cases=who_is_first,
        judge=first_line("mask", "order", "missed"),
        guests=("irq-log",),
        hints=hints(
            Hint("order", "Line 0 has the highest priority, line 7 the lowest: look from 0 up, and return the "
                 "first line that is requested and not masked."),
            Hint("zero", "Line 0 is a line like any other. The classic mistake is `if number:` or `number or "
                 "None`, which take the number 0 for nothing."),
            Hint("mask", "This line is masked: a 1 in `chip.imr` holds it back. The classic mistake takes the mask "
                 "for a list of what is allowed; `chip.irr & ~chip.imr` is what waits."),
            Hint("none", "No line: return None. The classic mistake returns 0 or -1; 0 is the timer's line.",
                 when="ValueError|IndexError"),
            Hint("missed", "A line waits in `chip.irr`, and nothing holds it up. The classic mistakes: the mask "
                 "taken for a list of what is allowed (a 0 in `chip.imr` lets a line through); and `range(7)`, "
                 "which leaves out line 7."),
            *QUESTION,
        ),
    ),
    Check(
        "06.4b", "what is in service holds up its equals and its inferiors", 1,
        exercise="request", driver="on_the_bench", cases=who_must_wait,
        judge=first_line("service", "service", "service"),
        guests=("irq-nest",),
        hints=hints(
            Hint("service", "A line in service (`chip.isr`) holds up itself and all lines with higher numbers; "
                 "lower numbers may interrupt it, even if it is masked meanwhile. The classic mistakes: `isr` is "
                 "not looked at; it stops everything; or the line that is in service interrupts itself."),
            Hint("none", "The waiting line is not more urgent than the one in service: return None.",
                 when="ValueError|IndexError"),
            Hint("zero", "Line 0 is a line like any other, and more urgent than all of them."),
            *QUESTION,
        ),
    ),
)  # fmt: skip
