"""Sleeping and waking: HLT, INIT and start-up IPIs, the request to come back.

The manual calls it the activity state of a processor, the KVM API mp_state. Source: SDM vol. 3, "Multiple-Processor
Initialization"; KVM API 4.38 KVM_GET_MP_STATE.
"""

from __future__ import annotations

import errno

from minivmm.kvm import constants as k
from minivmm.soft.binding import lib
from minivmm.soft.exits import Exits, Result
from minivmm.soft.parts import VcpuParts
from minivmm.x86.bits import RFLAGS_IF

RUNNABLE, HALTED = k.KVM_MP_STATE_RUNNABLE, k.KVM_MP_STATE_HALTED
UNINITIALIZED, INIT_RECEIVED = k.KVM_MP_STATE_UNINITIALIZED, k.KVM_MP_STATE_INIT_RECEIVED


class Closed(Exception):
    """The vCPU was given up while it waited."""


class Activity:
    """Whether one vCPU runs, and what it waits for if not."""

    def __init__(self, vcpu: VcpuParts, exits: Exits) -> None:
        self.vcpu = vcpu
        self.vm = vcpu.vm
        self.events = vcpu.events
        self.native = vcpu.engine.cpu
        self._cpu = vcpu.processor
        self._exits = exits

    # ---- the turn ----

    def take_turn(self, waited: int) -> None:
        """It is our turn (again), after `waited` ns in which others had theirs. Raises Closed.

        Time in which the guest could have run and didn't is stolen time; a counting clock knows of none.
        """
        if self.vcpu.closed:
            raise Closed
        if waited and not self.vm.clock.counting:
            self.vcpu.kvmclock.update_steal(waited)

    def _sleep(self, seconds: float | None = None) -> None:
        """Gives up the turn until somebody wakes this vCPU, or the time is over. Raises Closed."""
        self.vm.turn.release()
        self.vcpu.awake.wait(seconds)
        self.vm.turn.acquire()
        self.take_turn(0)
        lib.soft_memory_changed(self.native)
        self.native.kick = 0

    # ---- HLT ----

    def halt(self) -> Result:
        """HLT: with an irqchip in the kernel the vCPU sleeps there; without one, userspace is told."""
        if self.vm.irqchip is None:
            return self._exits.exit(k.KVM_EXIT_HLT)
        self.vcpu.mp_state = HALTED
        return None

    def idle(self) -> Result:
        """Waits for what ends HLT, or INIT's wait for a start-up IPI."""
        vcpu, chip, clock = self.vcpu, self.vm.irqchip, self.vm.clock
        assert chip is not None
        vcpu.awake.clear()
        if self._may_go_on():
            vcpu.mp_state = RUNNABLE
            return None
        if vcpu.kicked:
            return self._exits.interrupted()
        due = chip.next_event()
        if due is not None and self.vm.others_sleep(vcpu) and clock.skip_to(due):
            return None
        self._sleep(None if due is None else max(0.0, (due - clock.now()) / 1e9))
        return self._exits.interrupted() if vcpu.kicked else None  # its request to stop, _sleep has taken back

    def _may_go_on(self) -> bool:
        events, chip = self.events, self.vm.irqchip
        if events.init_pending:
            return True
        if self.vcpu.mp_state == INIT_RECEIVED:
            return self._start()
        if events.nmi_pending and not events.nmi_masked:
            return True
        waiting = chip is not None and chip.interrupt_for(self.vcpu.number) is not None
        return waiting and bool(self._cpu.flags & RFLAGS_IF)

    # ---- INIT and the start-up IPI ----

    def init(self) -> Result:
        """INIT: the first processor runs on from reset, the others wait for a start-up IPI."""
        self.events.init_pending = False
        self.vcpu.init_registers()
        self.vcpu.mp_state = RUNNABLE if self.vcpu.number == 0 else INIT_RECEIVED
        return None

    def _start(self) -> bool:
        """The start-up IPI: real mode, at vector << 12."""
        vector = self.events.sipi_vector
        if vector is None:
            return False
        self.events.sipi_vector = None
        env = self._cpu.look()
        env.cs.selector, env.cs.base, env.rip = vector << 8, vector << 12, 0
        self._cpu.put()
        return True

    def wait_for_start(self) -> int:
        """An application processor that nobody has started yet: KVM returns EAGAIN when somebody has."""
        self.vcpu.awake.clear()
        if not (self.events.init_pending or self.events.sipi_vector is not None or self.vcpu.kicked):
            self._sleep()
        if self.vcpu.kicked:
            return self._exits.interrupted()
        if self.events.init_pending:
            self.init()
        if self.events.sipi_vector is not None and self._start():
            self.vcpu.mp_state = RUNNABLE
        return -errno.EAGAIN
