"""Guest memory: slots of host memory that the guest sees as its RAM or ROM.

A slot ties a range of guest-physical addresses (GPA) to a range of our own (HVA). The guest reads and writes it at full
speed, without an exit; an access outside every slot, or a write to a read-only one, comes out as an MMIO exit.

Source: KVM API 4.35 KVM_SET_USER_MEMORY_REGION, 4.8 KVM_GET_DIRTY_LOG.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from minivmm.kvm import constants as k
from minivmm.kvm import ioctls
from minivmm.kvm.binding import ffi
from minivmm.kvm.calls import address_of, anonymous_memory, struct
from minivmm.kvm.handles import checked
from minivmm.kvm.seam import Backend

PAGE = 4096


class GuestMemoryError(ValueError):
    """A range of guest-physical addresses that can't be used as asked; the text says which and why."""


@dataclass(eq=False)
class MemorySlot:
    """One slot. `gpa` and `size` are in bytes, multiples of the page size; `data` is the memory itself."""

    number: int
    gpa: int
    size: int
    name: str
    read_only: bool
    log_dirty: bool
    backing: Any = field(repr=False)
    data: memoryview = field(repr=False)

    @property
    def end(self) -> int:
        return self.gpa + self.size

    def __str__(self) -> str:
        flags = ", ".join(word for word, on in (("read-only", self.read_only), ("dirty log", self.log_dirty)) if on)
        return f"slot {self.number}: {self.name} {self.gpa:#x}–{self.end - 1:#x}" + (f" ({flags})" if flags else "")


