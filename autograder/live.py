"""`check("01.3", bytes_of)` in a notebook: the grader's own checks on the live object, with the same feedback.

The object runs in a forked child, so an endless loop or a crash costs the student two seconds and not the kernel. The
child answers in the same frames as the sandbox's, and the judges stay here. It is no jail: this is the student's own
machine.
"""

from __future__ import annotations

import contextlib
import dis
import os
import signal
import sys
import types
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from autograder import registry
from autograder.model import Case, Check, CheckResult, Lab
from autograder.nonces import Nonces
from autograder.sandbox import child, limits
from autograder.sandbox.jail import refuse_calls
from autograder.sandbox.linux import PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, prctl
from autograder.sandbox.watch import watch
from autograder.slicing import Slice
from autograder.verdicts import conclude, result

MARKS = {"ok": "✓", "missing": "…"}


@dataclass(frozen=True)
class Outcome:
    """The checks of one exercise. Shown as text in a terminal and as a short list in Jupyter; true if all passed."""

    task: str
    results: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        return bool(self.results) and all(result.verdict == "ok" for result in self.results)

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        if len({result.message for result in self.results}) == 1 and self.results[0].verdict == "missing":
            return f"… {self.results[0].message}"
        lines = []
        for check in self.results:
            lines.append(f"{MARKS.get(check.verdict, '✗')} {check.id} {check.title}")
            lines += [f"    {line}" for line in check.message.splitlines()]
            lines += [f"    hint: {check.hint}"] if check.hint else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        if len({result.message for result in self.results}) == 1 and self.results[0].verdict == "missing":
            return f"<p>… {escape(self.results[0].message)}</p>"
        return "".join(_html(check) for check in self.results)


def _html(check: CheckResult) -> str:
    colour = "#087f3f" if check.verdict == "ok" else "#a66a00" if check.verdict == "missing" else "#c62828"
    head = f"<b style='color:{colour}'>{MARKS.get(check.verdict, '✗')} {check.id}</b> {escape(check.title)}"
    body = f"<pre style='margin:.2em 1.5em'>{escape(check.message)}</pre>" if check.message else ""
    hint = f"<div style='margin:.2em 1.5em'>💡 {escape(check.hint)}</div>" if check.hint else ""
    return f"<div>{head}{body}{hint}</div>"


def check(exercise_id: str, *objects: Any, registry: registry.Registry | None = None) -> Outcome:
    """Runs the checks of an exercise on what the student has just written.

    `exercise_id` is the number of the task ("01.3"); `objects` are the function or class, then whatever else the checks
    need of the notebook. Raises KeyError, with the numbers that there are, for an unknown one.
    """
    lab, checks = _find(exercise_id, registry)
    namespace = _namespace(objects)
    return Outcome(exercise_id, tuple(_run(lab, each, objects, namespace) for each in checks))


def _find(exercise_id: str, labs: registry.Registry | None) -> tuple[Lab, tuple[Check, ...]]:
    found = labs or registry.installed()
    lab_id = exercise_id.partition(".")[0]
    lab = found.lab(lab_id)
    checks = lab.check_for(exercise_id)
    if not checks:
        tasks = ", ".join(sorted({each.task for each in lab.checks}))
        raise KeyError(f"lab {lab_id} has no task {exercise_id}; its tasks are {tasks}")
    return lab, checks


def _namespace(objects: Sequence[Any]) -> dict[str, Any]:
    """The notebook's own names: the globals of the first function given, else IPython's."""
    for each in objects:
        found = getattr(each, "__globals__", None)
        if isinstance(found, dict):
            return found
    module = sys.modules.get("__main__")
    return vars(module) if module else {}


def _run(lab: Lab, check: Check, objects: Sequence[Any], namespace: dict[str, Any]) -> CheckResult:
    if objects:
        names = dict(zip((check.exercise, *check.needs), objects, strict=False))
    elif check.exercise in namespace:
        names = {}
    else:
        return result(check, "missing", f"`{check.exercise}` isn't defined yet: run its cell first.")
    stubs = _stubs(names.get(check.exercise, namespace.get(check.exercise)))
    if stubs == (check.exercise,):
        return result(check, "missing", f"`{check.exercise}` isn't written yet.")
    cases = check.cases(Nonces(int.from_bytes(os.urandom(6), "big"), lab.id, check.id))
    header, frames = _in_a_child(lab, check, cases, namespace | names, namespace)
    return conclude(check, cases, Slice(stubs=stubs), header, frames)


def _stubs(target: object) -> tuple[str, ...]:
    """What is still unwritten in a function or class: what can still reach the `raise` that `autograder release` left.

    Read from byte code, since Python keeps no source of a class that was defined in a notebook.
    """
    if isinstance(target, type):
        return tuple(stub for member in vars(target).values() for stub in _stubs(member))
    code = getattr(target, "__code__", None)
    if not isinstance(code, types.CodeType):
        return ()
    loaded = {instruction.argval for instruction in dis.get_instructions(code) if isinstance(instruction.argval, str)}
    marked = any(text.startswith("task ") for text in loaded)
    return (code.co_qualname,) if marked and "NotImplementedError" in loaded else ()


def _in_a_child(
    lab: Lab, check: Check, cases: Sequence[Case], names: dict[str, Any], home: dict[str, Any]
) -> tuple[dict[str, Any], bytes]:
    """Forks, runs the driver on the live objects there, and returns what the sandbox would have."""
    driver = child.find_driver(lab.driver_module, check.driver)  # imported here, so that every fork has it
    output, output_end = os.pipe()
    answers, answers_end = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of threads (the kernel has some). The child starts none and leaves by os._exit.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            fd = child.take_the_streams(output_end, answers_end)
            limits.set_limits(check.limits.seconds, check.limits.memory_mib)
            prctl(PR_SET_NO_NEW_PRIVS, 1)
            refuse_calls(signals=False)  # a fork bomb would take the whole machine
            child.run(lambda: names, lambda: driver, check.exercise, [case.inputs for case in cases], fd, home)
        finally:
            os._exit(child.CANNOT_ANSWER)
    os.close(output_end)
    os.close(answers_end)

    def clean_up() -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)

    return watch(pid, output, answers, check.limits.as_dict(), clean_up)
