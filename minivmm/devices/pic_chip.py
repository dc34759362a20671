"""One 8259A: eight interrupt requests, and which of them goes first.

Three bit masks say it all: what is requested (IRR), what is masked (IMR), what the processor is at work on (ISR). A
request goes through if its priority is higher than that of everything in service.

As in all PCs since PCI, edge or level is a matter of each line (ELCR) and not of the whole chip (ICW1 bit 3). One thing
is as emulators have it: an edge stays latched when its line falls before it is acknowledged, where the datasheet makes
it a spurious IRQ7. KVM does so too, and its users rely on it: they raise a line and lower it at once.

Source: Intel 8259A datasheet (231468); for ELCR, the Intel 82371AB (PIIX4) datasheet.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SPURIOUS = 7  # the request that the chip names when it is asked and has none
IDLE, WANTS_ICW2, WANTS_ICW3, WANTS_ICW4 = 0, 1, 2, 3
ICW1, ICW1_NEEDS_ICW4 = 0x10, 0x01
ICW4_AUTO_EOI, ICW4_SPECIAL_FULLY_NESTED = 0x02, 0x10
OCW3, OCW3_POLL, OCW3_READ, OCW3_READ_ISR = 0x08, 0x04, 0x02, 0x01
OCW3_SET_SPECIAL_MASK, OCW3_SPECIAL_MASK = 0x40, 0x20


@dataclass
class PicChip:
    """The registers of one 8259A. `cascade` is the mask of the inputs that another 8259A hangs on."""

    cascade: int = 0
    irr: int = 0
    imr: int = 0
    isr: int = 0
    elcr: int = 0  # 1: the line is level-triggered
    lines: int = 0  # where the edge detectors saw the lines last
    top: int = 0  # the line with the highest priority; the others follow, round and round
    base: int = 0  # the vector of line 0 (ICW2)
    read_isr: bool = False
    poll: bool = False
    special_mask: bool = False
    special_fully_nested: bool = False
    auto_eoi: bool = False
    rotate_on_auto_eoi: bool = False
    has_icw4: bool = False
    init: int = IDLE

    def set_line(self, number: int, level: bool) -> int:
        """Drives an input. Returns -1 while it is masked, 0 for an edge whose request was there already, else 1."""
        bit = 1 << number
        new = True
        if level:
            if self.elcr & bit or not self.lines & bit:
                new = not self.irr & bit
                self.irr |= bit
            self.lines |= bit
        else:
            self.lines &= ~bit
            if self.elcr & bit:
                self.irr &= ~bit
        return -1 if self.imr & bit else int(new)

    def _rank(self, mask: int) -> int:
        # How far the first line in `mask` is from the top: 0 goes first; 8, behind all, where there is none.
        turned = (mask << 8 | mask) >> self.top & 0xFF
        return (turned & -turned).bit_length() - 1 if turned else 8

    def request(self) -> int | None:
        """The line whose request goes to the processor now, or None."""
        waiting = self._rank(self.irr & ~self.imr)
        if waiting == 8:
            return None
        serving = self.isr
        if self.special_mask:
            serving &= ~self.imr  # a masked line in service holds up nobody
        if self.special_fully_nested:
            serving &= ~self.cascade  # a slave at work may still send something more urgent
        return (waiting + self.top) & 7 if waiting < self._rank(serving) else None

    def acknowledge(self, number: int) -> None:
        """INTA for `request()`: from requested to in service."""
        bit = 1 << number
        self.isr |= bit
        if not self.elcr & bit:
            self.irr &= ~bit
        if self.auto_eoi:
            self.isr &= ~bit
            if self.rotate_on_auto_eoi:
                self.top = (number + 1) & 7

    # ---- the two ports ----

    def read(self, port: int) -> int:
        if self.poll:  # "the next RD pulse is an interrupt acknowledge" (datasheet, "Poll Command")
            self.poll = False
            number = self.request()
            if number is None:
                return SPURIOUS
            self.acknowledge(number)
            return 0x80 | number
        if port:
            return self.imr
        return self.isr if self.read_isr else self.irr

    def write(self, port: int, value: int) -> list[int] | None:
        """A command byte. Returns the lines whose interrupt it ended, or made forgotten; None where it leaves the
        outputs as they are. They keep still during an initialization, until the mask that a driver writes after it."""
        if port:
            return self._write_data(value)
        if value & ICW1:
            return self._start_init(value)
        return self._ocw3(value) if value & OCW3 else self._ocw2(value)

    def _start_init(self, value: int) -> list[int] | None:
        forgotten = self.irr & ~self.elcr
        self.has_icw4 = bool(value & ICW1_NEEDS_ICW4)
        self.lines = self.imr = self.top = 0
        self.irr &= self.elcr  # the edge detectors are reset
        self.isr &= ~forgotten
        self.special_mask = self.read_isr = False
        if not self.has_icw4:
            self.auto_eoi = self.special_fully_nested = False
        self.init = WANTS_ICW2
        return [number for number in range(8) if forgotten >> number & 1]

    def _write_data(self, value: int) -> list[int] | None:
        match self.init:
            case 0:  # OCW1
                self.imr = value
                return []
            case 1:
                self.base = value & 0xF8
                self.init = WANTS_ICW3
            case 2:  # ICW3 says how the chips are wired; in a PC that never changes
                self.init = WANTS_ICW4 if self.has_icw4 else IDLE
            case _:
                self.auto_eoi = bool(value & ICW4_AUTO_EOI)
                self.special_fully_nested = bool(value & ICW4_SPECIAL_FULLY_NESTED)
                self.init = IDLE
        return None

    def _ocw3(self, value: int) -> list[int] | None:
        if value & OCW3_POLL:
            self.poll = True
        if value & OCW3_READ:
            self.read_isr = bool(value & OCW3_READ_ISR)
        if value & OCW3_SET_SPECIAL_MASK:
            self.special_mask = bool(value & OCW3_SPECIAL_MASK)
            return []
        return None

    def _ocw2(self, value: int) -> list[int] | None:
        rotate, specific, eoi = value & 0x80, value & 0x40, value & 0x20
        if not eoi and not specific:
            self.rotate_on_auto_eoi = bool(rotate)
            return None
        if not eoi and not rotate:
            return None  # "no operation"
        if specific:
            number = value & 7
        else:  # the one that is first in service
            rank = self._rank(self.isr)
            if rank == 8:
                return None
            number = (rank + self.top) & 7
        if eoi:
            self.isr &= ~(1 << number)
        if rotate:
            self.top = (number + 1) & 7
        return [number] if eoi else []

    # ---- state ----

    def save(self) -> dict[str, Any]:
        return asdict(self)

    def load(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
