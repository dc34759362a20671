"""A virtio driver in Python, written from the specification and knowing nothing of the device's code.

It does what 3.1.1 "Device Initialization" and 2.7.13 "Supplying Buffers to The Device" tell a driver to do, in that
order. The tests break its habits one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from guest import Guest

from minivmm.virtio.mmio import VirtioMmio

# 4.2.2, typed in again on purpose: a number wrong in the device's own table must not be wrong here too.
MAGIC, VERSION, DEVICE_ID = 0x000, 0x004, 0x008
DEVICE_FEATURES, DEVICE_FEATURES_SEL, DRIVER_FEATURES, DRIVER_FEATURES_SEL = 0x010, 0x014, 0x020, 0x024
QUEUE_SEL, QUEUE_NUM_MAX, QUEUE_NUM, QUEUE_READY, QUEUE_NOTIFY = 0x030, 0x034, 0x038, 0x044, 0x050
INTERRUPT_STATUS, INTERRUPT_ACK, STATUS = 0x060, 0x064, 0x070
DESC, DRIVER, DEVICE = 0x080, 0x090, 0x0A0
CONFIG_GENERATION, CONFIG = 0x0FC, 0x100

S_ACKNOWLEDGE, S_DRIVER, S_DRIVER_OK, S_FEATURES_OK, S_NEEDS_RESET, S_FAILED = 1, 2, 4, 8, 64, 128
D_NEXT, D_WRITE, D_INDIRECT = 1, 2, 4
INDIRECT_DESC, EVENT_IDX, VERSION_1 = 1 << 28, 1 << 29, 1 << 32

BASE = 0xD000_0000


def describe(guest: Guest, table: int, index: int, address: int, size: int, flags: int, following: int = 0) -> None:
    """Writes one descriptor: 2.7.5."""
    entry = address.to_bytes(8, "little") + size.to_bytes(4, "little")
    entry += flags.to_bytes(2, "little") + following.to_bytes(2, "little")
    guest.write(table + 16 * index, entry)


@dataclass
class Buffer:
    """One element of a request: bytes for the device, or room for its answer."""

    gpa: int
    size: int
    writable: bool


@dataclass
class Queue:
    """The driver's side of a split virtqueue of `size`, in the guest's memory."""

    guest: Guest
    size: int
    event_idx: bool = False
    descriptors: int = 0
    available: int = 0
    used: int = 0
    added: int = 0
    seen: int = 0
    free: int = 0
    pending: dict[int, list[Buffer]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.descriptors = self._zeroed(16 * self.size, 16)
        self.available = self._zeroed(6 + 2 * self.size, 2)
        self.used = self._zeroed(6 + 8 * self.size, 4)

    def _zeroed(self, size: int, alignment: int) -> int:
        # 4.2.3.2, step 4: "Allocate and zero the queue memory".
        at = self.guest.allocate(size, alignment)
        self.guest.write(at, bytes(size))
        return at

    def describe(self, table: int, index: int, address: int, size: int, flags: int, following: int = 0) -> None:
        describe(self.guest, table, index, address, size, flags, following)

    def chain(self, buffers: Sequence[Buffer], table: int | None = None, first: int = 0) -> None:
        """Writes the descriptors of one chain, `first` onwards."""
        for i, buffer in enumerate(buffers):
            last = i == len(buffers) - 1
            flags = D_WRITE * buffer.writable | D_NEXT * (not last)
            following = 0 if last else first + i + 1
            at = self.descriptors if table is None else table
            self.describe(at, first + i, buffer.gpa, buffer.size, flags, following)

    def offer(self, head: int) -> None:
        """2.7.13: puts the head of a chain into the available ring, then moves the index."""
        self.guest.put(self.available + 4 + 2 * (self.added % self.size), 2, head)
        self.added = self.added + 1 & 0xFFFF
        self.guest.put(self.available + 2, 2, self.added)

    def add(self, *parts: bytes | int, indirect: bool = False) -> int:
        """Offers one request: bytes are for the device, a number is room for that many bytes. Returns its head."""
        buffers = []
        for part in parts:
            size = part if isinstance(part, int) else len(part)
            buffer = Buffer(self.guest.allocate(size), size, isinstance(part, int))
            if isinstance(part, bytes):
                self.guest.write(buffer.gpa, part)
            buffers.append(buffer)
        taken = 1 if indirect else len(buffers)
        assert taken <= self.size, "the test's chain is longer than the descriptor table"
        head = self.free = self.free if self.free + taken <= self.size else 0
        if indirect:
            table = self.guest.allocate(16 * len(buffers), 16)
            self.chain(buffers, table)
            self.describe(self.descriptors, head, table, 16 * len(buffers), D_INDIRECT)
        else:
            self.chain(buffers, None, head)
        self.free += taken
        self.pending[head] = buffers
        self.offer(head)
        return head

    @property
    def used_index(self) -> int:
        return self.guest.get(self.used + 2, 2)

    @property
    def device_flags(self) -> int:
        return self.guest.get(self.used, 2)

    @property
    def avail_event(self) -> int:
        return self.guest.get(self.used + 4 + 8 * self.size, 2)

    def set_flags(self, flags: int) -> None:
        self.guest.put(self.available, 2, flags)

    def set_used_event(self, index: int) -> None:
        self.guest.put(self.available + 4 + 2 * self.size, 2, index & 0xFFFF)

    def collect(self) -> list[tuple[int, bytes]]:
        """2.7.14: the finished requests, as length written and the bytes in their writable part."""
        done = []
        while self.seen != self.used_index:
            entry = self.used + 4 + 8 * (self.seen % self.size)
            head, written = self.guest.get(entry, 4), self.guest.get(entry + 4, 4)
            buffers = self.pending.pop(head)
            done.append((written, b"".join(self.guest.read(b.gpa, b.size) for b in buffers if b.writable)))
            self.seen = self.seen + 1 & 0xFFFF
        return done


class Driver:
    """Drives one device through its registers. `edges` counts the interrupts."""

    def __init__(self, device: VirtioMmio, guest: Guest) -> None:
        self.device = device
        self.guest = guest
        self.queues: list[Queue] = []
        self.edges = 0
        device.status.pulse = self._interrupted

    def _interrupted(self) -> None:
        self.edges += 1

    def read(self, register: int) -> int:
        return self.device.read(register, 4)

    def write(self, register: int, value: int) -> None:
        self.device.write(register, 4, value)

    @property
    def status(self) -> int:
        return self.read(STATUS)

    @property
    def offered(self) -> int:
        found = 0
        for word in range(2):
            self.write(DEVICE_FEATURES_SEL, word)
            found |= self.read(DEVICE_FEATURES) << 32 * word
        return found

    def add_status(self, bits: int) -> None:
        self.write(STATUS, self.status | bits)

    def negotiate(self, features: int) -> bool:
        """Steps 1 to 6. False: the device refused."""
        self.write(STATUS, 0)
        self.add_status(S_ACKNOWLEDGE)
        self.add_status(S_DRIVER)
        for word in range(2):
            self.write(DRIVER_FEATURES_SEL, word)
            self.write(DRIVER_FEATURES, features >> 32 * word & 0xFFFF_FFFF)
        self.add_status(S_FEATURES_OK)
        return bool(self.status & S_FEATURES_OK)

    def set_up_queue(self, index: int, size: int = 8, *, event_idx: bool = False) -> Queue:
        """4.2.3.2."""
        queue = Queue(self.guest, size, event_idx)
        self.write(QUEUE_SEL, index)
        assert self.read(QUEUE_READY) == 0
        assert self.read(QUEUE_NUM_MAX) >= size
        self.write(QUEUE_NUM, size)
        for register, address in ((DESC, queue.descriptors), (DRIVER, queue.available), (DEVICE, queue.used)):
            self.write(register, address & 0xFFFF_FFFF)
            self.write(register + 4, address >> 32)
        self.write(QUEUE_READY, 1)
        return queue

    def start(self, features: int | None = None, size: int = 8) -> list[Queue]:
        """All of 3.1.1, with what is offered unless `features` says otherwise."""
        wanted = self.offered if features is None else features | VERSION_1
        assert self.negotiate(wanted)
        count = len(self.device.device.queue_sizes)
        self.queues = [self.set_up_queue(i, size, event_idx=bool(wanted & EVENT_IDX)) for i in range(count)]
        self.add_status(S_DRIVER_OK)
        return self.queues

    def notify(self, index: int = 0) -> None:
        self.write(QUEUE_NOTIFY, index)

    def request(self, *parts: bytes | int, queue: int = 0, indirect: bool = False) -> tuple[int, bytes]:
        """Adds, notifies, and takes the answer of a device that works at once."""
        self.queues[queue].add(*parts, indirect=indirect)
        self.notify(queue)
        (answer,) = self.queues[queue].collect()
        return answer

    @property
    def broken(self) -> bool:
        return bool(self.status & S_NEEDS_RESET)
