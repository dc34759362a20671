"""The port by which a test guest ends the run and leaves a number, as QEMU's isa-debug-exit does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class DebugExit:
    """A write of `value` ends the run with exit code (value << 1) | 1, so a guest can never fake a clean 0."""

    name = "debug exit"

    def __init__(self, on_exit: Callable[[int], object], port: int = 0xF4) -> None:
        self.claim = range(port, port + 4)
        self._on_exit = on_exit

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        self._on_exit(value << 1 | 1)

    def save(self) -> dict[str, Any]:
        return {}

    def load(self, state: dict[str, Any]) -> None:
        pass
