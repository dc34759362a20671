"""The local APIC: the interrupt controller that every processor has.

Three sets of vectors, each a 256-bit number here: requested (IRR), in service (ISR), and which of them came
level-triggered (TMR). The highest bit is the most urgent. A request goes through when its class (bits 7:4) is above
that of the processor priority, which is the higher of the task priority and what is in service.

The registers as the guest sees them are in lapic_registers.py, the timer is in lapic_timer.py.

Source: Intel SDM vol. 3, chapter "Advanced Programmable Interrupt Controller (APIC)".
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from minivmm.devices.msi import EXTINT, FIXED, INIT, LOWEST, NMI, STARTUP, Message
from minivmm.soft.lapic_timer import ApicTimer, Tsc

BASE = 0xFEE0_0000
BASE_BSP, BASE_X2APIC, BASE_ENABLED = 1 << 8, 1 << 10, 1 << 11
BASE_RESERVED = 0x2FF

SVR_ENABLED = 1 << 8
LVT_MASKED, LVT_LEVEL = 1 << 16, 1 << 15
TIMER, THERMAL, PERFORMANCE, LINT0, LINT1, ERROR = range(6)  # the LVT, in the order of its registers
ESR_SEND_ILLEGAL, ESR_RECEIVED_ILLEGAL, ESR_ILLEGAL_REGISTER = 1 << 5, 1 << 6, 1 << 7
NO_SHORTHAND, SELF, ALL, OTHERS = range(4)  # ICR bits 19:18
ICR_LOGICAL, ICR_ASSERT, ICR_LEVEL = 1 << 11, 1 << 14, 1 << 15


class Cpu(Protocol):
    """What a local APIC asks of its processor. Each call only takes note, and ends the present slice soon."""

    def wake(self) -> None:
        """An interrupt may be waiting: come out of HLT and ask `pending_vector`."""
        ...

    def nmi(self) -> None: ...

    def init(self) -> None:
        """An INIT arrived. When it takes effect, the processor calls `LocalApic.reset(init=True)`."""
        ...

    def sipi(self, vector: int) -> None:
        """A start-up IPI: begin in real mode at `vector` << 12, if in wait-for-SIPI."""
        ...


class ApicBus(Protocol):
    """What connects the local APICs with each other and with the IOAPIC. `lock` is held while any of them changes."""

    @property
    def lock(self) -> AbstractContextManager[object]: ...

    def send(self, message: Message, source: LocalApic | None = None, shorthand: int = NO_SHORTHAND) -> int:
        """Delivers a message. Returns how many processors took it."""
        ...

    def end_of_interrupt(self, source: LocalApic, vector: int, level_triggered: bool) -> None: ...


class LocalApic:
    """The APIC of processor number `identity`, as it is after power-up.

    `has_x2apic` and `has_deadline` say what CPUID shows (leaf 1, ECX bits 21 and 24); set them if it doesn't.
    """

    def __init__(self, identity: int, cpu: Cpu, tsc: Tsc, now: Callable[[], int], bus: ApicBus) -> None:
        self.identity = identity
        self.cpu = cpu
        self.bus = bus
        self.timer = ApicTimer(now, tsc, lambda: self.local_interrupt(TIMER))
        self.has_x2apic = self.has_deadline = True
        self.physical_bits = 52  # MAXPHYADDR, for the reserved bits of IA32_APIC_BASE
        self.base = BASE | BASE_ENABLED | (BASE_BSP if identity == 0 else 0)
        self.reset()

    def reset(self, *, init: bool = False) -> None:
        """Power-up, or INIT: which leaves the APIC ID and IA32_APIC_BASE alone."""
        self.irr = self.isr = self.tmr = 0
        self.tpr = self.ldr = self.icr = 0
        self.dfr = 0xFFFF_FFFF  # flat model
        self.svr = 0xFF  # software-disabled
        self.esr = self.errors = 0  # `errors` gathers what the next write to ESR shows
        self.lvt = [LVT_MASKED] * 6
        self.timer.reset()
        self.taken = 0  # how often lowest priority chose us
        if not init:
            self.xapic_id = self.identity & 0xFF
            self.base = BASE | BASE_ENABLED | self.base & BASE_BSP
        if self.identity == 0:
            # The state that firmware leaves: the PIC gets through to the bootstrap processor ("virtual wire mode",
            # MultiProcessor Specification). There may be no firmware here, and KVM does the same.
            self.lvt[LINT0] = EXTINT << 8

    # ---- modes ----

    @property
    def enabled(self) -> bool:
        """By IA32_APIC_BASE."""
        return bool(self.base & BASE_ENABLED)

    @property
    def software_enabled(self) -> bool:
        """By IA32_APIC_BASE and by the spurious-vector register: takes fixed interrupts."""
        return self.svr & SVR_ENABLED != 0 and self.enabled

    @property
    def x2apic(self) -> bool:
        return bool(self.base & BASE_X2APIC)

    def set_base(self, value: int, *, by_guest: bool = False) -> bool:
        """IA32_APIC_BASE. False where the state is illegal, or (`by_guest`) may not follow the present one.

        Source: Intel SDM vol. 3, "x2APIC State Transitions": from x2APIC only to disabled, into it only from xAPIC.
        """
        if value & BASE_RESERVED or value >> self.physical_bits:
            return False
        x2apic, enabled = bool(value & BASE_X2APIC), bool(value & BASE_ENABLED)
        if x2apic and not (enabled and self.has_x2apic):
            return False
        if by_guest and ((self.x2apic and enabled and not x2apic) or (x2apic and not self.enabled)):
            return False
        if (value ^ self.base) & (BASE_ENABLED | BASE_X2APIC):
            self.xapic_id = self.identity & 0xFF
        self.base = value
        return True

    @property
    def logical_id(self) -> int:
        """LDR as it reads. In x2APIC mode it follows from the ID: cluster in bits 31:16, one bit of 15:0 set."""
        return self.identity >> 4 << 16 | 1 << (self.identity & 0xF) if self.x2apic else self.ldr

    # ---- priorities ----

    @property
    def ppr(self) -> int:
        """The processor priority."""
        serving = self.isr.bit_length() - 1 & 0xF0 if self.isr else 0
        return self.tpr if self.tpr & 0xF0 >= serving else serving

    @property
    def cr8(self) -> int:
        """CR8: bits 7:4 of the task priority."""
        return self.tpr >> 4

    @cr8.setter
    def cr8(self, value: int) -> None:
        self.tpr = (value & 0xF) << 4

    def pending_vector(self) -> int | None:
        """The vector that outranks the processor priority, or None."""
        if not self.irr or not self.enabled:
            return None
        vector = self.irr.bit_length() - 1
        return vector if vector & 0xF0 > self.ppr & 0xF0 else None

    def accept(self) -> int:
        """The processor takes `pending_vector()`: IRR to ISR. The spurious vector where there is none any more."""
        vector = self.pending_vector()
        if vector is None:
            return self.svr & 0xFF  # and nothing is in service: the handler must not send an EOI
        self.irr &= ~(1 << vector)
        self.isr |= 1 << vector
        return vector

    def end_of_interrupt(self) -> None:
        """The EOI register: ends what is first in service, and tells the IOAPIC."""
        if self.isr:
            vector = self.isr.bit_length() - 1
            self.isr &= ~(1 << vector)
            self.bus.end_of_interrupt(self, vector, bool(self.tmr >> vector & 1))

    # ---- interrupts come in ----

    def deliver(self, message: Message) -> bool:
        """A message for this APIC. True: it took it."""
        mode = message.delivery_mode
        if mode in (FIXED, LOWEST):
            return self._request(message.vector, message.level_triggered)
        if mode == NMI:
            self.cpu.nmi()
        elif mode == INIT and message.level:  # its de-assertion means nothing to processors since the Pentium 4
            self.cpu.init()
        elif mode == STARTUP:
            self.cpu.sipi(message.vector)
        else:  # there is no SMM here, and an ExtINT comes from the PIC only
            return False
        return True

    def _request(self, vector: int, level_triggered: bool) -> bool:
        if not self.software_enabled:
            return False
        if vector < 16:
            self.report(ESR_RECEIVED_ILLEGAL)
            return False
        bit = 1 << vector
        self.irr |= bit
        self.tmr = self.tmr | bit if level_triggered else self.tmr & ~bit
        self.cpu.wake()
        return True

    def local_interrupt(self, entry: int) -> None:
        """One of our own sources: LVT entry `entry` says what becomes of it."""
        lvt = self.lvt[entry]
        if lvt & LVT_MASKED:
            return
        mode = FIXED if entry in (TIMER, ERROR) else lvt >> 8 & 7
        level = entry in (LINT0, LINT1) and bool(lvt & LVT_LEVEL)
        self.deliver(Message(lvt & 0xFF, 0, delivery_mode=mode, level_triggered=level))

    @property
    def takes_extint(self) -> bool:
        """Whether the INTR line of the PIC comes through: on LINT0, or past an APIC that is off."""
        return not self.enabled or self.lvt[LINT0] & (LVT_MASKED | 0x700) == EXTINT << 8

    def report(self, error: int) -> None:
        """An error for ESR. The first of its kind since ESR was written interrupts."""
        if not self.errors & error:
            self.errors |= error
            self.local_interrupt(ERROR)

    # ---- and go out ----

    def send(self, low: int, dest: int) -> None:
        """Sends what the ICR holds: the low half, and the destination (8 bits, or 32 in x2APIC mode)."""
        mode, vector = low >> 8 & 7, low & 0xFF
        if mode in (FIXED, LOWEST) and vector < 16:
            self.report(ESR_SEND_ILLEGAL)
            return
        # "Level" and "trigger mode" mean something for INIT only (SDM, "Interrupt Command Register").
        init = mode == INIT
        message = Message(
            vector,
            dest,
            logical=bool(low & ICR_LOGICAL),
            delivery_mode=mode,
            level_triggered=init and bool(low & ICR_LEVEL),
            level=not init or bool(low & ICR_ASSERT),
        )
        self.bus.send(message, self, low >> 18 & 3)


__all__ = ["ApicBus", "Cpu", "LocalApic", "Tsc"]
