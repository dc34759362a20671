"""Devices for the buses of lab 05: as in minivmm.bus, and with a `width`, the bytes that they take in one cycle."""

from __future__ import annotations

from typing import Any

from minivmm.devices.window import Window


class Registers:
    """A device that is nothing but bytes: what is written can be read again. It takes `width` bytes in one cycle.

    `log` has its cycles: ("read" or "write", offset, size, value).
    """

    def __init__(self, name: str, claim: range, width: int = 4, contents: bytes = b"") -> None:
        self.name, self.claim, self.width = name, claim, width
        self.bytes = bytearray(contents.ljust(len(claim), b"\0"))
        self.log: list[tuple[str, int, int, int]] = []

    def read(self, offset: int, size: int) -> int:
        driven = self._here(offset, min(size, self.width))
        value = int.from_bytes(driven.ljust(size, b"\xff"), "little")  # data lines that it doesn't have float high
        self.log.append(("read", offset, size, value))
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        taken = len(self._here(offset, min(size, self.width)))
        self.bytes[offset : offset + taken] = (value & (1 << 8 * taken) - 1).to_bytes(taken, "little")
        self.log.append(("write", offset, size, value))

    def _here(self, offset: int, size: int) -> bytes:
        if not 0 <= offset < len(self.claim):
            raise IndexError(f"{self.name} has {len(self.claim)} bytes, and was asked for number {offset}")
        return bytes(self.bytes[offset : offset + size])

    def save(self) -> dict[str, Any]:
        return {"bytes": bytes(self.bytes)}

    def load(self, state: dict[str, Any]) -> None:
        self.bytes[:] = state["bytes"]


class Tape:
    """A device without addresses inside: each read takes the next bytes of a text, each write adds to another."""

    def __init__(self, name: str, claim: range, width: int = 1, text: bytes = b"") -> None:
        self.name, self.claim, self.width = name, claim, width
        self.left = bytearray(text)
        self.written = bytearray()

    def read(self, offset: int, size: int) -> int:
        taken = bytes(self.left[:size]).ljust(size, b"\xff")
        del self.left[:size]
        return int.from_bytes(taken, "little")

    def write(self, offset: int, size: int, value: int) -> None:
        self.written += (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    def save(self) -> dict[str, Any]:
        return {"left": bytes(self.left), "written": bytes(self.written)}

    def load(self, state: dict[str, Any]) -> None:
        self.left, self.written = bytearray(state["left"]), bytearray(state["written"])


class Mixer:
    """The device of the guest `mixer`: each number that is written, at an address or at a port, changes its total."""

    def __init__(self, address: int, port: int) -> None:
        self.total = 0
        self.taken = 0  # how many numbers came
        self.memory_mapped = face("mixer", range(address, address + 8), self._read, self._write)
        self.port = face("mixer's port", range(port, port + 4), self._read, self._write)

    def _read(self, offset: int, size: int) -> int:
        return self.total

    def _write(self, offset: int, size: int, value: int) -> None:
        self.total = self.total * 31 + value & 0xFFFF_FFFF
        self.taken += 1


def face(name: str, claim: range, read: Any, write: Any, width: int = 4) -> Any:
    """One claim of a device that has several: `read` and `write` are the device's."""
    window: Any = Window(name, claim, read, write)
    window.width = width
    return window
