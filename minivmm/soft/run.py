"""KVM_RUN: deliver what waits, run a slice, see why the engine stopped, and go round until userspace is needed.

Source: KVM API 4.10 KVM_RUN, "5. The kvm_run structure".
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from threading import get_native_id

from minivmm.kvm import constants as k
from minivmm.soft import segment_limits, state
from minivmm.soft.binding import ffi, lib
from minivmm.soft.clock import LONG_SLICE, SLICE
from minivmm.soft.delivery import WITH_ERROR_CODE, TripleFault, deliver
from minivmm.soft.engine import FETCH, Stop
from minivmm.soft.event import Event
from minivmm.soft.instructions import Instructions, Pending, Result
from minivmm.soft.internal_devices import InternalDevices
from minivmm.soft.memory_operands import decode
from minivmm.soft.page import PIO_DATA
from minivmm.soft.parts import VcpuParts
from minivmm.soft.processor import DEBUG, MASK64, PAGE_FAULT, PROTECTION, STACK, UNDEFINED, GuestFault

RUNNABLE, HALTED = k.KVM_MP_STATE_RUNNABLE, k.KVM_MP_STATE_HALTED
UNINITIALIZED, INIT_RECEIVED = k.KVM_MP_STATE_UNINITIALIZED, k.KVM_MP_STATE_INIT_RECEIVED
DR6_BS = 1 << 14
BREAKPOINT_VECTOR, NMI_VECTOR = 3, 2


class Closed(Exception):
    """The vCPU was given up while it waited."""


class Runner:
    """Runs one vCPU. `pending` completes the instruction of the last exit when userspace comes back."""

    def __init__(self, vcpu: VcpuParts) -> None:
        self.vcpu = vcpu
        self.vm = vcpu.vm
        self.cpu = vcpu.processor
        self.native = vcpu.engine.cpu
        self.env = vcpu.engine.env
        self.page = vcpu.page
        self.events = vcpu.events
        self.pending: Pending | None = None
        # KVM_CAP_SYNC_REGS, where userspace asks for it: registers from and to the shared page (vcpu.py sets them)
        self.sync_in: Callable[[], int] = lambda: 0
        self.sync_out: Callable[[], None] = lambda: None
        self.internal = InternalDevices(vcpu)
        self._instructions = Instructions(self)
        self._debug_due = False
        self._unlooked = 0  # blocks since we looked whether code changed
        self._stops: dict[int, Callable[[], Result]] = {
            Stop.BUDGET: self._slice_over,
            Stop.KICK: self._kick,
            Stop.WINDOW: self._nothing,
            Stop.INSTRUCTION: self._instruction,
            Stop.EXCEPTION: self._exception,
            Stop.UNDEFINED: self._undefined,
            Stop.PAGE_FAULT: self._page_fault,
            Stop.NON_CANONICAL: self._non_canonical,
            Stop.DEVICE: self._device,
            Stop.FETCH_DEVICE: self._unfetchable,
            Stop.HALTED: self.halt,
            Stop.STEPPED: self._nothing,
            Stop.ENGINE: self._unfetchable,
        }

    # ---- KVM_RUN ----

    def run(self) -> int:
        """What ioctl(KVM_RUN) returns: 0, a mark (seam.py), or -errno."""
        self.vcpu.thread = get_native_id()
        waited = self.vm.turn.acquire()
        try:
            self._in_turn(waited)
            result = self._enter()
            if self.page.c.kvm_valid_regs:
                self.sync_out()
            return result
        except Closed:
            return -errno.EBADF
        finally:
            self.vm.clock.after_run(self.vcpu.engine)
            self.vm.turn.release()
            self.vcpu.thread = 0

    def _enter(self) -> int:
        run = self.page.c
        if (run.kvm_valid_regs or run.kvm_dirty_regs) and (error := self.sync_in()):
            return error
        self.vm.clock.before_run(self.vcpu.engine)
        if not lib.soft_begin(self.native):
            return -errno.EFAULT  # the memory behind a slot is gone
        self._take_cr8(run.cr8)
        try:
            if (result := self._complete()) is not None:
                return result
        except GuestFault as fault:
            self.raise_in_guest(fault)
        if run.immediate_exit or self.vcpu.kicked:
            return self._interrupted()
        if self.vcpu.mp_state == UNINITIALIZED:
            return self._wait_for_start()
        return self._loop()

    def _loop(self) -> int:
        while True:
            try:
                result = self._round()
            except GuestFault as fault:
                self.raise_in_guest(fault)
                continue
            except TripleFault:
                self.events.exception = None
                return self.exit(k.KVM_EXIT_SHUTDOWN)
            if result is not None:
                return result
            waited = self.vm.turn.offer()
            if waited is not None:
                self._in_turn(waited)
                lib.soft_memory_changed(self.native)  # the others may have written code
                # Whoever asked for the turn has had it, and what else a kick was for the next round looks at. A kick
                # left over would end our turn before it begins: who asks again and again would stop the guest for good.
                self.native.kick = 0
                if self.vcpu.kicked:
                    return self._interrupted()

    def _in_turn(self, waited: int) -> None:
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
        self._in_turn(0)
        lib.soft_memory_changed(self.native)
        self.native.kick = 0

    def _round(self) -> Result:
        """One delivery of what waits, and one slice of the guest."""
        vcpu, chip, clock = self.vcpu, self.vm.irqchip, self.vm.clock
        clock.before_run(vcpu.engine)
        due = chip.next_event() if chip is not None else None
        if chip is not None and due is not None and due <= clock.now():
            chip.advance()
            due = chip.next_event()
        if chip is not None and chip.split and (ended := chip.take_eoi(vcpu.number)) is not None:
            self.exit(k.KVM_EXIT_IOAPIC_EOI)
            self.page.c.eoi.vector = ended
            return 0
        if self.events.init_pending:
            return self._init()
        if vcpu.mp_state != RUNNABLE:
            return self._idle()
        if (result := self._deliver()) is not None:
            return result
        if vcpu.debug.steps:
            return self._debug_step()
        if self.cpu.limited or vcpu.debug.watches:
            return self._kick() if self.native.kick else self.step()  # a step itself stops for nobody
        budget = clock.slice_to(due)
        if len(self.vm.vcpus) > 1:  # the others want their turn too, and soonest where this one waits for them
            budget = min(budget, SLICE)
            self.native.watch_pause = 1
        elif self.vm.turn.is_wanted:  # by somebody whose kick we may just have taken back
            budget = min(budget, SLICE)
        self._unlooked += budget
        return self._stops[lib.soft_enter(self.native, budget)]()

    # ---- before the guest runs ----

    def _complete(self) -> Result:
        """Finishes what the last exit left open."""
        devices = self.vcpu.devices
        pending, self.pending = self.pending, None
        if pending is not None:
            finish, rip = pending
            if self.cpu.rip == rip:  # else userspace has set it elsewhere meanwhile
                finish()
        if devices.waiting:
            access = devices.waiting[0]
            if access.data is None:
                devices.answer(self.page.mmio_data(access.size))
            else:
                devices.waiting.popleft()
            return self._after_device(None if devices.waiting else self._device_goes_on())
        if self._debug_due:
            self._debug_due = False
            return self.debug_exit(DEBUG, DR6_BS)
        return None

    def _take_cr8(self, cr8: int) -> None:
        if self.vm.irqchip is None:
            self.vcpu.cr8 = cr8 & 0xF

    def _deliver(self) -> Result:
        """Exceptions first, then NMI, then interrupts (SDM vol. 3, table "Priority Among Concurrent Events")."""
        events = self.events
        self.native.watch_if = 0
        if events.exception is not None:
            exception, events.exception = events.exception, None
            deliver(self.cpu, exception)
        if events.nmi_pending and not events.nmi_masked:
            self.cpu.look()
            if self.cpu.in_shadow:
                return self.step()
            events.nmi_pending, events.nmi_masked = False, True
            self.native.watch_iret = 1
            deliver(self.cpu, Event(NMI_VECTOR, external=True))
        if events.interrupt is not None:
            vector, events.interrupt = events.interrupt, None
            deliver(self.cpu, Event(vector, external=True))
        return self._interrupts()

    def _interrupts(self) -> Result:
        chip = self.vm.irqchip
        wants_window = bool(self.page.c.request_interrupt_window) and (chip is None or chip.split)
        if self.vcpu.debug.blocks_interrupts:
            return None
        waiting = chip is not None and chip.interrupt_for(self.vcpu.number) is not None
        if not (waiting or wants_window):
            return None
        env = self.cpu.look()
        if not env.rflags & state.IF:
            self.native.watch_if = 1
            return None
        if self.cpu.in_shadow:
            self.native.watch_if = 1  # the slice that follows this instruction ends at its first block
            return self.step()
        if waiting:
            assert chip is not None
            deliver(self.cpu, Event(chip.acknowledge(self.vcpu.number), external=True))
            return None
        return self.exit(k.KVM_EXIT_IRQ_WINDOW_OPEN)

    # ---- one instruction ----

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

    def _watched_step(self, hits: int) -> Result:
        """An instruction that touches watched data: a debug trap behind it."""
        before = self.cpu.rip
        result = self.native_step()
        if result is not None or (self.events.exception is not None and self.cpu.rip == before):
            return result
        if self.vcpu.debug.owns_breakpoints:
            return self.debug_exit(DEBUG, hits)
        self.cpu.dr[6] = self.cpu.dr[6] & ~0xF | hits
        self.events.exception = Event(DEBUG)
        return None

    def native_step(self) -> Result:
        """One instruction, by the engine. A guest that steps itself gets its trap behind it."""
        traced = self.env.rflags & state.TF
        reason = lib.soft_step(self.native)
        if reason == Stop.STEPPED and traced:
            self._trap()
        return self._stops[reason]()

    def _trap(self) -> None:
        """The end of an instruction of a guest that steps itself."""
        self.cpu.dr[6] |= DR6_BS
        self.events.exception = Event(DEBUG)

    def _debug_step(self) -> Result:
        before = self.cpu.rip
        result = self.step()
        if result is not None:
            self._debug_due = True
            return result
        if self.events.exception is not None and self.cpu.rip == before:
            return None  # first it goes to the handler
        return self.debug_exit(DEBUG, DR6_BS)

    def debug_exit(self, exception: int, dr6: int) -> int:
        """KVM_EXIT_DEBUG at the present instruction."""
        env = self.cpu.look()
        arch = self.page.c.debug.arch
        result = self.exit(k.KVM_EXIT_DEBUG)
        arch.exception, arch.pc = exception, env.cs.base + env.rip & MASK64
        arch.dr6, arch.dr7 = dr6 | 0xFFFF0FF0, self.vcpu.debug.dr7
        return result

    # ---- why the engine stopped ----

    def _nothing(self) -> Result:
        return None

    def _slice_over(self) -> Result:
        """The host may have written code meanwhile: looked for once in a LONG_SLICE, for a look has its price."""
        if self._unlooked >= LONG_SLICE:
            self._unlooked = 0
            lib.soft_memory_changed(self.native)
        return None

    def _kick(self) -> Result:
        self.native.kick = 0
        return self._interrupted() if self.vcpu.kicked else None

    def _instruction(self) -> Result:
        return self._instructions.carry_out(self.native.kind)

    def _exception(self) -> Result:
        self.cpu.look()
        vector, details = self.native.vector, self.native.exception
        soft = bool(details.is_int)
        if vector == BREAKPOINT_VECTOR and soft and self.vcpu.debug.takes_int3:
            self.cpu.rip = self.env.rip - 1
            return self.debug_exit(BREAKPOINT_VECTOR, 0)
        if vector == DEBUG and not soft:
            self.cpu.dr[6] |= DR6_BS
        error = details.error_code & 0xFFFFFFFF if vector in WITH_ERROR_CODE and not soft else None
        self.events.exception = Event(vector, error, soft=soft)
        return None

    def _undefined(self) -> Result:
        self.events.exception = Event(UNDEFINED)
        return None

    def _page_fault(self) -> Result:
        native = self.native
        address = native.fault_va if self.cpu.long else native.fault_va & 0xFFFFFFFF
        self.events.exception = Event(PAGE_FAULT, native.fault_code, cr2=address)
        return None

    def _non_canonical(self) -> Result:
        self.cpu.look()
        stack = self.native.fault_access != FETCH and decode(self.cpu.fetch(), 64).uses_stack
        self.events.exception = Event(STACK if stack else PROTECTION, 0)
        return None

    def _device(self) -> Result:
        return self._after_device(self.vcpu.devices.begin(self.internal))

    def _device_goes_on(self) -> Result:
        return self.vcpu.devices.go_on(self.internal) if self.vcpu.devices.unfinished else None

    def _after_device(self, stopped: int | None) -> Result:
        """Shows userspace the next access; `stopped` says how the instruction ended (DeviceMemory.go_on)."""
        devices = self.vcpu.devices
        if stopped == Stop.STEPPED and self.cpu.flags & state.TF:
            self._trap()
        if devices.waiting:
            access = devices.waiting[0]
            result = self.exit(k.KVM_EXIT_MMIO)
            self.page.mmio(access.gpa, access.size, access.data)
            return result
        return None if stopped is None else self._stops[stopped]()

    def _unfetchable(self) -> Result:
        """Code in a hole, or something that the engine can't do: as KVM's emulator, #UD and an exit in ring 0."""
        self.cpu.look()
        self.events.exception = Event(UNDEFINED)
        if self.cpu.protected and self.cpu.cpl:
            return None
        result = self.exit(k.KVM_EXIT_INTERNAL_ERROR)
        self.page.emulation_failure(self.cpu.fetch())
        return result

    def raise_in_guest(self, fault: GuestFault) -> None:
        """What an emulated instruction faulted with is delivered next."""
        self.events.exception = Event(fault.vector, fault.error, cr2=fault.cr2)

    # ---- sleeping, starting, stopping ----

    def halt(self) -> Result:
        """HLT: with an irqchip in the kernel the vCPU sleeps there; without one, userspace is told."""
        if self.vm.irqchip is None:
            return self.exit(k.KVM_EXIT_HLT)
        self.vcpu.mp_state = HALTED
        return None

    def _idle(self) -> Result:
        """Waits for what ends HLT, or INIT's wait for a start-up IPI."""
        vcpu, chip, clock = self.vcpu, self.vm.irqchip, self.vm.clock
        assert chip is not None
        self.vcpu.awake.clear()
        if self._may_go_on():
            vcpu.mp_state = RUNNABLE
            return None
        if self.vcpu.kicked:
            return self._interrupted()
        due = chip.next_event()
        if due is not None and self.vm.others_sleep(vcpu) and clock.skip_to(due):
            return None
        self._sleep(None if due is None else max(0.0, (due - clock.now()) / 1e9))
        return self._interrupted() if self.vcpu.kicked else None  # its request to stop, _sleep has taken back

    def _may_go_on(self) -> bool:
        events, chip = self.events, self.vm.irqchip
        if events.init_pending:
            return True
        if self.vcpu.mp_state == INIT_RECEIVED:
            return self._start()
        if events.nmi_pending and not events.nmi_masked:
            return True
        waiting = chip is not None and chip.interrupt_for(self.vcpu.number) is not None
        return waiting and bool(self.cpu.flags & state.IF)

    def _start(self) -> bool:
        """The start-up IPI: real mode, at vector << 12."""
        vector = self.events.sipi_vector
        if vector is None:
            return False
        self.events.sipi_vector = None
        env = self.cpu.look()
        env.cs.selector, env.cs.base, env.rip = vector << 8, vector << 12, 0
        self.cpu.put()
        return True

    def _init(self) -> Result:
        self.events.init_pending = False
        self.vcpu.init_registers()
        self.vcpu.mp_state = RUNNABLE if self.vcpu.number == 0 else INIT_RECEIVED
        return None

    def _wait_for_start(self) -> int:
        """An application processor that nobody has started yet: KVM returns EAGAIN when somebody has."""
        self.vcpu.awake.clear()
        if not (self.events.init_pending or self.events.sipi_vector is not None or self.vcpu.kicked):
            self._sleep()
        if self.vcpu.kicked:
            return self._interrupted()
        if self.events.init_pending:
            self._init()
        if self.events.sipi_vector is not None and self._start():
            self.vcpu.mp_state = RUNNABLE
        return -errno.EAGAIN

    def _interrupted(self) -> int:
        self.vcpu.kicked = False
        self.native.kick = 0
        self.exit(k.KVM_EXIT_INTR)
        return -errno.EINTR

    # ---- exits ----

    def exit(self, reason: int) -> int:
        """Fills in what every exit carries."""
        env = self.cpu.look()
        if_flag = bool(env.rflags & state.IF)
        ready = if_flag and not self.cpu.in_shadow and not self.events.any
        vcpu = self.vcpu
        self.page.head(reason, ready, if_flag, vcpu.read_cr8(), vcpu.msrs.apic_base)
        return 0

    def io_exit(self, direction: int, size: int, port: int, count: int, data: bytes = b"") -> int:
        """KVM_EXIT_IO. Returns a mark where it is one small item, as the compiled KVM binding does (seam.py)."""
        vcpu, if_flag = self.vcpu, bool(self.env.rflags & state.IF)
        ready = if_flag and not self.env.hflags & state.HF_SHADOW
        self.page.io(ready, if_flag, vcpu.read_cr8(), vcpu.msrs.apic_base, direction, size, port, count, data)
        if count != 1 or (data and any(data[1:])):
            return 0
        return 1 << 52 | direction << 51 | size << 48 | port << 32 | (data[0] if data else 0)

    def io_data(self, size: int) -> bytes:
        """What userspace put into the page of data."""
        return self.page.bytes[PIO_DATA : PIO_DATA + size]
