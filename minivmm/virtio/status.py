"""How a device is, and why it interrupts: the two registers that vCPUs and the device's own thread both change.

The interrupt line is **edge-triggered, active high**, and so must whoever describes the device to the guest say
(`Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive)` in ACPI). An edge is what an irqfd gives, with no way back
needed from the interrupt controller. The danger of edges is to lose one: hence an edge for every bit of InterruptStatus
that becomes set, and another when the driver acknowledges one bit and leaves the other.

Source: virtio 1.2, 2.1 "Device Status Field", 4.2.2 InterruptStatus, InterruptACK and Status.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from minivmm.virtio import registers as reg

DRIVER_BITS = reg.ACKNOWLEDGE | reg.DRIVER | reg.DRIVER_OK | reg.FEATURES_OK | reg.FAILED


class DeviceStatus:
    """`pulse` makes one edge. It is called with no lock held, so it may take those of an interrupt controller."""

    def __init__(self, pulse: Callable[[], object]) -> None:
        self.pulse = pulse
        self.bits = 0
        self.interrupt = 0
        self._lock = Lock()

    @property
    def live(self) -> bool:
        """May the device touch its queues? "MUST NOT consume buffers before DRIVER_OK" (2.1.2), nor when broken."""
        return self.bits & (reg.DRIVER_OK | reg.DEVICE_NEEDS_RESET) == reg.DRIVER_OK

    def advance(self, bits: int) -> None:
        """The driver sets bits. It can't clear any but by a reset (2.1.1)."""
        with self._lock:
            self.bits |= bits & DRIVER_BITS

    def notify(self, reason: int) -> None:
        """USED_BUFFER or CONFIG_CHANGE: sets it in InterruptStatus, with an edge where it wasn't set."""
        with self._lock:
            new = reason & ~self.interrupt if self.bits & reg.DRIVER_OK else 0  # a reset may have come in between
            self.interrupt |= new
        if new:
            self.pulse()

    def acknowledge(self, reasons: int) -> None:
        """InterruptACK: the driver has seen these."""
        with self._lock:
            left = self.interrupt & ~reasons
            self.interrupt = left
        if left:
            self.pulse()

    def need_reset(self) -> None:
        """An error that only a reset repairs. `notify(CONFIG_CHANGE)` must follow (2.1.2)."""
        with self._lock:
            self.bits |= reg.DEVICE_NEEDS_RESET

    def clear(self) -> None:
        """What a reset does to both (2.4.1, 4.2.2.1)."""
        self.restore(0, 0)

    def restore(self, bits: int, interrupt: int) -> None:
        """Both as they were saved, without an edge."""
        with self._lock:
            self.bits, self.interrupt = bits, interrupt
