"""The console device: a queue of bytes to the guest, a queue of bytes from it, and the size of the terminal.

One port; VIRTIO_CONSOLE_F_MULTIPORT isn't offered.

Source: virtio 1.2, 5.3 "Console Device".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from struct import Struct
from typing import Any

from minivmm.virtio.buffers import scatter, size_of
from minivmm.virtio.chain import Chain
from minivmm.virtio.device import VirtioDevice
from minivmm.virtio.errors import DriverError

RECEIVE, TRANSMIT = 0, 1  # queues, as the guest sees them
F_SIZE, F_EMERG_WRITE = 1 << 0, 1 << 2
CONFIG = Struct("<HHII")  # cols, rows, max_nr_ports, emerg_wr
EMERG_WR = 8  # offset in it
AT_ONCE = 1 << 16  # bytes that `sink` gets in one call: a guest may send 4 GiB in one request


class VirtioConsole(VirtioDevice):
    """`sink` gets what the guest prints; `feed` is what it reads. The sink runs on the device's thread.

    With `patient`, input waits until the guest has printed something. Linux throws away what comes before it has
    registered its console (drivers/char/virtio_console.c, in_intr), and input from a file is there before the guest.
    """

    name = "console"
    device_id = 3
    queue_sizes = (64, 64)
    features = F_SIZE | F_EMERG_WRITE

    def __init__(
        self, sink: Callable[[bytes], object], *, columns: int = 80, rows: int = 25, patient: bool = False
    ) -> None:
        super().__init__()
        self._sink = sink
        self._size = columns, rows
        self._input = bytearray()
        self._listens = not patient

    def feed(self, data: bytes) -> None:
        """Queues input for the guest. From any thread."""
        self._input += data
        self.kick(RECEIVE)

    @property
    def backlog(self) -> int:
        """How many bytes wait for the guest to take them."""
        return len(self._input)

    def resize(self, columns: int, rows: int) -> None:
        """The terminal has a new size, in characters."""
        self._size = columns, rows
        self.config_changed()

    def wants(self, queue: int) -> bool:
        # A receive buffer waits in its queue until there is input.
        return queue == TRANSMIT or (self._listens and bool(self._input))

    def serve(self, queue: int, chain: Chain) -> int:
        # 5.3.6.1: no device-readable buffer in the receive queue, no device-writable one in the transmit queue.
        if queue == RECEIVE:
            if chain.readable:
                raise DriverError("a receive buffer is device-readable")
            done = scatter(chain.writable, bytes(self._input[: size_of(chain.writable)]))
            del self._input[:done]
            return done
        if chain.writable:
            raise DriverError("a transmit buffer is device-writable")
        for view in chain.readable:
            for at in range(0, len(view), AT_ONCE):
                self._print(bytes(view[at : at + AT_ONCE]))
        if not self._listens:
            self._listens = True
            self.kick(RECEIVE)
        return 0

    def _print(self, data: bytes) -> None:
        # Where nobody listens any more (a closed pipe), bytes are lost as on a serial line; the guest runs on.
        with contextlib.suppress(OSError):
            self._sink(data)

    def config(self) -> bytes:
        return CONFIG.pack(*self._size, 1, 0)

    def write_config(self, offset: int, data: bytes) -> None:
        # 5.3.4: one character, at any time, from a guest that has no queues yet or no longer.
        if offset == EMERG_WR:
            self._print(data[:1])

    def save(self) -> dict[str, Any]:
        return {"input": list(self._input), "size": list(self._size), "listens": self._listens}

    def load(self, state: dict[str, Any]) -> None:
        self._input = bytearray(state["input"])
        self._listens = state["listens"]
        columns, rows = state["size"]
        self._size = columns, rows
