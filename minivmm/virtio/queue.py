"""A split virtqueue, from the device's side: take a chain, give it back, and know when to tell the driver.

Three parts lie in guest memory: the descriptor table, the available ring (the driver writes, we read) and the used ring
(we write, the driver reads). The indices run freely from 0 to 65535 and over; modulo the size they are ring positions.

Source: virtio 1.2, 2.7 "Split Virtqueues".
"""

from __future__ import annotations

from threading import Lock
from typing import Any

from minivmm.virtio import registers as reg
from minivmm.virtio.chain import Chain, walk
from minivmm.virtio.errors import DriverError
from minivmm.virtio.guest_memory import GuestMemory, ring

FLAGS, IDX, RING = 0, 1, 2  # both rings start with two 16-bit fields: flags, and the index of the next free entry
NO_INTERRUPT = 1  # in the available ring's flags: the driver polls
NO_NOTIFY = 1  # in the used ring's flags: we poll
NOTHING = memoryview(b"")


class Virtqueue:
    """Queue number `index`. The transport fills in `size` and the three addresses, then calls `start`.

    `pop` and `push` belong to one thread at a time. The rings are read and written through views of 16 and 32-bit
    items: such an access is a single one of the processor, where struct.pack_into("<H") stores byte by byte and would
    let another vCPU see half an index. (The views have the host's byte order: little-endian, wherever we run.)
    """

    def __init__(self, memory: GuestMemory, index: int, largest: int) -> None:
        self.index = index
        self.largest = largest
        self._memory = memory
        self._fence = Lock()
        self.reset()

    def reset(self) -> None:
        """As it was at power-on: not ready, no addresses, and the driver has yet to choose a size."""
        self.size = self.largest
        self.descriptors = self.available = self.used = 0  # guest-physical addresses
        self.ready = False
        self._event_idx = self._indirect = False
        self._next = self._done = 0  # free-running: of the next chain to take, and of the next used entry
        self._forget()

    def _forget(self) -> None:
        self._table = self._available = self._used = self._elements = NOTHING

    # ---- the driver's say-so ----

    def start(self, features: int) -> None:
        """QueueReady = 1: checks size and addresses, and maps the rings. Raises DriverError, and stays not ready."""
        size = self.size
        if not 0 < size <= self.largest or size & size - 1:
            raise DriverError(f"the queue size {size} is not a power of two from 1 to {self.largest}")
        self._event_idx = bool(features & reg.F_EVENT_IDX)
        self._indirect = bool(features & reg.F_INDIRECT_DESC)
        # 2.7: alignment and size of each part; the last two bytes of the rings are there with VIRTIO_F_EVENT_IDX.
        memory, tail = self._memory, 2 * self._event_idx
        table = ring(memory, self.descriptors, 16 * size, alignment=16, writable=False, what="descriptor table")
        available = ring(
            memory, self.available, 4 + 2 * size + tail, alignment=2, writable=False, what="available ring"
        )
        used = ring(memory, self.used, 4 + 8 * size + tail, alignment=4, writable=True, what="used ring")
        self._table = table
        self._available = available.cast("H")
        self._used = used.cast("H")
        self._elements = used[4 : 4 + 8 * size].cast("I")
        self.ready = True

    def stop(self) -> None:
        """QueueReady = 0: the memory is the driver's again, and the queue starts from the beginning next time."""
        self.ready = False
        self._next = self._done = 0
        self._forget()

    # ---- chains in, chains out ----

    def pop(self) -> Chain | None:
        """The next chain that the driver made available, or None. Raises DriverError."""
        waiting = self._available[IDX] - self._next & 0xFFFF
        if not waiting:
            return None
        if waiting > self.size:
            raise DriverError(f"the available index is {waiting} ahead in a queue of {self.size}")
        head = self._available[RING + (self._next & self.size - 1)]
        # 2.7.5.3.1 "longer than the Queue Size of the device": the size we offer, though the driver may take less.
        longest = self.largest if self._indirect else self.size
        chain = walk(self._memory, self._table, head, longest=longest, indirect=self._indirect)
        self._next = self._next + 1 & 0xFFFF
        return chain

    def push(self, chain: Chain, written: int) -> bool:
        """Gives a chain back, `written` bytes of it filled from the front. True: the driver wants an interrupt."""
        at = 2 * (self._done & self.size - 1)
        self._elements[at] = chain.head
        self._elements[at + 1] = min(written, 0xFFFF_FFFF)
        placed, self._done = self._done, self._done + 1 & 0xFFFF
        self._used[IDX] = self._done  # after the element: from here on the driver may take it
        self._full_fence()
        if self._event_idx:  # 2.7.7.2: interrupt when the entry that used_event names was written
            return bool(self._available[RING + self.size] == placed)
        return not self._available[FLAGS] & NO_INTERRUPT

    # ---- must the driver ring? ----

    def quiet(self) -> None:
        """We are looking at the queue anyway: the driver needn't notify us (2.7.10)."""
        if not self._event_idx:
            self._used[FLAGS] = NO_NOTIFY
        # With the event index, avail_event still names an entry that has passed: quiet by itself.

    def listen(self) -> bool:
        """From now on the driver must notify us. False: something came in before it could know, so look again."""
        if self._event_idx:
            self._used[RING + 4 * self.size] = self._next  # avail_event, behind `size` elements of four halfwords
        else:
            self._used[FLAGS] = 0
        self._full_fence()
        return bool(self._available[IDX] == self._next)

    def _full_fence(self) -> None:
        # Both sides write one index and then read the other's. Processors let a read overtake an earlier write, and
        # then each would miss the other's news. A lock is taken with an atomic read-modify-write, which no read passes.
        with self._fence:
            pass

    # ---- snapshots ----

    def save(self) -> dict[str, Any]:
        fields = ("size", "descriptors", "available", "used", "ready")
        return {name: getattr(self, name) for name in fields} | {"next": self._next, "done": self._done}

    def load(self, state: dict[str, Any], features: int) -> None:
        """Takes over a saved queue; the rings are in guest memory, which must be restored first. Raises DriverError."""
        self.reset()
        self.size = state["size"]
        self.descriptors, self.available, self.used = state["descriptors"], state["available"], state["used"]
        self._next, self._done = state["next"], state["done"]
        if state["ready"]:
            self.start(features)
