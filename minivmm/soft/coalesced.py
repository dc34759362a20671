"""Coalesced I/O: writes that userspace need not see at once wait in a ring, until something else makes an exit.

The ring is a page behind struct kvm_run. We fill it at `last`; userspace empties it from `first`, whenever it likes.

Source: KVM API 4.116 KVM_(UN)REGISTER_COALESCED_MMIO.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any

from minivmm.kvm.binding import ffi
from minivmm.kvm.constants import KVM_COALESCED_MMIO_MAX
from minivmm.soft.page import RING, SharedPage


@dataclass(frozen=True)
class Zone:
    """`size` ports (`pio`) or bytes of guest-physical memory, from `start` on."""

    pio: bool
    start: int
    size: int

    def covers(self, pio: bool, start: int, size: int) -> bool:
        """Whether all of an access, or of another zone, lies within."""
        return pio == self.pio and self.start <= start and start + size <= self.start + self.size


class Zones:
    """The zones of one VM. Reads never wait, so only writes are looked up here."""

    def __init__(self) -> None:
        self._zones: list[Zone] = []

    def __bool__(self) -> bool:
        return bool(self._zones)

    def register(self, zone: Any) -> int:
        """KVM_REGISTER_COALESCED_MMIO of a `struct kvm_coalesced_mmio_zone`. 0, or -errno."""
        if zone.pio not in (0, 1):
            return -errno.EINVAL
        self._zones.append(Zone(bool(zone.pio), zone.addr, zone.size))
        return 0

    def unregister(self, zone: Any) -> int:
        """… and back: every zone that covers this one is gone, as the kernel has it. None need be."""
        if zone.pio not in (0, 1):
            return -errno.EINVAL
        self._zones = [each for each in self._zones if not each.covers(bool(zone.pio), zone.addr, zone.size)]
        return 0

    def cover(self, pio: bool, start: int, size: int) -> bool:
        return any(zone.covers(pio, start, size) for zone in self._zones)


class Ring:
    """The ring in a vCPU's shared pages."""

    def __init__(self, page: SharedPage) -> None:
        self._page = page  # keeps the memory that the pointer is into
        self._ring = ffi.cast("struct kvm_coalesced_mmio_ring *", ffi.cast("char *", page.c) + RING)

    def put(self, pio: bool, address: int, data: bytes) -> bool:
        return put(self._ring, pio, address, data)


def put(ring: Any, pio: bool, address: int, data: bytes) -> bool:
    """Appends a write of at most 8 bytes to a `struct kvm_coalesced_mmio_ring *`.

    False where it is full: then the write has to exit. One slot stays free, for first == last means empty.
    """
    at = ring.last
    # Both numbers lie in memory that userspace writes. One that is no index must not lead us out of the page.
    if at >= KVM_COALESCED_MMIO_MAX or (after := (at + 1) % KVM_COALESCED_MMIO_MAX) == ring.first:
        return False
    entry = ring.coalesced_mmio[at]
    entry.phys_addr, entry.len, entry.pio = address, len(data), pio
    ffi.memmove(entry.data, data, len(data))
    ring.last = after  # only now: userspace may be reading
    return True
