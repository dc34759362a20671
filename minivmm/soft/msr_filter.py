"""Which MSRs a guest may touch: KVM_X86_SET_MSR_FILTER. Source: KVM API 4.97.

Userspace gives ranges, each with a bitmap: a 1 allows. What no range covers follows the default. The MSRs of the x2APIC
are never asked about.
"""

from __future__ import annotations

from typing import Any

from minivmm.kvm import constants as k
from minivmm.kvm.binding import ffi
from minivmm.soft.host_memory import is_mapped

NEVER_FILTERED = range(0x800, 0x900)
LONGEST = 0x600 * 8  # MSRs in one range: KVM_MSR_FILTER_MAX_BITMAP_SIZE bytes


class MsrFilter:
    """One VM's filter. Without ranges, all is allowed."""

    def __init__(self) -> None:
        self._deny_others = False
        self._ranges: list[tuple[int, range, bytes]] = []

    def set(self, filter: Any) -> None:
        """Replaces it by a `struct kvm_msr_filter *`. Raises ValueError, and then the old one stays."""
        if filter.flags & ~k.KVM_MSR_FILTER_DEFAULT_DENY:
            raise ValueError(f"a filter has no flags {filter.flags:#x}")
        ranges = [_range(entry) for entry in filter.ranges if entry.nmsrs]
        deny = bool(filter.flags & k.KVM_MSR_FILTER_DEFAULT_DENY)
        if deny and not ranges:
            raise ValueError("a filter that denies all needs a range that allows something")
        self._deny_others, self._ranges = deny, ranges

    def allows(self, index: int, *, write: bool) -> bool:
        """Whether a guest's RDMSR or WRMSR of `index` goes through."""
        if not self._ranges or index in NEVER_FILTERED:
            return True
        kind = k.KVM_MSR_FILTER_WRITE if write else k.KVM_MSR_FILTER_READ
        for flags, indices, bitmap in self._ranges:
            if flags & kind and index in indices:
                bit = index - indices.start
                return bool(bitmap[bit // 8] >> bit % 8 & 1)
        return not self._deny_others


def _range(entry: Any) -> tuple[int, range, bytes]:
    known = k.KVM_MSR_FILTER_READ | k.KVM_MSR_FILTER_WRITE
    if not entry.flags or entry.flags & ~known:
        raise ValueError("a range is for reads, writes or both")
    if entry.nmsrs > LONGEST:
        raise ValueError(f"a range has at most {LONGEST} MSRs, not {entry.nmsrs}")
    size = (entry.nmsrs + 63) // 64 * 8  # whole words, as KVM reads it
    address = int(ffi.cast("uintptr_t", entry.bitmap))
    if address < 4096 or not is_mapped(address, size):
        raise ValueError("the bitmap is nowhere in memory")
    return int(entry.flags), range(entry.base, entry.base + entry.nmsrs), bytes(ffi.buffer(entry.bitmap, size))
