"""The port where firmware leaves its progress, so that a dead boot still says how far it came."""

from __future__ import annotations

from collections import deque
from typing import Any


class PostCode:
    """Keeps the last codes written. Source: IBM PC/AT Technical Reference, "Power-On Self Test": port 0x80."""

    name = "POST code"
    claim = range(0x80, 0x81)

    def __init__(self) -> None:
        self.seen: deque[int] = deque(maxlen=256)

    def read(self, offset: int, size: int) -> int:
        # Boards latch the last code. Guests also read or write this port only to let a microsecond pass.
        return self.seen[-1] if self.seen else 0xFF

    def write(self, offset: int, size: int, value: int) -> None:
        self.seen.append(value & 0xFF)

    def save(self) -> dict[str, Any]:
        return {"seen": list(self.seen)}

    def load(self, state: dict[str, Any]) -> None:
        self.seen = deque(state["seen"], maxlen=256)
