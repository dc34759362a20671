"""The MMIO transport: the registers by which a driver finds a device, sets it up, and notifies it.

Source: virtio 1.2, 4.2 "Virtio Over MMIO". Version 2 registers; there is no legacy interface.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minivmm.virtio import registers as reg
from minivmm.virtio.device import VirtioDevice
from minivmm.virtio.guest_memory import GuestMemory
from minivmm.virtio.queue import Virtqueue
from minivmm.virtio.transport import RING_FEATURES, Transport

VENDOR = int.from_bytes(b"mini", "little")
ADDRESSES = {  # register → which address of the selected queue, and how far its 32 bits are shifted
    reg.QUEUE_DESC_LOW: ("descriptors", 0),
    reg.QUEUE_DESC_HIGH: ("descriptors", 32),
    reg.QUEUE_DRIVER_LOW: ("available", 0),
    reg.QUEUE_DRIVER_HIGH: ("available", 32),
    reg.QUEUE_DEVICE_LOW: ("used", 0),
    reg.QUEUE_DEVICE_HIGH: ("used", 32),
}


class VirtioMmio(Transport):
    """One device on the memory bus: 512 bytes from `base`. `set_line(level)` is its interrupt line, see `status`."""

    def __init__(
        self,
        device: VirtioDevice,
        memory: GuestMemory,
        base: int,
        set_line: Callable[[bool], object],
        *,
        ring_features: int = RING_FEATURES,
    ) -> None:
        super().__init__(device, memory, set_line, ring_features)
        self.claim = range(base, base + reg.WINDOW)
        self._device_features_sel = self._driver_features_sel = self._queue_sel = 0

    def read(self, offset: int, size: int) -> int:
        if offset >= reg.CONFIG:
            at = offset - reg.CONFIG
            return int.from_bytes(self.device.config()[at : at + size], "little")
        # 4.2.2.2: "only 32 bit wide and aligned". A driver that does otherwise finds nothing.
        return self._read(offset) if size == 4 else 0

    def write(self, offset: int, size: int, value: int) -> None:
        if offset >= reg.CONFIG:
            self.device.write_config(offset - reg.CONFIG, value.to_bytes(size, "little"))
        elif size == 4:
            self._write(offset, value)

    def _read(self, register: int) -> int:
        queue = self._selected()
        match register:
            case reg.MAGIC_VALUE:
                return reg.MAGIC
            case reg.VERSION:
                return 2
            case reg.DEVICE_ID:
                return self.device.device_id
            case reg.VENDOR_ID:
                return VENDOR
            case reg.DEVICE_FEATURES:
                return self.offered >> 32 * self._device_features_sel & 0xFFFF_FFFF
            case reg.QUEUE_NUM_MAX:
                return queue.largest if queue else 0
            case reg.QUEUE_READY:
                return int(queue.ready) if queue else 0
            case reg.INTERRUPT_STATUS:
                return self.status.interrupt
            case reg.STATUS:
                return self.status.bits
            case reg.SHM_LEN_LOW | reg.SHM_LEN_HIGH | reg.SHM_BASE_LOW | reg.SHM_BASE_HIGH:
                return 0xFFFF_FFFF  # "Reading from a non-existent region results in a length of -1"
            case reg.CONFIG_GENERATION:
                return self.config_generation
            case _:
                return 0  # write-only registers, holes, and QueueReset: VIRTIO_F_RING_RESET isn't offered

    def _write(self, register: int, value: int) -> None:
        queue = self._selected()
        match register:
            case reg.DEVICE_FEATURES_SEL:
                self._device_features_sel = value
            case reg.DRIVER_FEATURES_SEL:
                self._driver_features_sel = value
            case reg.DRIVER_FEATURES:
                self.accept(self._driver_features_sel, value)
            case reg.QUEUE_SEL:
                self._queue_sel = value
            case reg.QUEUE_NOTIFY:
                if value < len(self.queues):
                    self.kick(value)
            case reg.INTERRUPT_ACK:
                self.status.acknowledge(value)
            case reg.STATUS:
                self.set_status(value)
            case _ if queue is not None:
                self._write_queue(queue, register, value)

    def _write_queue(self, queue: Virtqueue, register: int, value: int) -> None:
        if register == reg.QUEUE_READY and value in (0, 1):
            (self.start_queue if value else self.stop_queue)(queue)
        elif queue.ready:
            return  # 4.2.2.2: size and addresses can't be changed while QueueReady is not zero
        elif register == reg.QUEUE_NUM:
            queue.size = value
        elif register in ADDRESSES:
            field, shift = ADDRESSES[register]
            setattr(queue, field, getattr(queue, field) & ~(0xFFFF_FFFF << shift) | value << shift)

    def _selected(self) -> Virtqueue | None:
        return self.queues[self._queue_sel] if self._queue_sel < len(self.queues) else None

    def reset(self) -> None:
        super().reset()
        self._device_features_sel = self._driver_features_sel = self._queue_sel = 0

    def save(self) -> dict[str, Any]:
        return super().save() | {"selectors": [self._device_features_sel, self._driver_features_sel, self._queue_sel]}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self._device_features_sel, self._driver_features_sel, self._queue_sel = state["selectors"]
