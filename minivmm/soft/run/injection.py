"""Before the guest runs: what waits is put into it, or the engine is told to stop where it can be.

Source: SDM vol. 3, "Priority Among Concurrent Events", "Masking Maskable Hardware Interrupts".
"""

from __future__ import annotations

from collections.abc import Callable

from minivmm.kvm import constants as k
from minivmm.soft.delivery import deliver
from minivmm.soft.event import Event
from minivmm.soft.exits import Exits, Result
from minivmm.soft.parts import VcpuParts
from minivmm.soft.processor import NMI
from minivmm.x86.bits import RFLAGS_IF


class Injection:
    """The events and interrupts of one vCPU. `step` carries out one instruction: the one in the shadow of STI."""

    def __init__(self, vcpu: VcpuParts, exits: Exits, step: Callable[[], Result]) -> None:
        self.vcpu = vcpu
        self.vm = vcpu.vm
        self.cpu = vcpu.processor
        self.events = vcpu.events
        self.native = vcpu.engine.cpu
        self._exits = exits
        self._step = step

    def deliver(self) -> Result:
        """Exceptions first, then NMI, then interrupts. Raises TripleFault."""
        events = self.events
        self.native.watch_if = 0
        if events.exception is not None:
            exception, events.exception = events.exception, None
            deliver(self.cpu, exception)
        if events.nmi_pending and not events.nmi_masked:
            self.cpu.look()
            if self.cpu.in_shadow:
                return self._step()
            events.nmi_pending, events.nmi_masked = False, True
            self.native.watch_iret = 1
            deliver(self.cpu, Event(NMI, external=True))
        if events.interrupt is not None:
            vector, events.interrupt = events.interrupt, None
            deliver(self.cpu, Event(vector, external=True))
        return self._interrupts()

    def _interrupts(self) -> Result:
        chip = self.vm.irqchip
        wants_window = bool(self.vcpu.page.c.request_interrupt_window) and (chip is None or chip.split)
        if self.vcpu.debug.blocks_interrupts:
            return None
        waiting = chip is not None and chip.interrupt_for(self.vcpu.number) is not None
        if not (waiting or wants_window):
            return None
        env = self.cpu.look()
        if not env.rflags & RFLAGS_IF:
            self.native.watch_if = 1
            return None
        if self.cpu.in_shadow:
            self.native.watch_if = 1  # the slice that follows this instruction ends at its first block
            return self._step()
        if waiting:
            assert chip is not None
            deliver(self.cpu, Event(chip.acknowledge(self.vcpu.number), external=True))
            return None
        return self._exits.exit(k.KVM_EXIT_IRQ_WINDOW_OPEN)
