"""A thread for one device, so that no vCPU waits for a disk.

The vCPU that writes QueueNotify rings a doorbell and runs on; with `kvm_wiring` it doesn't even leave the guest. The
thread sleeps until a bell rings, serves that queue, and sleeps again.
"""

from __future__ import annotations

import selectors
from threading import Thread
from typing import Self

from minivmm.virtio.doorbell import Doorbell
from minivmm.virtio.transport import Transport


class Worker:
    """Serves the queues of `transport` from `start` to `close`. A context manager."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.doorbells = [Doorbell() for _ in transport.queues]
        self._stop = Doorbell()
        self._thread = Thread(target=self._run, name=transport.name, daemon=True)

    def start(self) -> Self:
        """From now on the device works on its own thread, and goes on with what it finds there."""
        self.transport.kick = lambda index: self.doorbells[index].ring()
        self._thread.start()
        self.transport.resume()
        return self

    def close(self) -> None:
        """Returns when the request in hand is finished. What comes later is served by whoever brings it."""
        if self._thread.is_alive():
            self._stop.ring()
            self._thread.join()
        self.transport.kick = self.transport.process_all
        for doorbell in (*self.doorbells, self._stop):
            doorbell.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stop, selectors.EVENT_READ)
            for index, doorbell in enumerate(self.doorbells):
                selector.register(doorbell, selectors.EVENT_READ, (index, doorbell))
            while True:
                for key, _ in selector.select():
                    if key.data is None:
                        return
                    index, doorbell = key.data
                    doorbell.clear()  # before the look: a bell that rings meanwhile is heard
                    if self.transport.process(index):
                        doorbell.ring()  # a busy queue takes its turn with the others, and with `close`

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.close()
