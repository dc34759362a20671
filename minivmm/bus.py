"""A bus: who answers at which address. One for the 64 Ki ports, one for memory-mapped devices.

Source for what happens where nobody answers: the data lines float high, so a read gives all ones; Intel chipset
datasheets, "Master abort".
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from threading import Lock
from typing import Any, Protocol


class Device(Protocol):
    """What a bus asks of a device. Offsets count from the start of the claim; values are unsigned, `size` in bytes."""

    name: str
    claim: range

    def read(self, offset: int, size: int) -> int: ...
    def write(self, offset: int, size: int, value: int) -> None: ...
    def save(self) -> dict[str, Any]: ...
    def load(self, state: dict[str, Any]) -> None: ...


Route = tuple[Callable[[int, int], int], Callable[[int, int, int], None], int]  # read, write, offset


class BusConflictError(ValueError):
    """Two devices claim one address. The text has both names."""


class Bus:
    """One address space. Every address belongs to one device at most.

    `unclaimed` counts the accesses that nobody answered, by address: the first place to look when a guest probes for
    hardware that isn't there. It holds `KEPT` addresses at most, for a guest can touch them all.
    """

    KEPT = 4096

    def __init__(self, name: str) -> None:
        self.name = name
        self.devices: list[Device] = []
        self.unclaimed: dict[int, int] = {}
        self._starts: list[int] = []
        self._routes: dict[int, Route] = {}

    def attach(self, device: Device) -> None:
        """Gives `device` its addresses. Raises BusConflictError, with both names, where one is taken."""
        claim = device.claim
        if not claim or claim.step != 1:
            raise ValueError(f"{device.name} must claim a range of at least one address, without gaps")
        for other in self.devices:
            if claim.start < other.claim.stop and other.claim.start < claim.stop:
                shared = max(claim.start, other.claim.start)
                raise BusConflictError(f"{device.name} and {other.name} both claim {self.name} {shared:#x}")
        self._set([*self.devices, device])

    def detach(self, device: Device) -> None:
        """Takes a device away; its addresses float from now on."""
        self._set([each for each in self.devices if each is not device])

    def _set(self, devices: list[Device]) -> None:
        self.devices = sorted(devices, key=lambda each: each.claim.start)
        self._starts = [each.claim.start for each in self.devices]
        self._routes.clear()

    def device_at(self, address: int) -> Device | None:
        """The device that claims `address`, or None."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address in self.devices[index].claim:
            return self.devices[index]
        return None

    def read(self, address: int, size: int) -> int:
        """What the guest reads: `size` bytes (1 to 8) as an unsigned number."""
        read, _, offset = self._routes.get(address << 4 | size) or self._route(address, size)
        return read(offset, size) & (1 << 8 * size) - 1

    def write(self, address: int, size: int, value: int) -> None:
        """What the guest writes: `size` bytes (1 to 8) as an unsigned number."""
        _, write, offset = self._routes.get(address << 4 | size) or self._route(address, size)
        write(offset, size, value)

    def read_into(self, address: int, size: int, buffer: memoryview) -> None:
        """Answers a read exit: fills `buffer` with items of `size` bytes, read one after the other.

        `rep ins` stays at its port: the data moves on, the port does not. Getting this wrong is a classic.
        """
        for at in range(0, len(buffer), size):
            buffer[at : at + size] = self.read(address, size).to_bytes(size, "little")

    def write_from(self, address: int, size: int, data: bytes) -> None:
        """Serves a write exit: writes the items of `size` bytes in `data`, one after the other, to one address."""
        _, write, offset = self._routes.get(address << 4 | size) or self._route(address, size)
        if len(data) == size:  # nearly always
            write(offset, size, data[0] if size == 1 else int.from_bytes(data, "little"))
            return
        for at in range(0, len(data), size):
            write(offset, size, int.from_bytes(data[at : at + size], "little"))

    # ---- who answers an access: found once, then remembered, for a guest comes back to the same few registers ----

    def _route(self, address: int, size: int) -> Route:
        route = self._find(address, size)
        if len(self._routes) >= self.KEPT:
            self._routes.clear()
        self._routes[address << 4 | size] = route
        return route

    def _find(self, address: int, size: int) -> Route:
        owners = [self.device_at(address + i) for i in range(size)]
        device = owners[0]
        if any(owner is not device for owner in owners):
            # Part of it belongs to a neighbour: the chipset makes byte cycles of it, and so do we.
            return self._read_bytes, self._write_bytes, address
        if device is None:
            return self._read_nobody, self._write_nobody, address
        return device.read, device.write, address - device.claim.start

    def _read_bytes(self, address: int, size: int) -> int:
        return sum(self.read(address + i, 1) << 8 * i for i in range(size))

    def _write_bytes(self, address: int, size: int, value: int) -> None:
        for i in range(size):
            self.write(address + i, 1, value >> 8 * i & 0xFF)

    def _read_nobody(self, address: int, size: int) -> int:
        self._write_nobody(address, size, 0)
        return (1 << 8 * size) - 1

    def _write_nobody(self, address: int, size: int, value: int) -> None:
        if address in self.unclaimed or len(self.unclaimed) < self.KEPT:
            self.unclaimed[address] = self.unclaimed.get(address, 0) + 1


class SharedBus(Bus):
    """A bus that several vCPUs are on: it serves one exit after the other.

    A device that other threads call too (timers, a terminal) has a lock of its own, and must not wait for a vCPU while
    it holds it.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._lock = Lock()

    def read_into(self, address: int, size: int, buffer: memoryview) -> None:
        with self._lock:
            super().read_into(address, size, buffer)

    def write_from(self, address: int, size: int, data: bytes) -> None:
        with self._lock:
            super().write_from(address, size, data)
