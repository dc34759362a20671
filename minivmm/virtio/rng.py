"""The entropy device: the guest gives empty buffers and gets random bytes. The shortest device there is.

Source: virtio 1.2, 5.4 "Entropy Device".
"""

from __future__ import annotations

import os
from collections.abc import Callable

from minivmm.virtio.buffers import scatter, size_of
from minivmm.virtio.chain import Chain
from minivmm.virtio.device import VirtioDevice
from minivmm.virtio.errors import DriverError

MOST = 4096  # bytes a request: "MAY use less than the entire buffer length" (5.4.6.2), and a guest may ask for 4 GiB


class VirtioRng(VirtioDevice):
    """`source(n)` gives n bytes: those of the host, or a pseudo-random stream that can be replayed."""

    name = "rng"
    device_id = 4
    queue_sizes = (64,)

    def __init__(self, source: Callable[[int], bytes] = os.urandom) -> None:
        super().__init__()
        self._source = source

    def serve(self, queue: int, chain: Chain) -> int:
        if chain.readable:
            raise DriverError("a request for random bytes has a device-readable buffer")
        return scatter(chain.writable, self._source(min(size_of(chain.writable), MOST)))
