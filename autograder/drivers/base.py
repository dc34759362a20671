"""What every driver shares.

A driver is a function of the student's code and one case's inputs that returns an observation, a dict of JSON types and
bytes. It calls the student's part, looks at what it did, and judges nothing::

    from autograder.drivers.base import Student, recording

    def console_of(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
        with recording() as rec:
            value = student.target(inputs["image"])
        return {"value": value, "exits": rec.exits}

By custom "value" is what the student's code returned and "exits" the last exits; `Observation` and the feedback know
them. Leave exceptions alone: the sandbox turns them into a verdict and names the student's line. Where raising is a
right answer, call through `attempt`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autograder.drivers.recorder import Recorder


class NotWrittenError(NotImplementedError):
    """A driver wants a name that the student's notebook does not define."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Student:
    """The student's code, as a driver sees it: `target` is the exercise, `get` finds what else they wrote."""

    def __init__(self, namespace: Mapping[str, Any], exercise: str) -> None:
        self._namespace = namespace
        self.exercise = exercise

    @property
    def target(self) -> Any:
        """The function or class that the student completed. Raises NotWrittenError where there is none."""
        return self.get(self.exercise)

    def get(self, name: str) -> Any:
        """Another name of the notebook (list it in the check's `needs`). Raises NotWrittenError where there is none."""
        try:
            return self._namespace[name]
        except KeyError:
            raise NotWrittenError(name) from None

    def __contains__(self, name: str) -> bool:
        return name in self._namespace


def attempt(function: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Calls `function` where raising may be right: {"value": …} or {"raised": "ValueError", "said": "…"}.

    NotImplementedError and MemoryError pass through: they are verdicts of their own.
    """
    try:
        return {"value": function(*args, **kwargs)}
    except (NotImplementedError, MemoryError):
        raise
    except Exception as error:
        return {"raised": type(error).__name__, "said": str(error)}


@contextmanager
def recording() -> Iterator[Recorder]:
    """Lets the student's system calls (open_kvm, ioctl, …) go through a Recorder, and closes what they left open.

    Pass the recorder as `backend=` to a Vm or Machine of minivmm's where the driver makes one itself.
    """
    # Here, not above: drivers of exercises in plain Python need no KVM binding.
    from autograder.drivers.recorder import Recorder
    from minivmm.kvm import calls

    recorder = Recorder(calls.current())
    previous = calls.use(recorder)
    try:
        yield recorder
    finally:
        calls.use(previous)
        recorder.close_all()
