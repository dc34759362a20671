"""KVM_RUN: deliver what waits, run a slice, see why the engine stopped, and go round until userspace is needed.

Source: KVM API 4.10 KVM_RUN.
"""

from __future__ import annotations

import errno
from threading import get_native_id

from minivmm.kvm import constants as k
from minivmm.soft.binding import lib
from minivmm.soft.clock import SLICE
from minivmm.soft.delivery import TripleFault
from minivmm.soft.emulation.instructions import Instructions
from minivmm.soft.exits import Exits, Result
from minivmm.soft.internal_devices import InternalDevices
from minivmm.soft.parts import VcpuParts
from minivmm.soft.processor import GuestFault
from minivmm.soft.registers import sync_in, sync_out
from minivmm.soft.run.activity import RUNNABLE, UNINITIALIZED, Activity, Closed
from minivmm.soft.run.injection import Injection
from minivmm.soft.run.stepping import Stepper
from minivmm.soft.run.stops import Stops


class Runner:
    """Runs one vCPU."""

    def __init__(self, vcpu: VcpuParts) -> None:
        self.vcpu = vcpu
        self.vm = vcpu.vm
        self.cpu = vcpu.processor
        self.native = vcpu.engine.cpu
        self.page = vcpu.page
        self.events = vcpu.events
        self.internal = InternalDevices(vcpu)
        self.exits = Exits(vcpu)
        self.activity = Activity(vcpu, self.exits)
        self.halt = self.activity.halt
        instructions = Instructions(self)
        self.stops = Stops(vcpu, self.exits, self.internal, instructions, self.halt)
        self.stepper = Stepper(vcpu, self.exits, instructions, self.stops.handle)
        self._deliver = Injection(vcpu, self.exits, self.stepper.step).deliver

    def native_step(self) -> Result:
        """What some of the emulated instructions leave to the engine."""
        return self.stepper.native_step()

    def run(self) -> int:
        """What ioctl(KVM_RUN) returns: 0, a mark (seam.py), or -errno."""
        self.vcpu.thread = get_native_id()
        waited = self.vm.turn.acquire()
        try:
            self.activity.take_turn(waited)
            result = self._enter()
            if self.page.c.kvm_valid_regs:
                sync_out(self.vcpu)
            return result
        except Closed:
            return -errno.EBADF
        finally:
            self.vm.clock.after_run(self.vcpu.engine)
            self.vm.turn.release()
            self.vcpu.thread = 0

    def _enter(self) -> int:
        run = self.page.c
        if (run.kvm_valid_regs or run.kvm_dirty_regs) and (error := sync_in(self.vcpu)):
            return error
        self.vm.clock.before_run(self.vcpu.engine)
        if not lib.soft_begin(self.native):
            return -errno.EFAULT  # the memory behind a slot is gone
        if self.vm.irqchip is None:
            self.vcpu.cr8 = run.cr8 & 0xF
        try:
            if (result := self._complete()) is not None:
                return result
        except GuestFault as fault:
            self.events.exception = fault.event
        if run.immediate_exit or self.vcpu.kicked:
            return self.exits.interrupted()
        if self.vcpu.mp_state == UNINITIALIZED:
            return self.activity.wait_for_start()
        return self._loop()

    def _complete(self) -> Result:
        """Finishes what the last exit left open."""
        if self.exits.pending is not None:
            self.exits.complete()
        if self.vcpu.devices.waiting and (result := self.stops.complete_device()) is not None:
            return result
        return self.stepper.complete()

    def _loop(self) -> int:
        while True:
            try:
                result = self._round()
            except GuestFault as fault:
                self.events.exception = fault.event
                continue
            except TripleFault:
                self.events.exception = None
                return self.exits.exit(k.KVM_EXIT_SHUTDOWN)
            if result is not None:
                return result
            waited = self.vm.turn.offer()
            if waited is not None:
                self.activity.take_turn(waited)
                lib.soft_memory_changed(self.native)  # the others may have written code
                # Whoever asked for the turn has had it, and what else a kick was for the next round looks at. A kick
                # left over would end our turn before it begins: who asks again and again would stop the guest for good.
                self.native.kick = 0
                if self.vcpu.kicked:
                    return self.exits.interrupted()

    def _round(self) -> Result:
        """One delivery of what waits, and one slice of the guest."""
        vcpu, chip, clock = self.vcpu, self.vm.irqchip, self.vm.clock
        clock.before_run(vcpu.engine)
        due = chip.next_event() if chip is not None else None
        if chip is not None and due is not None and due <= clock.now():
            chip.advance()
            due = chip.next_event()
        if chip is not None and chip.split and (ended := chip.take_eoi(vcpu.number)) is not None:
            self.exits.exit(k.KVM_EXIT_IOAPIC_EOI)
            self.page.c.eoi.vector = ended
            return 0
        if self.events.init_pending:
            return self.activity.init()
        if vcpu.mp_state != RUNNABLE:
            return self.activity.idle()
        if (result := self._deliver()) is not None:
            return result
        if vcpu.debug.steps:
            return self.stepper.debug_step()
        if self.cpu.limited or vcpu.debug.watches:
            return self.stops.kicked() if self.native.kick else self.stepper.step()  # a step itself stops for nobody
        return self.stops.handle(lib.soft_enter(self.native, self._budget(due)))

    def _budget(self, due: int | None) -> int:
        """How long the engine may run before it is asked to come back: blocks, or instructions if counting."""
        budget = self.vm.clock.slice_to(due)
        if len(self.vm.vcpus) > 1:  # the others want their turn too, and soonest where this one waits for them
            budget = min(budget, SLICE)
            self.native.watch_pause = 1
        elif self.vm.turn.is_wanted:  # by somebody whose kick we may just have taken back
            budget = min(budget, SLICE)
        self.stops.unlooked += budget
        return budget
