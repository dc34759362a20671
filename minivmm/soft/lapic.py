"""The local APIC: the interrupt controller that every processor has.

Source: Intel SDM vol. 3, chapter "Advanced Programmable Interrupt Controller (APIC)".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


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


class Tsc(Protocol):
    """The time-stamp counter of a processor, for the timer's TSC-deadline mode."""

    khz: int

    def read(self) -> int: ...


class LocalApic:
    """One local APIC."""

    def __init__(self, identity: int, cpu: Cpu, tsc: Tsc, now: Callable[[], int]) -> None:
        raise NotImplementedError

    def reset(self, *, init: bool = False) -> None:
        """Power-up, or INIT: which leaves the APIC ID and IA32_APIC_BASE alone."""
        raise NotImplementedError

    base: int  # MSR IA32_APIC_BASE as it reads; set it by write_msr (the guest) or set_base (KVM_SET_SREGS)
    cr8: int  # CR8: bits 7:4 of the task priority

    def set_base(self, value: int) -> bool:
        """IA32_APIC_BASE by the host: any legal state, from any. False where the state itself is illegal."""
        raise NotImplementedError

    def pending_vector(self) -> int | None:
        """The vector that outranks the processor priority, or None."""
        raise NotImplementedError

    def accept(self) -> int:
        """The processor takes `pending_vector()`: IRR to ISR. The spurious vector where there is none any more."""
        raise NotImplementedError

    @staticmethod
    def has_msr(index: int) -> bool:
        """Whether MSR `index` is the APIC's: IA32_APIC_BASE, IA32_TSC_DEADLINE, 0x800–0x8FF."""
        return index in (0x1B, 0x6E0) or index >> 8 == 8

    def read_msr(self, index: int) -> int | None:
        """RDMSR. None: #GP(0)."""
        raise NotImplementedError

    def write_msr(self, index: int, value: int) -> bool:
        """WRMSR. False: #GP(0), and nothing changed."""
        raise NotImplementedError
