"""The interrupt controller of a PC: two 8259A, the second hanging on input 2 of the first.

IRQ0–7 are the inputs of the first chip, IRQ8–15 those of the second. Three windows of ports belong to it: `devices` has
them for the bus.

Source: Intel 8259A datasheet (231468), "Cascade Mode"; Intel 82371AB (PIIX4) datasheet, "ELCR1", "ELCR2".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from minivmm.devices.bytewise import window
from minivmm.devices.pic_chip import ICW1, SPURIOUS, PicChip
from minivmm.devices.window import Window

CASCADE = 2
# Which lines may be made level-triggered: not the timer, the keyboard, the cascade, the RTC and the FPU (PIIX4, ELCR).
LEVEL_ALLOWED = 0xF8, 0xDE


def _nobody(_: int) -> None:
    pass


class Pic:
    """The pair. `on_intr` hears of each change of the INTR output, `on_eoi` of each IRQ whose service ends, or
    that an initialization made forgotten."""

    def __init__(
        self,
        on_intr: Callable[[bool], object] = _nobody,
        on_eoi: Callable[[int], object] = _nobody,
    ) -> None:
        self.master = PicChip(cascade=1 << CASCADE)
        self.slave = PicChip()
        self.chips = self.master, self.slave
        self.intr = False  # high while a request waits for `acknowledge`
        self.on_intr = on_intr
        self.on_eoi = on_eoi
        self.devices = (
            self._ports("8259A master", 0x20, 0, self.save, self.load),
            self._ports("8259A slave", 0xA0, 1),
            window("8259A edge/level control", 0x4D0, 2, lambda chip: self.chips[chip].elcr, self.set_triggers),
        )

    def set_line(self, number: int, level: bool) -> int:
        """Drives IRQ 0–15. Returns -1 while it is masked, 0 for an edge whose request was there already, else 1."""
        result = self.chips[number >> 3].set_line(number & 7, level)
        self.update()
        return result

    def update(self) -> None:
        """Lets a change reach the outputs: the slave's INT into the master, the master's INT to the processor."""
        if self.slave.request() is not None:
            # A pulse, as KVM has it, so that the master sees an edge for each request of the slave.
            self.master.set_line(CASCADE, True)
            self.master.set_line(CASCADE, False)
        self._set_intr(self.master.request() is not None)

    def _set_intr(self, level: bool) -> None:
        if level is not self.intr:
            self.intr = level
            self.on_intr(level)

    def pending_vector(self) -> int | None:
        """The vector that `acknowledge` would give, or None while INTR is low."""
        if not self.intr:
            return None
        number = self.master.request()
        if number == CASCADE:
            return self.slave.base + _or_spurious(self.slave.request())
        return self.master.base + _or_spurious(number)

    def acknowledge(self) -> int:
        """INTA: the processor takes the interrupt, and gets its vector.

        Where the request has gone meanwhile (masked, or its level fell), the vector is that of IRQ7 or IRQ15, and
        nothing is in service: the famous spurious interrupt (datasheet, "Interrupt Sequence").
        """
        number = self.master.request()
        if number is not None:
            self._take(0, number)
        chip, line = self.master, _or_spurious(number)
        if number == CASCADE:
            chip = self.slave
            number = chip.request()
            if number is not None:
                self._take(1, number)
            line = _or_spurious(number)
        self.update()
        return chip.base + line

    def _take(self, chip: int, number: int) -> None:
        self.chips[chip].acknowledge(number)
        if self.chips[chip].auto_eoi:
            self.on_eoi(8 * chip + number)

    # ---- the ports ----

    def _ports(self, name: str, start: int, chip: int, *state: Any) -> Window:
        """The command and data port of one chip. The master's window saves the state of the pair."""
        return window(name, start, 2, partial(self.read_port, chip), partial(self.write_port, chip), *state)

    def read_port(self, chip: int, port: int) -> int:
        """Port 0 or 1 of chip 0 or 1. A read after a poll command acknowledges, and for the slave the cascade too."""
        polled = self.chips[chip].poll
        value = self.chips[chip].read(port)
        if polled:
            if chip and value & 0x80:
                self.master.irr &= ~(1 << CASCADE)
            self.update()
        return value

    def write_port(self, chip: int, port: int, value: int) -> None:
        """Port 0 or 1 of chip 0 or 1."""
        ended = self.chips[chip].write(port, value)
        if ended is not None:
            for number in ended:
                self.on_eoi(8 * chip + number)
            if port or not value & ICW1:
                self.update()

    def set_triggers(self, chip: int, value: int) -> None:
        """ELCR of chip 0 or 1: a bit is 1 where the line is level-triggered. Some lines never are."""
        self.chips[chip].elcr = value & LEVEL_ALLOWED[chip]

    # ---- state ----

    def save(self) -> dict[str, Any]:
        return {"master": self.master.save(), "slave": self.slave.save(), "intr": self.intr}

    def load(self, state: dict[str, Any]) -> None:
        self.master.load(state["master"])
        self.slave.load(state["slave"])
        self._set_intr(state["intr"])


def _or_spurious(number: int | None) -> int:
    return SPURIOUS if number is None else number
