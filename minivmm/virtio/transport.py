"""What stands between a driver and a device, whatever the bus: negotiation, queues, serving, reset.

Two kinds of threads meet here. vCPUs come through the registers; the device's own thread comes through `process`. A
vCPU waits for the device in three places only, where the specification wants it to: reset, QueueReady = 0, and saving.

Source: virtio 1.2, 2.1 "Device Status Field", 2.2 "Feature Bits", 2.4 "Device Reset", 3.1 "Device Initialization".
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock, get_ident
from typing import Any

from minivmm.virtio import registers as reg
from minivmm.virtio.device import VirtioDevice
from minivmm.virtio.errors import DriverError
from minivmm.virtio.guest_memory import GuestMemory
from minivmm.virtio.queue import Virtqueue
from minivmm.virtio.status import DeviceStatus

RING_FEATURES = reg.F_INDIRECT_DESC | reg.F_EVENT_IDX
FEATURE_WORDS = 4  # of 32 bits each; nobody has defined more


class Transport:
    """A device, its queues and their state. A bus gives it registers: see `mmio`.

    `error` says what the driver did wrong when the device needs a reset, else "". `kick` is called with a queue's
    number when there may be work in it; at first that is done on the spot, a `Worker` moves it to its own thread.
    """

    def __init__(
        self,
        device: VirtioDevice,
        memory: GuestMemory,
        set_line: Callable[[bool], object],
        ring_features: int = RING_FEATURES,
    ) -> None:
        self.device = device
        self.name = f"virtio {device.name}"
        self.offered = device.features | ring_features | reg.F_VERSION_1
        self.accepted = 0  # features, as the driver writes them
        self.queues = [Virtqueue(memory, index, largest) for index, largest in enumerate(device.queue_sizes)]
        self.status = DeviceStatus(lambda: (set_line(True), set_line(False)))
        self.config_generation = 0
        self.error = ""
        self.kick: Callable[[int], object] = self.process_all
        self._busy = Lock()  # held while a request is served, so that a reset can wait for its end
        self._server = 0  # the thread that holds it to serve one
        self._put_off: set[int] = set()  # queues that the device kicked meanwhile
        device.kick = self._kicked
        device.config_changed = self._config_changed

    # ---- setting up ----

    def accept(self, word: int, value: int) -> None:
        """The driver's features, 32 bits at a time, until FEATURES_OK: then no more (3.1.1, step 5)."""
        if word < FEATURE_WORDS and not self.status.bits & reg.FEATURES_OK:
            self.accepted = self.accepted & ~(0xFFFF_FFFF << 32 * word) | value << 32 * word

    def set_status(self, value: int) -> None:
        """The driver writes the status: 0 resets the device, all else adds bits, and not every bit is granted."""
        if not value:
            self.reset()
            return
        before = self.status.bits
        if value & reg.FEATURES_OK and not before & reg.FEATURES_OK:
            # 2.2.2: only a subset of what was offered, and never the legacy interface. The driver reads the status
            # back, finds the bit missing, and knows (3.1.1, step 6).
            if self.accepted & ~self.offered or not self.accepted & reg.F_VERSION_1:
                value &= ~reg.FEATURES_OK
            else:
                self.device.negotiated = self.accepted
        if not (before | value) & reg.FEATURES_OK:
            value &= ~reg.DRIVER_OK
        self.status.advance(value)
        if value & ~before & reg.DRIVER_OK:
            self.kick_all()  # buffers may have been waiting, and their notifications came too early to count

    def start_queue(self, queue: Virtqueue) -> None:
        """QueueReady = 1. Without FEATURES_OK nothing happens; with rings that can't be used, the device breaks."""
        if queue.ready or not self.status.bits & reg.FEATURES_OK:
            return
        try:
            queue.start(self.accepted)
        except DriverError as error:
            self._break(queue, error)
            self.status.notify(reg.CONFIG_CHANGE)

    def stop_queue(self, queue: Virtqueue) -> None:
        """QueueReady = 0. The driver has its memory back when this returns."""
        queue.ready = False  # the device's thread sees it at its next look …
        with self._busy:  # … and finishes the request in hand
            queue.stop()

    def reset(self) -> None:
        """As at power-on (2.4). Returns when the request in hand is finished."""
        self.status.clear()
        with self._busy:
            self.status.clear()  # that request may have failed just now, and said so
            self.error = ""
            self.accepted = self.device.negotiated = 0
            for queue in self.queues:
                queue.reset()

    # ---- at work ----

    def process(self, index: int) -> bool:
        """Serves what waits in queue `index`, as many chains as it may hold at most. True: there may be more.

        Never raises for what a driver does. May be called from any thread, also when there is nothing to do.
        """
        queue = self.queues[index]
        for _ in range(queue.largest):
            more, reason = self._serve_next(queue)
            if reason:  # outside the lock: the interrupt controller has locks of its own
                self.status.notify(reason)
            while self._put_off:
                self.kick(self._put_off.pop())
            if not more:
                return False
        return True

    def _serve_next(self, queue: Virtqueue) -> tuple[bool, int]:
        """Serves one chain. Returns whether to look again, and the reason for an interrupt or 0."""
        with self._busy:
            if not (self.status.live and queue.ready):
                return False, 0
            self._server = get_ident()
            try:
                queue.quiet()
                chain = queue.pop() if self.device.wants(queue.index) else None
                if chain is None:
                    return not queue.listen() and self.device.wants(queue.index), 0
                written = self.device.serve(queue.index, chain)
                return True, reg.USED_BUFFER if queue.push(chain, written) else 0
            except DriverError as error:
                self._break(queue, error)
                return False, reg.CONFIG_CHANGE
            finally:
                self._server = 0

    def _kicked(self, index: int) -> None:
        """The device asks for a look at a queue, from any thread, also from within a request."""
        if self._server == get_ident():
            self._put_off.add(index)
        else:
            self.kick(index)

    def process_all(self, index: int) -> None:
        """Serves queue `index` until nothing is left."""
        while self.process(index):
            pass

    def kick_all(self) -> None:
        """Looks at every queue that is ready."""
        for queue in self.queues:
            if queue.ready:
                self.kick(queue.index)

    def _config_changed(self) -> None:
        self.config_generation = self.config_generation + 1 & 0xFFFF_FFFF
        self.status.notify(reg.CONFIG_CHANGE)

    def _break(self, queue: Virtqueue, error: DriverError) -> None:
        self.error = f"{self.name}, queue {queue.index}: {error}"
        self.status.need_reset()

    # ---- snapshots ----

    def save(self) -> dict[str, Any]:
        """Plain data, taken between two requests, never within one. The vCPUs must stand still."""
        with self._busy:
            return {
                "status": self.status.bits,
                "interrupt": self.status.interrupt,
                "accepted": self.accepted,
                "config_generation": self.config_generation,
                "error": self.error,
                "queues": [queue.save() for queue in self.queues],
                "device": self.device.save(),
            }

    def load(self, state: dict[str, Any]) -> None:
        """Takes over what `save` gave, and does nothing yet: see `resume`. Guest memory must be there already, or
        DriverError is raised for queues that don't lie in it."""
        self.reset()
        self.accepted = state["accepted"]
        self.config_generation = state["config_generation"]
        self.error = state["error"]
        self.device.negotiated = self.accepted if state["status"] & reg.FEATURES_OK else 0
        self.device.load(state["device"])
        for queue, saved in zip(self.queues, state["queues"], strict=True):
            queue.load(saved, self.accepted)
        self.status.restore(state["status"], state["interrupt"])

    def resume(self) -> None:
        """After `load`, when the interrupt controllers have their state: a notification and an interrupt may have been
        on their way when it was saved. Both are repeated; driver and device must bear one too many."""
        if self.status.interrupt:
            self.status.pulse()
        self.kick_all()
