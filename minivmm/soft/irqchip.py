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

from collections.abc import Callable
from typing import Any

from minivmm.soft.lapic import Cpu, LocalApic, Tsc


class IrqChip:
    """Local APICs, and (unless `split`) two 8259A and an IOAPIC, in one VM.

    `now` gives the time in ns. `reserved_pins` is args[0] of KVM_CAP_SPLIT_IRQCHIP: the GSIs below it stand for the
    pins of an IOAPIC in userspace, which is told of their end of interrupt (`take_eoi`).
    """

    ports: frozenset[int]  # the ports that the chips answer; all others are the engine's
    lapics: dict[int, LocalApic]

    def __init__(self, now: Callable[[], int], *, split: bool = False, reserved_pins: int = 0) -> None:
        raise NotImplementedError

    def create_pit(self, flags: int = 0) -> None:
        """KVM_CREATE_PIT2. KVM_PIT_SPEAKER_DUMMY in `flags` adds port 0x61."""
        raise NotImplementedError

    def add_cpu(self, number: int, cpu: Cpu, tsc: Tsc) -> LocalApic:
        """A vCPU and its local APIC, whose ID is `number`. Number 0 is the bootstrap processor."""
        raise NotImplementedError

    # ---- interrupts come in ----

    def irq_line(self, gsi: int, level: bool) -> int:
        """Sets a GSI. Returns what KVM_IRQ_LINE_STATUS says: > 0 delivered to so many, 0 coalesced, -1 ignored."""
        raise NotImplementedError

    def signal_msi(self, address: int, data: int) -> int:
        """A message-signalled interrupt. Returns the number of vCPUs that took it, or -1 where none is addressed."""
        raise NotImplementedError

    # ---- and go out to the vCPUs ----

    def interrupt_for(self, number: int) -> int | None:
        """The vector that vCPU `number` would take now if RFLAGS.IF is 1, or None. Changes nothing."""
        raise NotImplementedError

    def acknowledge(self, number: int) -> int:
        """The vCPU takes its interrupt: the vector (INTA of the PIC, or IRR to ISR). Call it only after
        `interrupt_for` gave a vector."""
        raise NotImplementedError

    def inject(self, number: int, vector: int) -> bool:
        """KVM_INTERRUPT with a split irqchip: an external interrupt by way of LINT0. False: one is waiting already."""
        raise NotImplementedError

    def take_eoi(self, number: int) -> int | None:
        """With a split irqchip: the vector for KVM_EXIT_IOAPIC_EOI, once, or None."""
        raise NotImplementedError

    # ---- what the guest touches ----

    def port_read(self, port: int, size: int) -> int:
        """IN from one of `ports`."""
        raise NotImplementedError

    def port_write(self, port: int, size: int, value: int) -> None:
        """OUT to one of `ports`."""
        raise NotImplementedError

    def claims(self, number: int, address: int) -> bool:
        """Whether the guest-physical `address` is one of the chips', seen from vCPU `number`."""
        raise NotImplementedError

    def mmio_read(self, number: int, address: int, size: int) -> int:
        """A read, by vCPU `number`, of an address that `claims` says yes to."""
        raise NotImplementedError

    def mmio_write(self, number: int, address: int, size: int, value: int) -> None:
        """A write, by vCPU `number`, to an address that `claims` says yes to."""
        raise NotImplementedError

    # ---- time ----

    def next_event(self) -> int | None:
        """When, in ns of `now`, the next timer is due; None where none runs."""
        raise NotImplementedError

    def advance(self) -> None:
        """Delivers what is due by now."""
        raise NotImplementedError

    # ---- the KVM API ----

    def vm_ioctl(self, request: int, argument: Any) -> int | None:
        """Answers an ioctl on the VM that is about these chips: the result or -errno. None: it isn't."""
        raise NotImplementedError

    def vcpu_ioctl(self, number: int, request: int, argument: Any) -> int | None:
        """Answers KVM_GET_LAPIC and KVM_SET_LAPIC. None: it is another ioctl."""
        raise NotImplementedError
