"""What the handlers of emulated instructions have in common.

A handler returns what KVM_RUN returns, or None where the guest goes on. It raises GuestFault for what the guest is to
handle. `env` is up to date when it is called: the engine looked before it stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from minivmm.soft.binding import ffi
from minivmm.soft.exits import Exits, Result
from minivmm.soft.internal_devices import InternalDevices
from minivmm.soft.parts import VcpuParts
from minivmm.soft.processor import PROTECTION, GuestFault

Handlers = dict[int, Callable[[], Result]]


class Loop(Protocol):
    """What the instructions ask of the run loop."""

    vcpu: VcpuParts
    exits: Exits
    internal: InternalDevices

    def halt(self) -> Result: ...
    def native_step(self) -> Result: ...


class Group:
    """Some instructions of one vCPU."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.exits = loop.exits
        self.internal = loop.internal
        self.vcpu = loop.vcpu
        self.cpu = loop.vcpu.processor
        self.native = self.cpu.cpu
        self.env = self.cpu.env

    def handlers(self) -> Handlers:
        """Which kinds (kinds.py) it carries out, and how."""
        raise NotImplementedError

    @property
    def code(self) -> bytes:
        """The bytes of the instruction."""
        code: bytes = ffi.buffer(self.native.insn, self.native.length)[:]
        return code

    def require_ring_0(self) -> None:
        if self.cpu.protected and self.cpu.cpl:
            raise GuestFault(PROTECTION, 0)

    def finish_before_exit(self, finish: Callable[[], None]) -> None:
        """`finish` retires the instruction, but its exit is still to come: the trap of a single step waits for it."""
        try:
            finish()
        except GuestFault as trap:
            self.vcpu.events.exception = trap.event

    def retire(self) -> None:
        """Goes on behind the instruction. Raises GuestFault where the guest steps itself."""
        self.cpu.retire(self.native.length)
