"""What a machine asks of an interrupt controller, whatever it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from minivmm.bus import Device
from minivmm.exits import Exit
from minivmm.line import Line
from minivmm.vcpu import Vcpu


class Runnable(Protocol):
    """A vCPU, or what stands in front of one: `run` is KVM_RUN, with all that must happen just before it."""

    index: int

    def run(self) -> Exit: ...


class Irqchip(Protocol):
    """An interrupt controller. It is made before the vCPUs, as KVM wants it.

    `has_apics`: processors can start each other, and there are lines 16 to 23. `in_kernel`: KVM_IRQFD reaches a line.
    `sleeps_in_kernel`: HLT doesn't come out. `ports` and `addresses` are for the buses.
    """

    has_apics: bool
    in_kernel: bool
    sleeps_in_kernel: bool
    ports: Sequence[Device]
    addresses: Sequence[Device]

    def line(self, number: int) -> Line:
        """Interrupt line `number`, for the one device that drives it."""
        ...

    def attach(self, vcpu: Vcpu) -> Runnable:
        """What to run in place of the vCPU. Called once for each, in order."""
        ...

    def sleeps(self, vcpu: Vcpu) -> bool:
        """After a HLT exit: whether an interrupt may still wake the vCPU. Then just run it again: it waits there."""
        ...

    def ended(self, vector: int) -> None:
        """After an IoapicEoi exit: a processor has ended this interrupt."""
        ...
