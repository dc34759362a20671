"""The interrupt chips of one VM, tied together as KVM_CREATE_IRQCHIP ties them.

    device ──irq_line(gsi)──> routes ──> 8259A pair ──INTR──> LINT0 of a local APIC ──┐
                                 ├─────> IOAPIC ──message──┐                          ├──> vCPU
                                 └─────> MSI ──────message─┴──> local APICs ──────────┘

The vCPUs see it through ports, addresses and MSRs; the engine through `interrupt_for` and `acknowledge`, and through
`next_event` and `advance` for the timers. Every method may be called from any thread. The calls back into a vCPU
(`wake`, `nmi`, `init`, `sipi`) are made with the lock of the chips held: they must only take note and return.

Source: KVM API 4.24 KVM_CREATE_IRQCHIP, 4.25 KVM_IRQ_LINE, 4.52 KVM_SET_GSI_ROUTING, 4.70 KVM_SIGNAL_MSI,
4.71 KVM_CREATE_PIT2, 7.5 KVM_CAP_SPLIT_IRQCHIP.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from minivmm.bus import Bus, Device
from minivmm.devices.ioapic import IoApic
from minivmm.devices.msi import Message
from minivmm.devices.pic import Pic
from minivmm.devices.pit import Pit
from minivmm.kvm.constants import KVM_PIT_SPEAKER_DUMMY
from minivmm.soft import lapic_registers as registers
from minivmm.soft.irq_delivery import receivers
from minivmm.soft.irq_routing import MsiRoute, Pin, Route, Routing, default_routing
from minivmm.soft.irq_timer import TimerInput
from minivmm.soft.lapic import NO_SHORTHAND, Cpu, LocalApic, Tsc

PAGE = 4096


class IrqChip:
    """Local APICs, and (unless `split`) two 8259A and an IOAPIC, in one VM.

    `now` gives the time in ns. `reserved_pins` is args[0] of KVM_CAP_SPLIT_IRQCHIP: the GSIs below it stand for the
    pins of an IOAPIC in userspace, which is told of their end of interrupt (`take_eoi`).
    """

    def __init__(self, now: Callable[[], int], *, split: bool = False, reserved_pins: int = 0) -> None:
        self.now = now
        self.split = split
        self.reserved_pins = reserved_pins
        self.lock: AbstractContextManager[object] = threading.RLock()
        self.lapics: dict[int, LocalApic] = {}
        self._timer: TimerInput | None = None
        self.pic = Pic(self._pic_intr, self._pic_eoi)
        self.ioapic = IoApic(self.send, self._ioapic_eoi)
        self._bus = Bus("port")
        self._apics: list[LocalApic] = []
        self._external: dict[int, int] = {}  # split: vectors from userspace, by vCPU
        self._ended: dict[int, int] = {}  # split: ends of interrupt that userspace must hear of, by vCPU
        self.ports: frozenset[int] = frozenset()  # the ports that the chips answer; all others are the engine's
        if not split:
            self._attach(self.pic.devices)
        self.routing: Routing = {} if split else default_routing()

    def _attach(self, devices: Iterable[Device]) -> None:
        for device in devices:
            self._bus.attach(device)
        self.ports = frozenset(port for device in self._bus.devices for port in device.claim)

    def create_pit(self, flags: int = 0) -> Pit:
        """KVM_CREATE_PIT2. KVM_PIT_SPEAKER_DUMMY in `flags` adds port 0x61."""
        with self.lock:
            self._timer = TimerInput(self.now, self.irq_line, lambda: self.routing, self.pic, self.ioapic)
            counters, speaker = self._timer.pit.devices
            self._attach([counters, speaker] if flags & KVM_PIT_SPEAKER_DUMMY else [counters])
            return self._timer.pit

    @property
    def pit(self) -> Pit | None:
        """The PIT, once there is one."""
        return self._timer.pit if self._timer else None

    def add_cpu(self, number: int, cpu: Cpu, tsc: Tsc) -> LocalApic:
        """A vCPU and its local APIC, whose ID is `number`. Number 0 is the bootstrap processor."""
        with self.lock:
            apic = LocalApic(number, cpu, tsc, self.now, self)
            self.lapics[number] = apic
            self._apics = [self.lapics[each] for each in sorted(self.lapics)]
            return apic

    # ---- interrupts come in ----

    def set_routing(self, routing: Routing) -> None:
        """Replaces the whole table. See irq_routing.py for what makes one."""
        with self.lock:
            self.routing = routing

    def irq_line(self, gsi: int, level: bool) -> int:
        """Sets a GSI. Returns what KVM_IRQ_LINE_STATUS says: > 0 delivered to so many, 0 coalesced, -1 ignored."""
        with self.lock:
            results = [self._drive(route, level) for route in self.routing.get(gsi, ())]
            taken = [result for result in results if result >= 0]
            return sum(taken) if taken else -1

    def _drive(self, route: Route, level: bool) -> int:
        if isinstance(route, MsiRoute):  # a message has no falling edge
            return self.send(Message.from_msi(route.address, route.data)) if level else -1
        chip = self.pic if route.chip == "pic" else self.ioapic
        return chip.set_line(route.number, level)

    def signal_msi(self, address: int, data: int) -> int:
        """A message-signalled interrupt. Returns the number of vCPUs that took it."""
        return self.send(Message.from_msi(address, data))

    def send(self, message: Message, source: LocalApic | None = None, shorthand: int = NO_SHORTHAND) -> int:
        """Delivers a message to the local APICs. Returns how many took it."""
        with self.lock:
            return sum(apic.deliver(message) for apic in receivers(self._apics, message, source, shorthand))

    # ---- and go out to the vCPUs ----

    def interrupt_for(self, number: int) -> int | None:
        """The vector that vCPU `number` would take now if RFLAGS.IF is 1, or None. Changes nothing."""
        apic = self.lapics[number]
        if (self.pic.intr or self._external) and apic.takes_extint:
            with self.lock:
                vector = self._external.get(number) if self.split else self.pic.pending_vector()
            if vector is not None:
                return vector
        return apic.pending_vector()

    def acknowledge(self, number: int) -> int:
        """The vCPU takes its interrupt: the vector (INTA of the PIC, or IRR to ISR). Call it only after
        `interrupt_for` gave a vector."""
        with self.lock:
            apic = self.lapics[number]
            if apic.takes_extint:
                if number in self._external:
                    return self._external.pop(number)
                if self.pic.intr:
                    return self.pic.acknowledge()
            return apic.accept()

    def inject(self, number: int, vector: int) -> bool:
        """KVM_INTERRUPT with a split irqchip: an external interrupt by way of LINT0. False: one is waiting already."""
        with self.lock:
            if number in self._external:
                return False
            self._external[number] = vector
            self.lapics[number].cpu.wake()
            return True

    def _pic_intr(self, level: bool) -> None:
        if level:
            for apic in self._apics:
                if apic.takes_extint:
                    apic.cpu.wake()

    # ---- ends of interrupt ----

    def end_of_interrupt(self, source: LocalApic, vector: int, level_triggered: bool) -> None:
        """A local APIC ended `vector`."""
        with self.lock:
            if not self.split:
                self.ioapic.eoi(vector, level_triggered)
            elif level_triggered and self._is_reserved(vector):
                self._ended[source.identity] = vector
                source.cpu.wake()

    def _is_reserved(self, vector: int) -> bool:
        # Whether a pin of the IOAPIC in userspace sends this vector.
        routes = (route for gsi in range(self.reserved_pins) for route in self.routing.get(gsi, ()))
        return any(isinstance(route, MsiRoute) and route.data & 0xFF == vector for route in routes)

    def take_eoi(self, number: int) -> int | None:
        """With a split irqchip: the vector for KVM_EXIT_IOAPIC_EOI, once, or None."""
        return self._ended.pop(number, None) if self._ended else None

    def _pic_eoi(self, irq: int) -> None:
        if self._timer:
            self._timer.ended_at(Pin("pic", irq))

    def _ioapic_eoi(self, pin: int) -> None:
        if self._timer:
            self._timer.ended_at(Pin("ioapic", pin))

    # ---- what the guest touches ----

    def port_read(self, port: int, size: int) -> int:
        """IN from one of `ports`."""
        with self.lock:
            return self._bus.read(port, size)

    def port_write(self, port: int, size: int, value: int) -> None:
        """OUT to one of `ports`."""
        with self.lock:
            self._access(self._bus.write, port, size, value)

    def _access(self, write: Callable[[int, int, int], None], where: int, size: int, value: int) -> None:
        # A write to a chip that may unmask the timer.
        before = self._timer.masks() if self._timer else []
        write(where, size, value)
        if self._timer:
            self._timer.unmasked(before)

    def claims(self, number: int, address: int) -> bool:
        """Whether the guest-physical `address` is one of the chips', seen from vCPU `number`."""
        page = address & ~(PAGE - 1)
        if page == self.lapics[number].base & ~(PAGE - 1):
            return True
        return address in self.ioapic.claim and not self.split

    def mmio_read(self, number: int, address: int, size: int) -> int:
        """A read, by vCPU `number`, of an address that `claims` says yes to."""
        with self.lock:
            apic, mask = self.lapics[number], (1 << 8 * size) - 1
            if address in self.ioapic.claim and not self.split:
                return self.ioapic.read(address - self.ioapic.claim.start, size) & mask
            return registers.mmio_read(apic, address & (PAGE - 1), size) & mask

    def mmio_write(self, number: int, address: int, size: int, value: int) -> None:
        """A write, by vCPU `number`, to an address that `claims` says yes to."""
        with self.lock:
            if address in self.ioapic.claim and not self.split:
                self._access(self.ioapic.write, address - self.ioapic.claim.start, size, value)
            else:
                registers.mmio_write(self.lapics[number], address & (PAGE - 1), size, value)

    def read_msr(self, number: int, index: int) -> int | None:
        """RDMSR of an MSR that `lapic_registers.has_msr` says yes to. None: #GP(0)."""
        with self.lock:
            return registers.read_msr(self.lapics[number], index)

    def write_msr(self, number: int, index: int, value: int) -> bool:
        """WRMSR of such an MSR. False: #GP(0), and nothing changed."""
        with self.lock:
            return registers.write_msr(self.lapics[number], index, value)

    # ---- time ----

    def next_event(self) -> int | None:
        """When, in ns of `now`, the next timer is due; None where none runs."""
        earliest = self._timer.pit.next_event() if self._timer else None
        for apic in self._apics:
            due = apic.timer.due
            if due is not None and (earliest is None or due < earliest):
                earliest = due
        return earliest

    def advance(self) -> None:
        """Delivers what is due by now."""
        with self.lock:
            if self._timer:
                self._timer.pit.advance()
            for apic in self._apics:
                apic.timer.advance()
