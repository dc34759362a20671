"""The envelopes of the gdb remote serial protocol: `$data#checksum`, acknowledgements, escapes.

Source: the GDB manual, appendix E "GDB Remote Serial Protocol", section "Overview" (and "Binary Data").
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

LONGEST = 1 << 14  # bytes in a packet, as we tell gdb (PacketSize); we take a little more
START, END, ESCAPE, INTERRUPT = b"$#}\x03"
ESCAPED = frozenset(b"$#}*")  # "*" would begin a run-length
FLIP = 0x20


class Odd(Enum):
    """What comes on the line that is no packet, or none to be taken."""

    INTERRUPT = "Ctrl-C"
    CORRUPT = "a packet whose checksum is wrong"
    TOO_LONG = "a packet longer than we said we take"


class PacketReader:
    """Takes bytes as they come and yields the packets' data, unescaped, and the odd things in between.

    Never raises, and never keeps more than one packet of the longest size, whatever comes.
    """

    def __init__(self) -> None:
        self._data: bytearray | None = None  # of the packet that has begun
        self._too_long = False
        self._checksum = b""

    def feed(self, received: bytes) -> Iterator[bytes | Odd]:
        for byte in received:
            if self._data is None:
                if byte == START:
                    self._begin()
                elif byte == INTERRUPT:
                    yield Odd.INTERRUPT
                # Everything else between packets is an acknowledgement, or noise.
            elif self._checksum:
                self._checksum += bytes((byte,))
                if len(self._checksum) == 3:
                    yield self._end()
            elif byte == END:
                self._checksum = b"#"
            elif byte == START:  # the rest of the last one was lost
                self._begin()
            elif len(self._data) >= 2 * LONGEST:
                self._too_long = True
            else:
                self._data.append(byte)

    def _begin(self) -> None:
        self._data, self._too_long, self._checksum = bytearray(), False, b""

    def _end(self) -> bytes | Odd:
        data, self._data = bytes(self._data or b""), None
        if self._too_long:
            return Odd.TOO_LONG
        if self._checksum[1:].lower() != b"%02x" % (sum(data) & 0xFF):
            return Odd.CORRUPT
        return unescape(data)


def packet(data: bytes) -> bytes:
    """`data` in its envelope, escaped where it must be."""
    escaped = escape(data)
    return b"$%b#%02x" % (escaped, sum(escaped) & 0xFF)


def escape(data: bytes) -> bytes:
    return b"".join(bytes((ESCAPE, byte ^ FLIP)) if byte in ESCAPED else bytes((byte,)) for byte in data)


def unescape(data: bytes) -> bytes:
    first, *rest = data.split(b"}")
    return first + b"".join(bytes((part[0] ^ FLIP,)) + part[1:] for part in rest if part)