class GuestMemory:
    """The slots of one VM. `vm` is its handle."""

    def __init__(self, backend: Backend, vm: int) -> None:
        self._backend = backend
        self._vm = vm
        self.slots: list[MemorySlot] = []

    def add(
        self,
        gpa: int,
        size: int,
        *,
        name: str = "ram",
        read_only: bool = False,
        log_dirty: bool = False,
        backing: Any = None,
    ) -> MemorySlot:
        """Gives the guest `size` bytes at `gpa`, zeroed, or those of `backing` (a page-aligned writable buffer).

        Raises GuestMemoryError where the range is misaligned, empty or taken, KvmError where KVM refuses it.
        """
        if size <= 0 or gpa < 0 or gpa % PAGE or size % PAGE:
            raise GuestMemoryError(f"{name}: {gpa:#x} and size {size:#x} must be multiples of {PAGE}, and size not 0")
        for slot in self.slots:
            if gpa < slot.end and slot.gpa < gpa + size:
                raise GuestMemoryError(f"{name} at {gpa:#x}–{gpa + size - 1:#x} overlaps {slot}")
        if backing is None:
            backing = anonymous_memory(size)
        data = memoryview(backing).cast("B")
        if len(data) < size or address_of(backing) % mmap.PAGESIZE:
            raise GuestMemoryError(f"{name}: the backing must be page-aligned and at least {size:#x} bytes long")
        number = min(set(range(len(self.slots) + 1)) - {slot.number for slot in self.slots})
        slot = MemorySlot(number, gpa, size, name, read_only, log_dirty, backing, data[:size])
        self._tell_kvm(slot, size)
        self.slots.append(slot)
        self.slots.sort(key=lambda each: each.gpa)
        return slot

    def adopt(self, number: int, gpa: int, data: Any, *, name: str = "adopted", log_dirty: bool = False) -> MemorySlot:
        """Takes note of a slot that somebody else gave the VM, so that reads, writes and explanations know of it."""
        view = memoryview(data).cast("B")
        slot = MemorySlot(number, gpa, len(view), name, False, log_dirty, data, view)
        self.slots = sorted([*self.slots, slot], key=lambda each: each.gpa)
        return slot

    def remove(self, slot: MemorySlot) -> None:
        """Takes the slot away from the guest; its memory stays readable through `slot.data`."""
        if slot not in self.slots:
            raise GuestMemoryError(f"{slot} is not part of this memory")
        self._tell_kvm(slot, 0)  # "to delete a slot, pass zero for memory_size"
        self.slots.remove(slot)

    def _tell_kvm(self, slot: MemorySlot, size: int) -> None:
        flags = k.KVM_MEM_READONLY * slot.read_only | k.KVM_MEM_LOG_DIRTY_PAGES * slot.log_dirty
        region = struct(
            "kvm_userspace_memory_region",
            slot=slot.number,
            flags=flags,
            guest_phys_addr=slot.gpa,
            memory_size=size,
            userspace_addr=address_of(slot.backing),
        )
        checked(self._backend, self._vm, ioctls.KVM_SET_USER_MEMORY_REGION, region)

    def slot_at(self, gpa: int) -> MemorySlot | None:
        """The slot that `gpa` lies in, or None in a hole."""
        for slot in self.slots:
            if slot.gpa <= gpa < slot.end:
                return slot
        return None

    def holes(self, end: int = 1 << 32) -> list[range]:
        """The ranges below `end` that no slot covers: an access there is an MMIO exit."""
        found, at = [], 0
        for slot in self.slots:
            if slot.gpa > at:
                found.append(range(at, min(slot.gpa, end)))
            at = max(at, slot.end)
        if at < end:
            found.append(range(at, end))
        return found

    def _pieces(self, gpa: int, size: int) -> Iterator[memoryview]:
        # A range may run over several slots, as long as there is no hole between them.
        while size > 0:
            slot = self.slot_at(gpa)
            if slot is None:
                raise GuestMemoryError(f"there is no memory at {gpa:#x}: {self._map()}")
            offset = gpa - slot.gpa
            piece = slot.data[offset : offset + size]
            yield piece
            gpa += len(piece)
            size -= len(piece)

    def _map(self) -> str:
        return "; ".join(str(slot) for slot in self.slots) or "the VM has no memory slot"

    def read(self, gpa: int, size: int) -> bytes:
        """`size` bytes at `gpa`. Raises GuestMemoryError where part of them is in a hole."""
        return b"".join(self._pieces(gpa, size))

    def write(self, gpa: int, data: bytes | bytearray | memoryview) -> None:
        """Writes `data` at `gpa`, all or nothing, into read-only slots too: that keeps the guest out, not us."""
        pieces, done = list(self._pieces(gpa, len(data))), 0
        for piece in pieces:
            piece[:] = data[done : done + len(piece)]
            done += len(piece)

    def view(self, gpa: int, size: int) -> memoryview:
        """The memory itself, not a copy. Raises GuestMemoryError where it isn't within one slot."""
        piece = next(self._pieces(gpa, size), memoryview(b""))
        if len(piece) != size:
            raise GuestMemoryError(f"{size:#x} bytes at {gpa:#x} are not within one slot: {self._map()}")
        return piece

    def read_int(self, gpa: int, size: int) -> int:
        """The unsigned little-endian integer of `size` bytes at `gpa`."""
        return int.from_bytes(self.read(gpa, size), "little")

    def write_int(self, gpa: int, size: int, value: int) -> None:
        """Writes `value`, cut to `size` bytes, little-endian."""
        self.write(gpa, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))

    def dirty_pages(self, slot: MemorySlot) -> list[int]:
        """The GPAs of the pages written since the last call, in order. KVM forgets them as it tells.

        KVM's bitmap has one bit a page, padded to whole 64-bit words; our own writes are not in it.
        """
        if not slot.log_dirty:
            raise GuestMemoryError(f"{slot} doesn't log dirty pages: add it with log_dirty=True")
        bitmap = bytearray(-(-slot.size // PAGE // 64) * 8)
        log = struct("kvm_dirty_log", slot=slot.number)
        log.dirty_bitmap = ffi.from_buffer(bitmap)
        checked(self._backend, self._vm, ioctls.KVM_GET_DIRTY_LOG, log)
        return [
            slot.gpa + PAGE * (8 * index + bit)
            for index, byte in enumerate(bitmap)
            if byte
            for bit in range(8)
            if byte >> bit & 1
        ]
