"""A device as the bus sees it, behind a lock that it shares with its neighbours on the chip."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from minivmm.bus import Device


def _nothing() -> None:
    pass


class Guarded:
    """Hands each access on to `device` with `lock` held; `after`, without it, hears that there was one."""

    def __init__(
        self,
        device: Device,
        lock: AbstractContextManager[Any] | None = None,
        after: Callable[[], object] = _nothing,
    ) -> None:
        self.name = device.name
        self.claim = device.claim
        self.after = after
        self._device = device
        self._lock = lock or nullcontext()

    def read(self, offset: int, size: int) -> int:
        with self._lock:
            value = self._device.read(offset, size)
        self.after()
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        with self._lock:
            self._device.write(offset, size, value)
        self.after()

    def save(self) -> dict[str, Any]:
        with self._lock:
            return self._device.save()

    def load(self, state: dict[str, Any]) -> None:
        with self._lock:
            self._device.load(state)
        self.after()
