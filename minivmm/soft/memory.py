"""Guest-physical memory of one VM: the slots that KVM_SET_USER_MEMORY_REGION sets, as every engine of the VM sees them.

Source: KVM API 4.35 KVM_SET_USER_MEMORY_REGION, 4.8 KVM_GET_DIRTY_LOG.
"""

from __future__ import annotations

import errno
from typing import Any

from minivmm.kvm import constants as k
from minivmm.soft.binding import ffi
from minivmm.soft.engine import PHYSICAL_BITS, Engine
from minivmm.soft.host_memory import is_mapped

PAGE = 4096
MOST_SLOTS = 32764  # KVM's own number (KVM_CAP_NR_MEMSLOTS)
ALL_ONES = 0xFF


class Slot:
    """One slot. `host` is the address of its memory in our own process; `dirty` its log, where one is kept."""

    def __init__(self, number: int, flags: int, gpa: int, size: int, host: int) -> None:
        self.number, self.flags, self.gpa, self.size, self.host = number, flags, gpa, size, host
        self.dirty: Any = None
        self.set_flags(flags)
        self.bytes = ffi.buffer(ffi.cast("char *", host), size)

    def set_flags(self, flags: int) -> None:
        self.flags = flags
        if not flags & k.KVM_MEM_LOG_DIRTY_PAGES:
            self.dirty = None
        elif self.dirty is None:
            self.dirty = ffi.new("uint8_t[]", self.log_bytes)

    @property
    def log_bytes(self) -> int:
        """A bit a page, in whole 64-bit words."""
        return -(-(self.size // PAGE) // 64) * 8

    @property
    def end(self) -> int:
        return self.gpa + self.size


class GuestSlots:
    """All slots of a VM, and the engines that show them to its vCPUs."""

    def __init__(self) -> None:
        self._slots: dict[int, Slot] = {}
        self._engines: list[Engine] = []
        self._table: Any = ffi.new("struct soft_slot[1]")
        self._ordered: list[Slot] = []

    def attach(self, engine: Engine) -> None:
        """A new vCPU's engine."""
        self._engines.append(engine)
        for slot in self._ordered:
            engine.map(slot.gpa, slot.size, slot.host)
        self._show()

    def detach(self, engine: Engine) -> None:
        self._engines.remove(engine)

    # ---- the ioctls ----

    def set_region(self, region: Any) -> int:
        """KVM_SET_USER_MEMORY_REGION: creates, moves, changes or (with size 0) deletes a slot. 0, or -errno."""
        number, flags, gpa = region.slot, region.flags, region.guest_phys_addr
        size, host = region.memory_size, region.userspace_addr
        if (gpa | size | host) % PAGE or number >= MOST_SLOTS or gpa + size > 1 << PHYSICAL_BITS:
            return -errno.EINVAL
        if flags & ~(k.KVM_MEM_READONLY | k.KVM_MEM_LOG_DIRTY_PAGES):
            return -errno.EINVAL
        old = self._slots.get(number)
        if not size:
            return self._delete(old) if old else -errno.EINVAL
        if old and (old.size, old.host) != (size, host):
            return -errno.EINVAL  # "may be moved in guest-physical space or its flags changed, but not resized"
        if old and (old.flags ^ flags) & k.KVM_MEM_READONLY:
            return -errno.EINVAL
        others = (slot for slot in self._slots.values() if slot is not old)
        if any(gpa < slot.end and slot.gpa < gpa + size for slot in others):
            return -errno.EEXIST
        if old and old.gpa == gpa:
            old.set_flags(flags)
            self._show()
            return 0
        if not is_mapped(host, size):
            return -errno.EFAULT
        if old:
            self._delete(old)
        self._add(Slot(number, flags, gpa, size, host))
        return 0

    def _add(self, slot: Slot) -> None:
        for engine in self._engines:
            engine.map(slot.gpa, slot.size, slot.host)
        self._slots[slot.number] = slot
        self._show()

    def _delete(self, slot: Slot) -> int:
        for engine in self._engines:
            engine.unmap(slot.gpa, slot.size)
        del self._slots[slot.number]
        self._show()
        return 0

    def _show(self) -> None:
        """Gives the engines the table of slots, biggest first: most accesses are found at once."""
        self._ordered = sorted(self._slots.values(), key=lambda slot: -slot.size)
        self._table = ffi.new("struct soft_slot[]", max(1, len(self._ordered)))
        for entry, slot in zip(self._table, self._ordered, strict=False):
            entry.gpa, entry.size = slot.gpa, slot.size
            entry.host = ffi.cast("uint8_t *", slot.host)
            entry.dirty = slot.dirty or ffi.NULL
            entry.read_only = bool(slot.flags & k.KVM_MEM_READONLY)
        for engine in self._engines:
            engine.cpu.slots, engine.cpu.slot_count, engine.cpu.last_slot = self._table, len(self._ordered), 0
            engine.flush_tlb()

    def dirty_log(self, number: int) -> Slot | None:
        """The slot, if it keeps a log."""
        slot = self._slots.get(number)
        return slot if slot and slot.dirty is not None else None

    def forget_dirty(self, slot: Slot) -> None:
        """Clears the log, and has the next writes logged again."""
        log = ffi.buffer(slot.dirty)
        log[:] = bytes(len(log))
        for engine in self._engines:
            engine.flush_tlb()

    # ---- physical memory, for the processor and the devices ----

    def slot_at(self, gpa: int) -> Slot | None:
        for slot in self._ordered:
            if slot.gpa <= gpa < slot.end:
                return slot
        return None

    def read(self, gpa: int, size: int) -> bytes:
        """Bytes of memory; ones where there is none."""
        slot = self.slot_at(gpa)
        if slot is None:
            return bytes((ALL_ONES,)) * size
        found = bytes(slot.bytes[gpa - slot.gpa : gpa - slot.gpa + size])
        rest = size - len(found)
        return found + self.read(slot.end, rest) if rest else found

    def write(self, gpa: int, data: bytes) -> None:
        """Writes memory, and its dirty log; dropped where there is none, or only ROM."""
        slot = self.slot_at(gpa)
        if slot is None or slot.flags & k.KVM_MEM_READONLY:
            return
        if gpa + len(data) > slot.end:
            self.write(slot.end, data[slot.end - gpa :])
            data = data[: slot.end - gpa]
        offset = gpa - slot.gpa
        slot.bytes[offset : offset + len(data)] = data
        if slot.dirty is not None:
            for page in range(offset // PAGE, (offset + len(data) - 1) // PAGE + 1):
                slot.dirty[page // 8] |= 1 << page % 8
