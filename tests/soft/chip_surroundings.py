"""What stands around the interrupt chips in their tests: a processor that notes what it is told, and a clock."""

from __future__ import annotations

from typing import Any


class Cpu:
    """`events`: "nmi", "init", or the vector of a start-up message, in order; `woken`: how often it was woken."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1

    def nmi(self) -> None:
        self.events.append("nmi")

    def init(self) -> None:
        self.events.append("init")

    def sipi(self, vector: int) -> None:
        self.events.append(vector)


class Clock:
    """The time in ns, which stands still until a test moves it; and a TSC that goes by it."""

    def __init__(self, ns: int = 0, khz: int = 1_000_000) -> None:
        self.ns = ns
        self.khz = khz

    def __call__(self) -> int:
        return self.ns

    def read(self) -> int:
        return self.ns * self.khz // 1_000_000
