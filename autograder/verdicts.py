"""From what came out of the sandbox to a verdict and the words that a student reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from autograder.model import Case, Check, CheckResult, Finding, Verdict
from autograder.observation import IllTypedError, Observation
from autograder.sandbox import wire
from autograder.slicing import Slice

LONGEST_MESSAGE = 4000
OUTPUT_LINES = 4  # of what the student printed, from either end

SIGNALS = {6: "SIGABRT", 9: "SIGKILL", 11: "SIGSEGV (it touched memory that isn't there)", 15: "SIGTERM", 4: "SIGILL"}
SIGNALS |= {7: "SIGBUS", 8: "SIGFPE", 2: "SIGINT", 1: "SIGHUP", 31: "SIGSYS", 14: "SIGALRM", 25: "SIGXFSZ"}


def conclude(check: Check, cases: Sequence[Case], part: Slice, header: dict[str, Any], frames: bytes) -> CheckResult:
    """The result of one check. The first case that fails, in order, decides."""
    observations, ending, problem = read(frames)
    for number, case in enumerate(cases[: len(observations)]):
        finding = judge(check, case, observations[number])
        if not finding.ok:
            message = finding.message or "the result is not what is expected"
            if len(cases) > 1 and case.label:
                message = f"With {case.label}: {message}"
            return failed(check, "wrong", message, check.hint_text(finding.hint), part, header)
    if len(observations) == len(cases) and ending == {"end": True} and not header["stopped"]:
        return result(check, "ok", seconds=header["seconds"])
    verdict, message = why_it_ended(check, ending, header, problem)
    number = len(observations)
    if len(cases) > 1 and number < len(cases) and cases[number].label and verdict != "missing":
        message = f"With {cases[number].label}: {message}"
    return failed(check, verdict, message, check.hint_for_failure(message), part, header)


def read(frames: bytes) -> tuple[list[Any], dict[str, Any], str]:
    """Observations in the order of the cases, the last frame if it is an ending, and what is wrong with the rest."""
    observations: list[Any] = []
    try:
        for value in wire.frames(frames):
            if not isinstance(value, dict):
                return observations, {}, "garbage"
            if value.get("case") == len(observations) and "observation" in value:
                observations.append(value["observation"])
            elif "error" in value or value == {"end": True}:
                return observations, value, ""
            else:
                return observations, {}, "garbage"
    except wire.WireError:
        return observations, {}, "garbage"
    return observations, {}, ""


def judge(check: Check, case: Case, observation: object) -> Finding:
    """What the check's judge says. An observation of the wrong shape is a wrong answer."""
    try:
        return check.judge(case, Observation(observation, check.exercise))
    except IllTypedError as error:
        return Finding(False, f"{error}.")


def why_it_ended(check: Check, ending: dict[str, Any], header: dict[str, Any], problem: str) -> tuple[Verdict, str]:
    """The verdict where the child did not get through all cases."""
    match header["stopped"]:
        case "time":
            return "timeout", (
                f"`{check.exercise}` was still running after {check.limits.seconds:g} s: a loop or a guest never ends."
            )
        case "output":
            return "crash", f"your code printed more than {check.limits.output_kib} KiB and was stopped."
        case "answer":
            return "crash", f"what `{check.exercise}` gave back is more than 1 MiB."
    if "error" in ending and isinstance(ending["error"], dict):
        return explain(check, ending["error"])
    if problem:
        return "crash", "your code wrote into the channel on which the sandbox answers."
    status = header["status"]
    if status < 0:
        return "crash", f"the process was killed by {SIGNALS.get(-status, f'signal {-status}')} before answering."
    if status == 70:
        return "crash", "the process could not answer: your code closed its channel or changed Python's own functions."
    return "crash", f"the process ended itself with exit status {status} before answering."


def explain(check: Check, error: dict[str, Any]) -> tuple[Verdict, str]:
    """The words for an exception. The report is the child's, so every field is read with suspicion."""
    kind, said = _text(error.get("type")), tidy(_text(error.get("message")))
    frames = (
        [frame for frame in error.get("frames", []) if isinstance(frame, dict)] if _is_list(error, "frames") else []
    )
    place = where(frames[-1]) if frames else ""
    if wants := _text(error.get("wants")):
        return "missing", f"`{wants}`, which this check calls, isn't in the notebook."
    if error.get("missing") and frames and frames[-1].get("deepest"):
        function = _text(frames[-1].get("function")) or check.exercise
        return "missing", f"`{function}` isn't written yet."
    if error.get("memory"):
        detail = ": ".join(filter(None, (place, said)))
        return "memory", f"your code asked for more than {check.limits.memory_mib} MiB{detail and f' ({detail})'}."
    if error.get("exit"):
        return "crash", f"your code ended the program: {kind}{f'({said})' if said else ''}{place and f' in {place}'}."
    said = f": {said}" if said else ""
    if place:
        return "crash", f"{place}: {kind}{said}"
    return "crash", f"the check could not use what `{check.exercise}` gave it: {kind}{said}"


def where(frame: dict[str, Any]) -> str:
    cell, line, function = _text(frame.get("cell")), frame.get("line"), _text(frame.get("function"))
    return f"line {line} of {cell}" if cell else f"line {line} of the cell that defines `{function}`"


def failed(check: Check, verdict: Verdict, message: str, hint: str, part: Slice, header: dict[str, Any]) -> CheckResult:
    """A result without points. An exercise that still holds a stub is missing, whatever it did meanwhile."""
    if part.stubs and verdict != "infra":
        return result(check, "missing", f"`{part.stubs[0]}` isn't written yet.", seconds=header["seconds"])
    if verdict != "missing":
        if "NameError" in message:
            message += "".join(f"\n({remark})" for remark in part.remarks)
        message += printed(header, verdict)
    return result(check, verdict, message, hint, header["seconds"])


def printed(header: dict[str, Any], verdict: Verdict) -> str:
    """The lines that the student's code printed: the first and the last ones. What was stopped shows the first ones
    only, since how far it came is chance."""
    head, tail = header["head"].splitlines(), header["tail"].splitlines()
    if not head:
        return ""
    if header["stopped"] or header["status"] < 0:
        lines = [*head[:OUTPUT_LINES], "…"]
    elif tail or len(head) > 2 * OUTPUT_LINES:
        lines = [*head[:OUTPUT_LINES], "…", *(tail or head)[-OUTPUT_LINES:]]
    else:
        lines = head
    return "\nyour code printed:\n" + "\n".join(f"  {line[:200]}" for line in lines)


def result(check: Check, verdict: Verdict, message: str = "", hint: str = "", seconds: float = 0.0) -> CheckResult:
    points = check.points if verdict == "ok" else 0
    return CheckResult(check.id, check.title, points, check.points, verdict, clean(message), hint, seconds)


def clean(message: str) -> str:
    """Text that any terminal, XML file and database takes: no control characters, no lone surrogates, not too long."""
    message = message.encode("utf-8", "backslashreplace").decode()
    message = "".join(c if c == "\n" or c.isprintable() else repr(c)[1:-1] for c in message.expandtabs())
    return message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]} …"


def tidy(text: str) -> str:
    """Addresses differ from run to run and mean nothing to the reader."""
    return re.sub(r" at 0x[0-9a-fA-F]{6,}", "", text)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _is_list(error: dict[str, Any], key: str) -> bool:
    return isinstance(error.get(key), list)
