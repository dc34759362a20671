"""Lab 06, one chip by itself: calls of a function, what it should return, and what it leaves in the registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from autograder.judge import fail
from autograder.model import OK, Case, Finding
from autograder.observation import Observation
from autograder.odd import describe
from minivmm.devices.pic_chip import PicChip

Judge = Callable[[Case, Observation], Finding]
CHIP_REGISTERS = ("irr", "imr", "isr", "lines", "base", "read_isr")


def chip_case(label: str, calls: Sequence[Any], model: Callable[..., Any], **fields: Any) -> Case:
    """Calls of the student's function, and what it should return and leave behind: `model` on the library's chip."""
    chip = PicChip(**fields)
    values: list[Any] = []
    states = []
    for arguments in calls:
        if isinstance(arguments, dict):
            chip.irr &= ~(1 << arguments["taken"])
            values.append(None)
        else:
            values.append(model(chip, *arguments))
        states.append({name: getattr(chip, name) for name in CHIP_REGISTERS})
    plain = [call if isinstance(call, dict) else list(call) for call in calls]
    return Case({"chip": fields, "calls": plain}, {"values": values, "states": states}, label)


def registers(case: Case, obs: Observation, names: tuple[str, ...], hint: Callable[[int, str], str]) -> Finding:
    """The chip's registers after each call of a case of one chip."""
    states = obs.list("states")
    if len(states) != len(case.expected["states"]):
        return fail(f"{len(states)} states where {len(case.expected['states'])} are expected")
    for number, (wanted, actual) in enumerate(zip(case.expected["states"], states, strict=True)):
        held = actual if isinstance(actual, dict) else {}
        for name in names:
            # A flag may be 1 as well as True.
            if type(held.get(name)) not in (int, bool) or held[name] != wanted[name]:
                call = f"after {called(case, number)} " if len(states) > 1 else ""
                shown = in_bits(name, held.get(name))
                return fail(f"{call}`chip.{name}` is {shown} where {in_bits(name, wanted[name])} is expected",
                            hint(number, name))  # fmt: skip
    return OK


def called(case: Case, number: int) -> str:
    """A call of the student's in words."""
    arguments = case.inputs["calls"][number]
    if isinstance(arguments, dict):
        return f"call {number + 1}"
    shown = ", ".join(str(each) if isinstance(each, bool) or each is None or each < 8 else hex(each)
                      for each in arguments)  # fmt: skip
    return f"call {number + 1}, (chip, {shown}),"


def in_bits(name: str, value: Any) -> str:
    if type(value) is int and value >= 0 and name in ("irr", "imr", "isr", "lines"):
        return f"{value:#010b}"
    if type(value) is int:
        return hex(value)
    return str(value) if isinstance(value, bool) else describe(value)


def values(case: Case, obs: Observation, what: str, hint: Callable[[Any, Any], str]) -> Finding:
    """What the calls returned."""
    seen = obs.list("values")
    for wanted, actual in zip(case.expected["values"], seen, strict=False):
        if type(actual) is not type(wanted) or actual != wanted:
            return fail(f"{what}: {shown(actual)} where {shown(wanted)} is expected", hint(wanted, actual))
    return OK if len(seen) == len(case.expected["values"]) else fail(f"{what}: {len(seen)} values")


def shown(value: Any) -> str:
    if type(value) is int:
        return hex(value) if value > 9 else str(value)
    return str(value) if value is None or isinstance(value, bool) else describe(value)
