"""What the devices of lab 08 do: as the library has it, but for the parts that a student has written.

A part under test runs among parts that are right, so that a mistake shows where it was made. The library's devices keep
their registers to themselves, so each call makes one from the lab's state, and puts the state back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from typing import Any

from minivmm.devices.acpi_pm import AcpiPm
from minivmm.devices.i8042 import I8042
from minivmm.devices.rtc import Rtc
from minivmm.devices.rtc_calendar import REGISTERS, encode
from minivmm.devices.uart import LCR_DLAB, Uart
from minivmm.devices.uart_receiver import Receiver
from minivmm.lab_console.chips import EPOCH, Clock, Controller, Serial

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
        with library_uart(chip) as uart:
            return uart.write(offset, 1, value)

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
            rtc = Rtc(_nothing, lambda: 0, lambda: 1000 * clock.now)
            rtc.write(0, 1, clock.index)
            return rtc.read(1, 1)
        return clock.b if clock.index == 0x0B else clock.cmos[clock.index]

    # ---- keyboard controller, and the ways to stop ----

    @part
    def write_keyboard(self, keyboard: Controller, port: int, value: int) -> Any:
        asked: list[str] = []
        chip = I8042(_nothing, lambda: asked.append("reset"))
        chip.load(_with(chip.save(), keyboard))
        chip.ports[0 if port == 0x60 else 1].write(0, 1, value)
        while chip.ports[1].read(0, 1) & 1:
            keyboard.output.append(chip.ports[0].read(0, 1))
        state = chip.save()
        keyboard.config, keyboard.expects = state["ram"][0], state["registers"][3]
        return asked[0] if asked else None

    @part
    def power(self, port: int, size: int, value: int) -> Any:
        asked: list[str] = []
        acpi = AcpiPm(_nothing, lambda: 0, lambda: asked.append("off"), lambda: asked.append("reset"))
        for window in acpi.ports:
            if port in window.claim and port + size <= window.claim.stop:
                window.write(port - window.claim.start, size, value)
        return asked[0] if asked else None


def _nothing(_: object) -> None:
    pass


def _with(state: dict[str, Any], keyboard: Controller) -> dict[str, Any]:
    """A controller's saved state that has the lab's registers, and an empty output buffer."""
    ram = [keyboard.config, *state["ram"][1:]]
    registers = [0, state["registers"][1] & ~1, 0, keyboard.expects]
    return state | {"ram": ram, "registers": registers}


@contextmanager
def library_uart(chip: Serial, line: Callable[[bool], object] = _nothing, **changed: int) -> Iterator[Uart]:
    """The library's UART in the chip's state; `line` hears of its interrupt. The chip has its state afterwards.

    `changed` are fields that shall be different for this moment.
    """
    now = {name: getattr(chip, name) for name in ("ier", "fcr", "lcr", "mcr", "scr")} | changed
    uart = Uart(chip.sent.extend, set_line=line)
    uart.load({
        "receiver": {"line": [], "fifo": chip.fifo, "fcr": now["fcr"], "errors": chip.errors},
        "divisor": chip.divisor, "ier": now["ier"], "lcr": now["lcr"], "mcr": now["mcr"], "scratch": now["scr"],
        "deltas": chip.deltas, "thr_emptied": bool(chip.thre), "heeds_rts": False,
    })  # fmt: skip
    yield uart
    state = uart.save()
    chip.fifo, chip.errors = list(state["receiver"]["fifo"]), state["receiver"]["errors"]
    chip.divisor, chip.deltas, chip.thre = state["divisor"], state["deltas"], state["thr_emptied"]
    after = {"fcr": state["receiver"]["fcr"], "scr": state["scratch"]} | {n: state[n] for n in ("ier", "lcr", "mcr")}
    for name, value in after.items():
        if name not in changed:
            setattr(chip, name, value)
