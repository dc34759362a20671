"""What waits to be delivered to a vCPU, as KVM_GET_VCPU_EVENTS shows it. Source: KVM API 4.31, 4.32."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any

from minivmm.kvm import constants as k
from minivmm.soft.event import Event

_KNOWN = (
    k.KVM_VCPUEVENT_VALID_NMI_PENDING
    | k.KVM_VCPUEVENT_VALID_SIPI_VECTOR
    | k.KVM_VCPUEVENT_VALID_SHADOW
    | k.KVM_VCPUEVENT_VALID_SMM
)


@dataclass
class Events:
    """Of each kind, what waits. `interrupt` is a vector that KVM_INTERRUPT queued: delivered without asking IF."""

    exception: Event | None = None
    interrupt: int | None = None
    nmi_pending: bool = False
    nmi_masked: bool = False  # an NMI handler runs: the next NMI waits for IRET
    sipi_vector: int | None = None
    init_pending: bool = False

    @property
    def any(self) -> bool:
        return (
            self.exception is not None
            or self.interrupt is not None
            or (self.nmi_pending and not self.nmi_masked)
            or self.init_pending
        )

    def to_kvm(self, events: Any, shadow: int) -> None:
        """Fills `struct kvm_vcpu_events`; `shadow` is KVM_X86_SHADOW_INT_* or 0."""
        exception = self.exception
        events.exception.injected = exception is not None
        events.exception.nr = exception.vector if exception else 0
        events.exception.has_error_code = exception is not None and exception.error is not None
        events.exception.pending = 0
        events.exception.error_code = (exception.error or 0) if exception else 0
        events.interrupt.injected = self.interrupt is not None
        events.interrupt.nr = self.interrupt or 0
        events.interrupt.soft = 0
        events.interrupt.shadow = shadow
        events.nmi.injected, events.nmi.pending, events.nmi.masked = 0, self.nmi_pending, self.nmi_masked
        events.sipi_vector = self.sipi_vector or 0
        events.flags = k.KVM_VCPUEVENT_VALID_SHADOW

    def from_kvm(self, events: Any) -> int:
        """Takes them over. 0, or -EINVAL; the shadow is the caller's."""
        exception = events.exception
        if (
            events.flags & ~_KNOWN
            or exception.nr > 31
            or ((exception.injected or exception.pending) and exception.nr == 2)
        ):
            return -errno.EINVAL
        self.exception = None
        if exception.injected or exception.pending:
            error = exception.error_code if exception.has_error_code else None
            self.exception = Event(exception.nr, error)
        self.interrupt = events.interrupt.nr if events.interrupt.injected else None
        if events.flags & k.KVM_VCPUEVENT_VALID_NMI_PENDING:
            self.nmi_pending = bool(events.nmi.pending)
        self.nmi_masked = bool(events.nmi.masked)
        if events.flags & k.KVM_VCPUEVENT_VALID_SIPI_VECTOR:
            self.sipi_vector = events.sipi_vector
        return 0
