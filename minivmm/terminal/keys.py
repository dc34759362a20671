"""What is typed, split into what the guest gets and what is meant for us.

All keys belong to the guest, Ctrl-C and Ctrl-Z too, so one key is taken as the way out: Ctrl-A, as screen and QEMU do,
followed by a letter. Ctrl-A twice types one.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

ESCAPE = 0x01  # Ctrl-A


class Command(Enum):
    """What a key after Ctrl-A asks for."""

    LEAVE = "x"
    MONITOR = "c"
    HELP = "h"


class Keys:
    """Splits a stream of typed bytes. Keeps in mind a Ctrl-A at the end of one read for the next."""

    def __init__(self) -> None:
        self._escaped = False

    def split(self, data: bytes) -> Iterator[bytes | Command]:
        """What was typed, in order: runs of bytes for whoever listens, and commands. An unknown key after Ctrl-A is
        dropped, and so is the Ctrl-A."""
        plain = bytearray()
        for byte in data:
            if not self._escaped:
                self._escaped = byte == ESCAPE
                if not self._escaped:
                    plain.append(byte)
                continue
            self._escaped = False
            if byte in (ESCAPE, ord("a"), ord("A")):
                plain.append(ESCAPE)
            elif (command := _command(byte)) is not None:
                if plain:
                    yield bytes(plain)
                    plain.clear()
                yield command
        if plain:
            yield bytes(plain)


def _command(byte: int) -> Command | None:
    try:
        return Command(chr(byte).lower())
    except ValueError:
        return None
