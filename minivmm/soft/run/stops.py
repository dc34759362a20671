"""Why the engine came back, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable

from minivmm.kvm import constants as k
from minivmm.soft.binding import lib
from minivmm.soft.clock import LONG_SLICE
from minivmm.soft.delivery import WITH_ERROR_CODE
from minivmm.soft.emulation.instructions import Instructions
from minivmm.soft.engine import FETCH, Stop
from minivmm.soft.event import Event
from minivmm.soft.exits import Exits, Result
from minivmm.soft.internal_devices import InternalDevices
from minivmm.soft.parts import VcpuParts
from minivmm.soft.processor import BREAKPOINT, DEBUG, DR6_BS, PAGE_FAULT, PROTECTION, STACK, UNDEFINED
from minivmm.x86.bits import RFLAGS_TF


class Stops:
    """Handles each `Stop` of one vCPU's engine. `unlooked` counts blocks since we looked whether code changed."""

    def __init__(
        self,
        vcpu: VcpuParts,
        exits: Exits,
        internal: InternalDevices,
        instructions: Instructions,
        halt: Callable[[], Result],
    ) -> None:
        self.vcpu = vcpu
        self.cpu = vcpu.processor
        self.events = vcpu.events
        self.native, self.env = vcpu.engine.cpu, vcpu.engine.env
        self.devices = vcpu.devices
        self.unlooked = 0
        self._exits = exits
        self._internal = internal
        self._carry_out = instructions.carry_out
        self._handlers: dict[int, Callable[[], Result]] = {
            Stop.BUDGET: self._slice_over,
            Stop.KICK: self.kicked,
            Stop.WINDOW: self._nothing,
            Stop.INSTRUCTION: self._instruction,
            Stop.EXCEPTION: self._exception,
            Stop.UNDEFINED: self._undefined,
            Stop.PAGE_FAULT: self._page_fault,
            Stop.NON_CANONICAL: self._non_canonical,
            Stop.DEVICE: self._device,
            Stop.FETCH_DEVICE: self._unfetchable,
            Stop.HALTED: halt,
            Stop.STEPPED: self._nothing,
            Stop.ENGINE: self._unfetchable,
        }

    def handle(self, stop: int) -> Result:
        """What KVM_RUN returns, or None where the guest goes on. Raises GuestFault."""
        return self._handlers[stop]()

    def _nothing(self) -> Result:
        return None

    def _slice_over(self) -> Result:
        """The host may have written code meanwhile: looked for once in a LONG_SLICE, for a look has its price."""
        if self.unlooked >= LONG_SLICE:
            self.unlooked = 0
            lib.soft_memory_changed(self.native)
        return None

    def kicked(self) -> Result:
        self.native.kick = 0
        return self._exits.interrupted() if self.vcpu.kicked else None

    def _instruction(self) -> Result:
        return self._carry_out(self.native.kind)

    # ---- exceptions ----

    def _exception(self) -> Result:
        self.cpu.look()
        vector, details = self.native.vector, self.native.exception
        soft = bool(details.is_int)
        if vector == BREAKPOINT and soft and self.vcpu.debug.takes_int3:
            self.cpu.rip = self.env.rip - 1
            return self._exits.debug(BREAKPOINT, 0)
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
        stack = self.native.fault_access != FETCH and self.cpu.decode(self.cpu.fetch()).uses_stack
        self.events.exception = Event(STACK if stack else PROTECTION, 0)
        return None

    def _unfetchable(self) -> Result:
        """Code in a hole, or something that the engine can't do: as KVM's emulator, #UD and an exit in ring 0."""
        self.cpu.look()
        self.events.exception = Event(UNDEFINED)
        if self.cpu.protected and self.cpu.cpl:
            return None
        result = self._exits.exit(k.KVM_EXIT_INTERNAL_ERROR)
        self._exits.page.emulation_failure(self.cpu.fetch())
        return result

    # ---- device memory ----

    def _device(self) -> Result:
        return self._after_device(self.devices.begin(self._internal))

    def complete_device(self) -> Result:
        """Userspace is back with an answer to the access in front, or has seen the write."""
        access = self.devices.waiting[0]
        if access.data is None:
            self.devices.answer(self._exits.page.mmio_data(access.size))
        else:
            self.devices.waiting.popleft()
        goes_on = self.devices.unfinished and not self.devices.waiting
        return self._after_device(self.devices.go_on(self._internal) if goes_on else None)

    def _after_device(self, stopped: int | None) -> Result:
        """Shows userspace the next access; `stopped` says how the instruction ended (DeviceMemory.go_on)."""
        if stopped == Stop.STEPPED and self.cpu.flags & RFLAGS_TF:
            self.events.exception = self.cpu.single_step_trap().event
        if self.devices.waiting:
            access = self.devices.waiting[0]
            return self._exits.mmio(access.gpa, access.size, access.data)
        return None if stopped is None else self.handle(stopped)
