"""Why a run ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from minivmm.exits import Exit

if TYPE_CHECKING:
    from minivmm.debug import Explanation

DIED, TIMED_OUT = 125, 124


@dataclass(frozen=True)
class Stop:
    """Why a run ended. `exit_code` is what `minivmm run` gives, `cpu` the vCPU that came to the end. `reason` is one of

    "halted"       every vCPU sleeps and nothing can wake it; "powered off" and "reset": the guest asked for it
    "debug-exit"   a write to the debug-exit port
    "timeout"      time is over; "asked": somebody called `stop`
    "debug"        a breakpoint or a step that KVM_SET_GUEST_DEBUG asked for
    "died"         an exit that nobody can serve: `explanation` says what the guest did
    """

    reason: str
    exit_code: int
    exit: Exit | None = None
    explanation: Explanation | None = None
    cpu: int = 0

    def __str__(self) -> str:
        detail = f" ({self.exit})" if self.exit is not None and self.reason == "died" else ""
        return f"{self.reason}{detail}, exit code {self.exit_code}"
