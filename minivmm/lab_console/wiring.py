"""The ports of lab 08's PC: which device answers where, by the parts that the student has and those of the library.

0x3F8 UART   0x70 clock   0x60, 0x64 keyboard controller   0x604 ACPI's PM1a control   0xCF9 reset
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from minivmm.devices.window import Window
from minivmm.lab_console.chips import Pc
from minivmm.lab_console.parts import Parts

UART, CLOCK, KEYBOARD, STATUS, PM1A, CHIPSET = 0x3F8, 0x70, 0x60, 0x64, 0x604, 0xCF8
CLAIMS = (
    range(UART, UART + 8), range(CLOCK, CLOCK + 2), range(KEYBOARD, KEYBOARD + 1), range(STATUS, STATUS + 1),
    range(PM1A, PM1A + 4), range(CHIPSET, CHIPSET + 8),
)  # fmt: skip

Read = Callable[[int, int], Any]  # port, size in bytes
Write = Callable[[int, int, int], Any]  # and the value; gives "reset", "off" or None


class OddError(ValueError):
    """A part has answered with something that no register can hold."""


def wire(pc: Pc, parts: Parts, ask: Callable[[str], object]) -> list[Window]:
    """A window for each claim. `ask` hears of each "reset" and "off". Answers that can't be raise OddError."""
    access = parts.theirs.get("access")
    read, write = by_port(pc, parts) if access is None else (partial(access, pc), partial(access, pc))

    def window(claim: range) -> Window:
        def reads(offset: int, size: int) -> int:
            value = read(claim.start + offset, size)
            if not isinstance(value, int) or not 0 <= value < 1 << 8 * size:
                raise OddError(f"port {claim.start + offset:#x} gave {value!r} where {8 * size} bits are expected")
            return int(value)

        def writes(offset: int, size: int, value: int) -> None:
            what = write(claim.start + offset, size, value)
            if what in ("reset", "off"):
                ask(what)
            elif what is not None:
                raise OddError(f'a write gave {what!r} where "reset", "off" or None is expected')

        return Window(f"port {claim.start:#x}", claim, reads, writes)

    return [window(claim) for claim in CLAIMS]


def by_port(pc: Pc, parts: Parts) -> tuple[Read, Write]:
    """Every port by itself: how to read it, and how to write it."""

    def read(port: int, size: int) -> Any:
        match port:
            case port if UART <= port < UART + 8:
                return parts.read_uart(pc.uart, port - UART)
            case 0x71:
                return parts.read_clock(pc.rtc)
            case 0x60 | 0x64:
                return pc.keyboard.read(port)
        return (1 << 8 * size) - 1

    def write(port: int, size: int, value: int) -> Any:
        match port:
            case port if UART <= port < UART + 8:
                parts.write_uart(pc.uart, port - UART, value)
            case 0x70:
                pc.rtc.index = value & 0x7F
            case 0x71:
                pc.rtc.store(value)
            case 0x60 | 0x64:
                return parts.write_keyboard(pc.keyboard, port, value)
            case _:
                return parts.power(port, size, value)
        return None

    return read, write
