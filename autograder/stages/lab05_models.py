"""What the guests of lab 05 print, computed in Python, and what a bus makes of an access. See models.py; these are
answers, and nothing on the sandbox's side may import them.

A device is [name, first address, how many, width, contents]: bytes that are read and written `width` at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from autograder.stages.models import Stream, model

Cycle = tuple[int, int]  # address, size


class Bus:
    """A bus that does everything right. `log` has the cycles of each device: [name, kind, offset, size, value]."""

    def __init__(self, devices: Sequence[Sequence[Any]]) -> None:
        self.devices = [list(device) for device in devices]
        self.bytes = {device[0]: bytearray(device[4]) for device in devices}
        self.unclaimed: dict[int, int] = {}
        self.log: list[list[Any]] = []

    def find(self, address: int) -> list[Any] | None:
        return next((each for each in self.devices if each[1] <= address < each[1] + each[2]), None)

    def cycles(self, address: int, size: int) -> list[Cycle]:
        """Whole where one device (or none) has it all and takes so much at once; else in two, the first of them the
        largest power of two."""
        owners = [self.find(address + n) for n in range(size)]
        device = owners[0]
        alone = all(each is device for each in owners)
        if alone and (device is None or (size in (1, 2, 4, 8) and size <= device[3])):
            return [(address, size)]
        first = 1 << (size - 1).bit_length() - 1
        return self.cycles(address, first) + self.cycles(address + first, size - first)

    def read(self, address: int, size: int) -> int:
        value = 0
        for at, length in self.cycles(address, size):
            device = self.find(at)
            if device is None:
                self.unclaimed[at] = self.unclaimed.get(at, 0) + 1
                part = (1 << 8 * length) - 1
            else:
                offset = at - device[1]
                part = int.from_bytes(self.bytes[device[0]][offset : offset + length], "little")
                self.log.append([device[0], "read", offset, length, part])
            value |= part << 8 * (at - address)
        return value

    def write(self, address: int, size: int, value: int) -> None:
        for at, length in self.cycles(address, size):
            part = value >> 8 * (at - address) & (1 << 8 * length) - 1
            device = self.find(at)
            if device is None:
                self.unclaimed[at] = self.unclaimed.get(at, 0) + 1
            else:
                offset = at - device[1]
                self.bytes[device[0]][offset : offset + length] = part.to_bytes(length, "little")
                self.log.append([device[0], "write", offset, length, part])


def prober_accesses(p: Any) -> Iterator[tuple[int, int, int | None]]:
    """The accesses of bus-prober, as (port, size, the value of a write or None)."""
    stream = Stream(p.nonce)
    for _ in range(p.count):
        port = p.address + ((stream.next() >> 16) * p.size >> 16)
        how = stream.byte()
        size = 1 if how & 0x7F < 0x20 else 2 if how & 0x7F < 0x40 else 4
        yield port, size, stream.next() & (1 << 8 * size) - 1 if how & 0x80 else None


def walker_accesses(p: Any) -> Iterator[tuple[int, int, int | None]]:
    """The accesses of mmio-walker."""
    stream = Stream(p.nonce)
    for _ in range(p.count):
        address = p.address + ((stream.next() >> 16) * p.size >> 16)
        how = stream.byte()
        size = 1 << (how >> 5 & 3)
        value = (stream.next() | stream.next() << 32) & (1 << 8 * size) - 1 if how & 0x80 else None
        yield address, size, value


def done_by(bus: Bus, accesses: Iterable[tuple[int, int, int | None]], show: Callable[[int, int, int], str]) -> bytes:
    """What a guest prints that shows each read; `show` gets address, size and what was found."""
    text = ""
    for address, size, value in accesses:
        if value is None:
            text += show(address, size, bus.read(address, size))
        else:
            bus.write(address, size, value)
    return text.encode()


@model("bus-prober")
def bus_prober(p: Any, devices: Sequence[Sequence[Any]] = (), bus: Bus | None = None) -> bytes:
    """`devices`: who is on the bus; or the `bus` itself, to look at afterwards."""
    bus = bus or Bus(devices)
    return done_by(bus, prober_accesses(p), lambda port, size, found: f"{port:04x} {found:0{2 * size}x}\n")


@model("mmio-walker")
def mmio_walker(p: Any, devices: Sequence[Sequence[Any]] = (), bus: Bus | None = None) -> bytes:
    """As bus-prober. Bytes come one after the other, so it is all the same how the processor cuts an access in two."""
    return done_by(bus or Bus(devices), walker_accesses(p), lambda address, size, found: f"{found:016x}\n")


@model("string-echo")
def string_echo(p: Any, received: bytes = b"") -> bytes:
    """`received`: what the port answered; after its end the port reads all ones."""
    stream, length = Stream(p.nonce), p.count * p.width
    return bytes(byte ^ stream.byte() for byte in received[:length].ljust(length, b"\xff"))


@model("out-loop")
def out_loop(p: Any) -> bytes:
    stream = Stream(p.nonce)
    for _ in range(p.count):
        stream.next()
    return f"{stream.state:08x}\n".encode()


@model("mixer")
def mixer(p: Any) -> bytes:
    stream, total, text = Stream(p.nonce), 0, ""
    for _ in range(p.count):
        for _ in range(p.size):
            total = total * 31 + stream.next() & 0xFFFF_FFFF
        text += f"{total:08x}\n"
    return text.encode()


@model("postman")
def postman(p: Any) -> bytes:
    stream = Stream(p.nonce)
    return bytes(ord("a") + (stream.byte() >> 4) for _ in range(p.count))
