"""ioeventfd: a write to a port or an address rings an eventfd, for whoever waits there, and makes no exit.

Source: KVM API 4.59 KVM_IOEVENTFD; eventfd(2).
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from minivmm.kvm import constants as k

AVAILABLE = hasattr(os, "eventfd")  # on Linux
_FLAGS = k.KVM_IOEVENTFD_FLAG_DATAMATCH | k.KVM_IOEVENTFD_FLAG_PIO | k.KVM_IOEVENTFD_FLAG_DEASSIGN


@dataclass(frozen=True)
class Trigger:
    """Which writes ring: `size` bytes (0: of any size) at `address`, and of these only `value` (None: all)."""

    pio: bool
    address: int
    size: int
    value: int | None

    def matches(self, pio: bool, address: int, data: bytes) -> bool:
        if (pio, address) != (self.pio, self.address) or self.size not in (0, len(data)):
            return False
        return self.value in (None, int.from_bytes(data, "little"))

    def collides(self, other: Trigger) -> bool:
        """Whether there are writes that both would take."""
        if (self.pio, self.address) != (other.pio, other.address):
            return False
        same_size = self.size == other.size or not (self.size and other.size)
        return same_size and (self.value == other.value or None in (self.value, other.value))


class IoEventFds:
    """Those of one VM: each trigger with userspace's number for the eventfd, and a duplicate that stays ours."""

    def __init__(self) -> None:
        self._rings: dict[Trigger, tuple[int, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._rings)

    def set(self, event: Any) -> int:
        """KVM_IOEVENTFD of a `struct kvm_ioeventfd`. 0, or -errno."""
        wants_value = event.flags & k.KVM_IOEVENTFD_FLAG_DATAMATCH
        if event.flags & ~_FLAGS or event.len not in (0, 1, 2, 4, 8) or (wants_value and not event.len):
            return -errno.EINVAL
        pio, value = bool(event.flags & k.KVM_IOEVENTFD_FLAG_PIO), event.datamatch if wants_value else None
        trigger = Trigger(pio, event.addr, event.len, value)
        if event.flags & k.KVM_IOEVENTFD_FLAG_DEASSIGN:
            return self._remove(trigger, event.fd)
        if any(trigger.collides(other) for other in self._rings):
            return -errno.EEXIST
        try:
            self._rings[trigger] = event.fd, os.dup(event.fd)
        except OSError:
            return -errno.EBADF
        return 0

    def _remove(self, trigger: Trigger, fd: int) -> int:
        if self._rings.get(trigger, (None,))[0] != fd:
            return -errno.ENOENT
        os.close(self._rings.pop(trigger)[1])
        return 0

    def ring(self, pio: bool, address: int, data: bytes) -> bool:
        """Whether somebody waited for this write; it has rung then."""
        for trigger, (_, eventfd) in self._rings.items():
            if trigger.matches(pio, address, data):
                with suppress(BlockingIOError):  # its counter is at the top: nobody can have missed it
                    os.eventfd_write(eventfd, 1)
                return True
        return False

    def close(self) -> None:
        while self._rings:
            os.close(self._rings.popitem()[1][1])
