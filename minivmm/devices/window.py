"""One claim of a device that has several: a keyboard controller answers at 0x60 and at 0x64, but not in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _no_state() -> dict[str, Any]:
    return {}


def _nothing_to_load(_: dict[str, Any]) -> None:
    pass


class Window:
    """A Device for the bus, which hands every access on to the functions of the object it belongs to.

    One window of an object carries that object's state, by `save` and `load`; the others have none of their own.
    """

    def __init__(
        self,
        name: str,
        claim: range,
        read: Callable[[int, int], int],
        write: Callable[[int, int, int], object],
        save: Callable[[], dict[str, Any]] = _no_state,
        load: Callable[[dict[str, Any]], None] = _nothing_to_load,
    ) -> None:
        self.name = name
        self.claim = claim
        self._read, self._write, self._save, self._load = read, write, save, load

    def read(self, offset: int, size: int) -> int:
        return self._read(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        self._write(offset, size, value)

    def save(self) -> dict[str, Any]:
        return self._save()

    def load(self, state: dict[str, Any]) -> None:
        self._load(state)
