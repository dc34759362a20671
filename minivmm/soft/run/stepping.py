"""One instruction at a time: where a debugger asks for it, where data breakpoints or segment limits need it."""

from __future__ import annotations

from collections.abc import Callable

from minivmm.soft import segment_limits
from minivmm.soft.binding import ffi, lib
from minivmm.soft.emulation.instructions import Instructions
from minivmm.soft.engine import Stop
from minivmm.soft.event import Event
from minivmm.soft.exits import Exits, Result
from minivmm.soft.parts import VcpuParts
from minivmm.soft.processor import DEBUG, DR6_BS
from minivmm.x86.bits import RFLAGS_TF


class Stepper:
    """Steps one vCPU. `stopped` handles how the engine came back from a step (stops.py)."""

    def __init__(
        self, vcpu: VcpuParts, exits: Exits, instructions: Instructions, stopped: Callable[[int], Result]
    ) -> None:
        self.vcpu = vcpu
        self.cpu = vcpu.processor
        self.events = vcpu.events
        self.native, self.env = vcpu.engine.cpu, vcpu.engine.env
        self._exits = exits
        self._instructions = instructions
        self._stopped = stopped
        self._debug_due = False  # the step made an exit of its own: that of the debugger comes next

    def step(self) -> Result:
        """Exactly one instruction, emulated or native."""
        kind = lib.soft_peek(self.native)
        if self._instructions.knows(kind):
            return self._instructions.carry_out(kind)
        code = bytes(ffi.buffer(self.native.insn, self.native.length))
        if self.cpu.limited:
            segment_limits.check(self.cpu, code)
        if self.vcpu.debug.watches and (hits := self.vcpu.debug.data_hits(code)):
            return self._watched_step(hits)
        return self.native_step()

    def native_step(self) -> Result:
        """One instruction, by the engine. A guest that steps itself gets its trap behind it."""
        traced = self.env.rflags & RFLAGS_TF
        reason = lib.soft_step(self.native)
        if reason == Stop.STEPPED and traced:
            self.events.exception = self.cpu.single_step_trap().event
        return self._stopped(reason)

    def _watched_step(self, hits: int) -> Result:
        """An instruction that touches watched data: a debug trap behind it."""
        before = self.cpu.rip
        result = self.native_step()
        if result is not None or self._faulted(before):
            return result
        if self.vcpu.debug.owns_breakpoints:
            return self._exits.debug(DEBUG, hits)
        self.cpu.dr[6] = self.cpu.dr[6] & ~0xF | hits
        self.events.exception = Event(DEBUG)
        return None

    def _faulted(self, before: int) -> bool:
        return self.events.exception is not None and self.cpu.rip == before

    # ---- KVM_GUESTDBG_SINGLESTEP ----

    def debug_step(self) -> Result:
        """One instruction, and KVM_EXIT_DEBUG behind it."""
        before = self.cpu.rip
        result = self.step()
        if result is not None:
            self._debug_due = True
            return result
        if self._faulted(before):
            return None  # first it goes to the handler
        return self._exits.debug(DEBUG, DR6_BS)

    def complete(self) -> Result:
        """The debugger's exit behind an instruction that made an exit itself."""
        if not self._debug_due:
            return None
        self._debug_due = False
        return self._exits.debug(DEBUG, DR6_BS)
