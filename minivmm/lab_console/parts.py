"""What the devices of lab 08 do: as the library has it, but for the parts that a student has written.

A part under test runs among parts that are right, so that a mistake shows where it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import wraps
from typing import Any

from minivmm.devices.acpi_pm import AcpiPm
from minivmm.devices.i8042 import I8042
from minivmm.devices.rtc import Rtc
from minivmm.devices.rtc_calendar import REGISTERS, encode
from minivmm.devices.uart import LCR_DLAB
from minivmm.devices.uart_receiver import Receiver
from minivmm.lab_console.chips import EPOCH, Clock, Controller, Serial
from minivmm.lab_console.loan import in_state_of, library_uart, modem_lines, nothing

Call = Callable[..., Any]
PARTS = (
    "line_status", "receive", "control_fifo", "identify", "modem_status", "read_uart", "write_uart", "irq",
    "clock_register", "read_clock", "write_keyboard", "power",
)  # fmt: skip


def part(ours: Call) -> Call:
    """Hands the call to the student's function of this name, where there is one."""

    @wraps(ours)
    def call(self: Parts, *arguments: Any) -> Any:
        theirs = self.theirs.get(ours.__name__)
        return theirs(*arguments) if theirs else ours(self, *arguments)

    return call


class Parts:
    """`theirs` are the student's functions by name; other names in it are nobody's business."""

    def __init__(self, theirs: Mapping[str, Any] | None = None) -> None:
        self.theirs = theirs or {}

    # ---- the UART ----

    @part
    def line_status(self, chip: Serial) -> Any:
        with library_uart(chip, lcr=0) as uart:
            return uart.read(5, 1)

    @part
    def receive(self, chip: Serial, byte: int) -> Any:
        receiver = Receiver()
        receiver.load({"line": [], "fifo": chip.fifo, "fcr": chip.fcr, "errors": chip.errors})
        receiver.loop_back(byte)
        chip.fifo, chip.errors = list(receiver.fifo), receiver.errors

    @part
    def control_fifo(self, chip: Serial, value: int) -> Any:
        with library_uart(chip) as uart:
            uart.write(2, 1, value)

    @part
    def identify(self, chip: Serial) -> Any:
        with library_uart(chip) as uart:
            answer = uart.read(2, 1)
            uart.load(uart.save() | {"thr_emptied": chip.thre})  # looking takes nothing away
        return answer

    @part
    def modem_status(self, chip: Serial) -> Any:
        with library_uart(chip) as uart:
            return uart.read(6, 1)

    @part
    def read_uart(self, chip: Serial, offset: int) -> Any:
        if offset == 5:
            return self.line_status(chip)
        if offset == 6:
            return self.modem_status(chip)
        if offset == 2:
            answer = self.identify(chip)
            if isinstance(answer, int) and answer & 0x0F == 2:
                chip.thre = False
            return answer
        if offset == 0 and not chip.lcr & LCR_DLAB:
            # The library tells a byte's flaws as soon as it comes to the front. Here they stay with it (task 08.19).
            return chip.fifo.pop(0) & 0xFF if chip.fifo else 0
        with library_uart(chip) as uart:
            return uart.read(offset, 1)

    @part
    def write_uart(self, chip: Serial, offset: int, value: int) -> Any:
        if offset == 2:
            return self.control_fifo(chip, value)
        if offset == 0 and not chip.lcr & LCR_DLAB and chip.mcr & 0x10:
            self.receive(chip, value)
            chip.thre = True
            return None
        lines, deltas = modem_lines(chip), chip.deltas
        with library_uart(chip) as uart:
            uart.write(offset, 1, value)
        if "modem_deltas" in self.theirs:  # a stretch problem, in place of what the library does
            chip.deltas = deltas | self.theirs["modem_deltas"](lines, modem_lines(chip))
        return None

    @part
    def irq(self, chip: Serial) -> Any:
        if "identify" in self.theirs:
            return chip.mcr & 0x18 == 0x08 and not self.identify(chip) & 1
        levels = [False]
        with library_uart(chip, levels.append):
            return levels[-1]

    # ---- the clock ----

    @part
    def clock_register(self, index: int, moment: datetime, b: int) -> Any:
        return encode(round((moment - EPOCH).total_seconds() // 1), b)[index]

    @part
    def read_clock(self, clock: Clock) -> Any:
        if clock.index in REGISTERS:
            return self.clock_register(clock.index, clock.moment, clock.b)
        if clock.index == 0x0C:
            flags, clock.flags = clock.flags, 0
            return flags | (0x80 if flags & clock.b else 0)
        if clock.index in (0x0A, 0x0D):
            rtc = Rtc(nothing, lambda: 0, lambda: 1000 * clock.now)
            rtc.write(0, 1, clock.index)
            return rtc.read(1, 1)
        return clock.b if clock.index == 0x0B else clock.cmos[clock.index]

    # ---- keyboard controller, and the ways to stop ----

    @part
    def write_keyboard(self, keyboard: Controller, port: int, value: int) -> Any:
        asked: list[str] = []
        chip = I8042(nothing, lambda: asked.append("reset"))
        chip.load(in_state_of(chip.save(), keyboard))
        chip.ports[0 if port == 0x60 else 1].write(0, 1, value)
        while chip.ports[1].read(0, 1) & 1:
            keyboard.output.append(chip.ports[0].read(0, 1))
        state = chip.save()
        keyboard.config, keyboard.expects = state["ram"][0], state["registers"][3]
        return asked[0] if asked else None

    @part
    def power(self, port: int, size: int, value: int) -> Any:
        asked: list[str] = []
        acpi = AcpiPm(nothing, lambda: 0, lambda: asked.append("off"), lambda: asked.append("reset"))
        for window in acpi.ports:
            if port in window.claim and port + size <= window.claim.stop:
                window.write(port - window.claim.start, size, value)
        return asked[0] if asked else None
