"""A probe: one question to a backend, answered by trying."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from minivmm.kvm.seam import Backend

TIMEOUT = 0.5  # seconds: a probe takes a few thousand instructions, so one that needs longer hangs
Status = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True)
class ProbeResult:
    """The answer. `detail` is what was seen, `remedy` what to do about a failure; `status` is ok, failed or skipped."""

    name: str
    title: str
    status: Status
    detail: str = ""
    remedy: str = ""


class FailedError(Exception):
    """The backend can't do it; the text says what was seen instead."""


class SkippedError(Exception):
    """The question makes no sense here; the text says why."""


@dataclass(frozen=True)
class Probe:
    """`ask` returns a detail worth showing, or raises FailedError or SkippedError. `remedy` is for when it fails."""

    name: str
    title: str
    ask: Callable[[Backend], str]
    remedy: str

    def run(self, backend: Backend) -> ProbeResult:
        """Asks. Whatever a host answers is a finding, so nothing is raised."""
        try:
            return ProbeResult(self.name, self.title, "ok", self.ask(backend))
        except SkippedError as reason:
            return ProbeResult(self.name, self.title, "skipped", str(reason))
        except Exception as error:
            return ProbeResult(self.name, self.title, "failed", str(error) or type(error).__name__, self.remedy)


def expect(condition: object, otherwise: str) -> None:
    """Raises FailedError with `otherwise` unless `condition` holds."""
    if not condition:
        raise FailedError(otherwise)
