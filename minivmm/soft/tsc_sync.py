"""The time-stamp counters of one VM's vCPUs stay equal, although userspace restores them one after the other.

Source: KVM, kvm_synchronize_tsc: a host write within a second of what the last one would have become means "the same".
"""

from __future__ import annotations

from minivmm.soft.clock import TSC_KHZ

SAME = TSC_KHZ * 1000  # ticks in a second


class TscSync:
    """One for each VM; every vCPU's Msrs has it."""

    def __init__(self) -> None:
        self._offset: int | None = None

    def offset(self, wanted: int) -> int:
        """The offset to take where a host write asks for `wanted`: both in ticks against the VM's clock."""
        if self._offset is None or abs(wanted - self._offset) >= SAME:
            self._offset = wanted
        return self._offset
