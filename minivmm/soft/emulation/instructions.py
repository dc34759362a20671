"""The table of all emulated instructions, for one vCPU."""

from __future__ import annotations

from minivmm.soft.emulation.control import ControlRegisterInstructions
from minivmm.soft.emulation.group import Handlers, Loop
from minivmm.soft.emulation.kinds import LEFT_TO_THE_ENGINE
from minivmm.soft.emulation.msr_access import MsrInstructions
from minivmm.soft.emulation.ports import PortInstructions
from minivmm.soft.emulation.system import SystemInstructions
from minivmm.soft.emulation.watched import WatchedInstructions
from minivmm.soft.exits import Result

GROUPS = (
    PortInstructions,
    MsrInstructions,
    ControlRegisterInstructions,
    SystemInstructions,
    WatchedInstructions,
)


class Instructions:
    """Carries out what the engine stopped before."""

    def __init__(self, loop: Loop) -> None:
        self._handlers: Handlers = {}
        for group in GROUPS:
            self._handlers |= group(loop).handlers()

    def knows(self, kind: int) -> bool:
        """Whether the engine can't be left to do it."""
        return kind not in LEFT_TO_THE_ENGINE

    def carry_out(self, kind: int) -> Result:
        """What KVM_RUN returns, or None. Raises GuestFault."""
        return self._handlers[kind]()
