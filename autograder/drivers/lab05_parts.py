"""The parts of a bus, for lab 05: ours, but for those that the student has written.

A part under test runs among parts that are right, so that one mistake costs one check. Sandbox side: what is here is in
`minivmm.bus` for everyone to read, with other interfaces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from minivmm.exits import MmioRead, MmioWrite, PortIn, decode
from minivmm.kvm import KVM_COALESCED_MMIO_MAX
from minivmm.kvm.run_page import RunPage


@dataclass
class Bus:
    """The lab's `Bus`."""

    devices: list[Any] = field(default_factory=list)
    unclaimed: dict[int, int] = field(default_factory=dict)


def attach(bus: Bus, device: Any) -> None:
    bus.devices.append(device)
    bus.devices.sort(key=lambda each: each.claim.start)


def find(bus: Bus, address: int) -> Any:
    return next((device for device in bus.devices if address in device.claim), None)


def cycles(bus: Bus, address: int, size: int) -> list[tuple[int, int]]:
    owners = [find(bus, address + n) for n in range(size)]
    device = owners[0]
    if all(each is device for each in owners) and (device is None or (size in (1, 2, 4, 8) and size <= device.width)):
        return [(address, size)]
    first = 1 << (size - 1).bit_length() - 1
    return cycles(bus, address, first) + cycles(bus, address + first, size - first)


def read(bus: Bus, address: int, size: int) -> int:
    value = 0
    for at, length in cycles(bus, address, size):
        device = find(bus, at)
        if device is None:
            bus.unclaimed[at] = bus.unclaimed.get(at, 0) + 1
        part = (1 << 8 * length) - 1 if device is None else device.read(at - device.claim.start, length)
        value |= part << 8 * (at - address)
    return value


def write(bus: Bus, address: int, size: int, value: int) -> None:
    for at, length in cycles(bus, address, size):
        device = find(bus, at)
        if device is None:
            bus.unclaimed[at] = bus.unclaimed.get(at, 0) + 1
        else:
            device.write(at - device.claim.start, length, value >> 8 * (at - address) & (1 << 8 * length) - 1)


def serve_port(bus: Bus, run: RunPage, read: Any = read, write: Any = write) -> None:
    exit: Any = decode(run)
    for at in range(0, exit.size * exit.count, exit.size):
        if isinstance(exit, PortIn):
            exit.buffer[at : at + exit.size] = read(bus, exit.port, exit.size).to_bytes(exit.size, "little")
        else:
            write(bus, exit.port, exit.size, int.from_bytes(exit.data[at : at + exit.size], "little"))


def serve_mmio(bus: Bus, run: RunPage, read: Any = read, write: Any = write) -> None:
    match decode(run):
        case MmioWrite() as exit:
            write(bus, exit.address, exit.size, int.from_bytes(exit.data, "little"))
        case MmioRead() as exit:
            exit.buffer[:] = read(bus, exit.address, exit.size).to_bytes(exit.size, "little")


def drain(ring: Any, ports: Bus, mmio: Bus) -> None:
    while ring.first != ring.last:
        entry = ring.coalesced_mmio[ring.first]
        value = int.from_bytes(bytes(entry.data)[: entry.len], "little")
        write(ports if entry.pio else mmio, entry.phys_addr, entry.len, value)
        ring.first = (ring.first + 1) % KVM_COALESCED_MMIO_MAX


def percentile(values: list[int], percent: int) -> int:
    return sorted(values)[-(-percent * len(values) // 100) - 1]


PARTS: MappingProxyType[str, Callable[..., Any]] = MappingProxyType({
    "Bus": Bus, "attach": attach, "find": find, "cycles": cycles, "read": read, "write": write,
    "serve_port": serve_port, "serve_mmio": serve_mmio, "drain": drain, "percentile": percentile,
})  # fmt: skip


def alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """The student's function, whose other parts are ours from now on: a mistake in one of those is told elsewhere."""
    names = getattr(function, "__globals__", None)
    if isinstance(names, dict):
        names.update({name: ours for name, ours in PARTS.items() if names.get(name) is not function})
    return function
