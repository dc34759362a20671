"""What the stages of lab 08 share: cases whose answers the library knows, their judges, and hints for lost guests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from autograder import judge
from autograder.judge import fail
from autograder.model import OK, Case, Finding, Hint
from autograder.observation import Observation
from autograder.odd import Odd, describe
from autograder.stages.common import LOOP
from autograder.stages.models import expected_console
from minivmm.lab_console import Clock, Controller, Parts, Serial

READ = ("RBR", "IER", "IIR", "LCR", "MCR", "LSR", "MSR", "SCR")
WRITTEN = ("THR", "IER", "FCR", "LCR", "MCR", "LSR", "MSR", "SCR")
THINGS: dict[str, Callable[..., Any]] = {"chip": Serial, "clock": Clock, "keyboard": Controller}

NONE = Hint(
    "none", "It gave None: did you forget `return`, or does a way through your code end without one?", when="NoneType"
)
BY_IIR = Hint(
    "guest", "Under a driver it differs: look at the line where the two part. Each number is an IIR, and behind = what "
    "was read to serve it.",
)  # fmt: skip
BY_LSR = Hint(
    "guest", "Under a driver it differs: look at the line where the two part. The number before the dot is LSR, the "
    "one behind it RBR.",
)  # fmt: skip
FIELDS = Hint(
    "fields", "`Serial` has ier, fcr, lcr, mcr, scr, divisor, fifo, errors, deltas, thre and sent; `Clock` has now, "
    "index, a, b, flags, cmos and moment; `Controller` has config, output and expects. LSR, IIR and MSR are made of "
    "them at each read: none of them is stored.", when="object has no attribute",
)  # fmt: skip
ENDS = {
    "endless": "the guest does not come to its end",
    "died": "the guest died",
    "asleep": "the guest sleeps and waits for an interrupt that does not come",
    "halted": "the guest has halted",
    "reset": "the guest asked for a reset",
    "off": "the guest asked to be switched off",
}


def hints(*own: Hint) -> tuple[Hint, ...]:
    """A check's own hints, then those that every check has; where both have a key, the check's own."""
    return own + tuple(hint for hint in (NONE, LOOP, FIELDS) if hint.key not in {each.key for each in own})


# ---- calls by hand ----


def calls(
    part: str,
    state: Mapping[str, Any],
    arguments: Sequence[Sequence[Any]],
    hint: str,
    *,
    kind: str = "chip",
    fields: Mapping[str, str] | None = None,
    label: str = "",
    mistakes: Mapping[str, Any] | None = None,
) -> Case:
    """Calls of a part on a device in `state`. The library does the same, and so knows values and states.

    `hint` is for a wrong value; `mistakes` has hints for particular wrong values of the last call. `fields` are the
    registers that count afterwards, each with its hint.
    """
    own = {name: list(value) if isinstance(value, list) else value for name, value in state.items()}
    thing, parts = THINGS[kind](**own), Parts()
    values, states = [], []
    for each in arguments:
        values.append(getattr(parts, part)(thing, *each))
        states.append({name: plain(getattr(thing, name)) for name in fields or ()})
    inputs = {kind: {name: list(v) if isinstance(v, list) else v for name, v in state.items()}}
    expected = {
        "values": values, "states": states, "hint": hint, "fields": dict(fields or {}), "mistakes": mistakes or {}
    }  # fmt: skip
    label = label or in_words(state) + deeds(part, state, arguments)
    return Case({**inputs, "calls": [list(each) for each in arguments]}, expected, label)


def plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, bytearray) else list(value) if isinstance(value, list) else value


def in_words(state: Mapping[str, Any]) -> str:
    """A state as a label: "ier=0x03, fifo=[0x41]"."""
    held = (f"{name}={value if type(value) is bool else shown(value)}" for name, value in state.items())
    return ", ".join(held) or "a chip as after its reset"


def deeds(part: str, state: Mapping[str, Any], arguments: Sequence[Sequence[Any]]) -> str:
    """What is done to a UART in `state`, for its label: "; IER written with 0x02, RBR read"."""
    words, dlab = [], bool(state.get("lcr", 0) & 0x80)
    for each in arguments:
        match part, each:
            case "read_uart", [offset]:
                words.append(f"{name_of(offset, dlab, False)} read")
            case "write_uart", [offset, value]:
                words.append(f"{name_of(offset, dlab, True)} written with {value:#04x}")
                dlab = bool(value & 0x80) if offset == 3 else dlab
            case "receive", [byte]:
                words.append(f"{byte:#04x} comes in")
    return f"; {', '.join(words)}" if words else ""


def name_of(offset: int, dlab: bool, writing: bool) -> str:
    """The register of a UART that is reached by `offset`."""
    if dlab and offset < 2:
        return ("DLL", "DLM")[offset]
    return (WRITTEN if writing else READ)[offset]


def shown(value: object) -> str:
    """A value of the student's, or of ours, in few words."""
    if isinstance(value, list):
        if len(value) > 6:
            return f"[{shown(value[0])}, …, {shown(value[-1])}] ({len(value)} of them)"
        return f"[{', '.join(map(shown, value))}]"
    if type(value) is int and value.bit_length() < 80:
        return f"{value:#04x}"
    if isinstance(value, bool) or (isinstance(value, (str, bytes)) and len(value) < 60):
        return repr(value)
    return describe(value)


