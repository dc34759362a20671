"""A port by which a guest says "I am up", so that boot time is measured where it ends: inside.

Our own invention, after Firecracker's boot timer: the guest writes 123 once its init runs (`outb(123, 0x87B)`, or from
a shell `printf '{' | dd of=/dev/port bs=1 seek=2171`). Port 0x87B is 0x07B to whoever decodes ten address bits only,
so no ISA card, which live at 0x100 to 0x3FF, can answer there; and no device of a PC does.

Source for the address: EISA Specification 3.12, "I/O Address Map".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PORT = 0x87B
MAGIC = 123


def _nobody(_: int) -> None:
    pass


class BootTimer:
    """`elapsed` is how long the guest took, in ns, once it has said so; `on_boot` is told the same.

    `now` is the machine's clock in ns. Only the first word counts, for a guest that boots again starts a new timer.
    """

    name = "boot timer"

    def __init__(self, now: Callable[[], int], on_boot: Callable[[int], object] = _nobody, port: int = PORT) -> None:
        self.claim = range(port, port + 1)
        self.elapsed: int | None = None
        self._now = now
        self._on_boot = on_boot
        self._started = now()

    def read(self, offset: int, size: int) -> int:
        return 0 if self.elapsed is None else MAGIC

    def write(self, offset: int, size: int, value: int) -> None:
        if value == MAGIC and self.elapsed is None:
            self.elapsed = self._now() - self._started
            self._on_boot(self.elapsed)

    def save(self) -> dict[str, Any]:
        return {"elapsed": self.elapsed, "running": self._now() - self._started}

    def load(self, state: dict[str, Any]) -> None:
        self.elapsed = state["elapsed"]
        self._started = self._now() - state["running"]
