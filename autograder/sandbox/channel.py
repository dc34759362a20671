"""Whole frames over a socket, for the two sides that trust the order of their messages."""

from __future__ import annotations

import socket
from typing import Any

from autograder.sandbox import wire

LONGEST = 64 << 20  # a frame above this is a fault of ours, not a message


def send(channel: socket.socket, value: Any) -> None:
    channel.sendall(wire.frame(value))


def receive(channel: socket.socket) -> Any:
    """The next value, or None where the other side has hung up. Raises WireError; TimeoutError as the socket does."""
    head = _exactly(channel, wire.LENGTH.size)
    if head is None:
        return None
    (length,) = wire.LENGTH.unpack(head)
    if length > LONGEST:
        raise wire.WireError(f"a frame of {length} bytes")
    body = _exactly(channel, length)
    return None if body is None else wire.decode(body)


def _exactly(channel: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        piece = channel.recv(min(1 << 16, count - len(data)))
        if not piece:
            return None
        data += piece
    return bytes(data)