def answered(case: Case, obs: Observation) -> Finding:
    """Values and registers after each call; the first that is wrong decides."""
    expected, values = case.expected, obs.list("values")
    if len(values) > len(expected["values"]):
        return fail(f"{len(values)} answers to {len(expected['values'])} calls", expected["hint"])
    for number, wanted in enumerate(expected["values"]):
        actual = values[number] if number < len(values) else Odd("nothing")
        if not judge.same_value(wanted, actual).ok:
            where = f"call {number + 1} of {len(expected['values'])} gave" if number else "it gave"
            text = f"{where} {shown(actual)} where {shown(judge.plain(wanted))} is expected"
            if actual is None and not isinstance(wanted, str):
                return fail(text, "none")
            keys = [key for key, value in expected["mistakes"].items() if judge.same_value(value, actual).ok]
            return fail(text, keys[0] if keys else expected["hint"])
    for number, state in enumerate(expected["states"]):
        held = obs.list("states")[number] if number < len(obs.list("states")) else {}
        for name, wanted in state.items():
            actual = held.get(name) if isinstance(held, dict) else None
            if not judge.same_value(wanted, actual).ok:
                text = f"afterwards `{name}` is {shown(actual)} where {shown(wanted)} is expected"
                return fail(text, expected["fields"][name])
    return OK


# ---- guests ----


def guest(
    name: str,
    parameters: Mapping[str, int],
    hint: str,
    *,
    label: str = "",
    stop: str = "halted",
    screen: str | None = None,
    more: Mapping[str, Any] | None = None,
    mistakes: Iterable[tuple[str, str]] = (),
    **host: Any,
) -> Case:
    """A guest in a PC with the student's part. `hint` is for wrong output; `mistakes` are pairs of a hint and of what
    the output then has in it. `host` goes to the model, `more` to the driver."""
    console = expected_console(name, parameters, **host)
    inputs = {"guest": name, "parameters": dict(parameters), **(more or {})}
    expected = {"console": console, "stop": stop, "screen": screen, "hint": hint, "mistakes": list(mistakes)}
    return Case(inputs, expected, label or f"the guest {name}")


def printed(case: Case, obs: Observation) -> Finding:
    """The guest printed, sent, and ended as it should."""
    expected, stop = case.expected, obs.str("stop")
    hint = expected["hint"]
    if stop == "odd":
        return fail(f"{obs.str('why')[:200]}", hint)
    console = obs.bytes("console").decode(errors="backslashreplace")
    for key, sign in expected["mistakes"]:
        if sign in console or sign == stop:
            hint = key
            break
    for wanted, seen, what in (
        (expected["console"].decode(), console, "what the guest printed"),
        (expected["screen"], obs.str("screen"), "what the guest sent on its serial line"),
    ):
        if wanted is not None and not (finding := judge.same_text(wanted, seen, what, hint)).ok:
            ending = "" if stop == expected["stop"] else f"\n{ENDS.get(stop, 'it ended strangely')}"
            return fail(f"{finding.message}{ending}\n{judge.show_exits(obs.exits)}", hint)
    if stop != expected["stop"]:
        text = ENDS.get(stop, "it ended strangely")
        return fail(f"{text}, where “{expected['stop']}” is expected\n{judge.show_exits(obs.exits)}", hint)
    return OK


def both(case: Case, obs: Observation) -> Finding:
    """For checks that have calls as well as guests."""
    return printed(case, obs) if "guest" in case.inputs else answered(case, obs)
