"""What every virtio device has, whatever it does: an ID, features, queues, a configuration space.

A device knows neither its registers nor how its queues lie in memory. The transport hands it one request at a time, as
a `Chain`, never two at once, and takes back how many bytes it wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minivmm.virtio.chain import Chain


def _nothing(*_: object) -> None:
    """Before a transport has the device, nobody listens."""


class VirtioDevice:
    """The base of all. A device overrides what it needs, `serve` always."""

    name = "virtio device"
    device_id = 0  # section 5, "Device Types"
    queue_sizes: Sequence[int] = ()  # the largest size of each queue, powers of two
    features = 0  # what the device offers, besides what queues and transport have

    def __init__(self) -> None:
        self.negotiated = 0  # what the driver took of it; set by the transport
        self.kick: Callable[[int], object] = _nothing  # "look at queue n", from any thread, also from within `serve`
        self.config_changed: Callable[[], object] = _nothing  # tells the driver to read the configuration again

    def has(self, feature: int) -> bool:
        """Did the driver accept this feature?"""
        return bool(self.negotiated & feature)

    def wants(self, queue: int) -> bool:
        """Has the device a use for a chain of this queue now? An input device doesn't, until there is input."""
        return True

    def serve(self, queue: int, chain: Chain) -> int:
        """Does what the chain asks for. Returns how many bytes of `chain.writable` it filled, from the front.

        Raises DriverError where the request can't be answered at all; the device is then broken until a reset.
        """
        raise NotImplementedError

    def config(self) -> bytes:
        """The configuration space as it is now."""
        return b""

    def write_config(self, offset: int, data: bytes) -> None:
        """The driver writes to the configuration space. Most fields are the device's to say, so: nothing."""

    def save(self) -> dict[str, Any]:
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Takes over what `save` gave."""
