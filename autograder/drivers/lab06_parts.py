"""The parts of a VMM's interrupt controller, for lab 06: the library's, but for those that the student has written.

A part under test runs among parts that are right, so that one mistake costs one check. Sandbox side: what is here is
in `minivmm.devices.pic_chip` for everyone to read, with other interfaces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from autograder.drivers.base import Student
from minivmm.devices.pic_chip import PicChip

CASCADE = 2


@dataclass
class Chip(PicChip):
    """The library's chip, with the one field of the lab's `Chip` that it has by another name."""

    icw: int = 0

    def registers(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("irr", "imr", "isr", "lines", "base", "icw", "read_isr")}


def set_line(chip: Chip, number: int, level: bool) -> None:
    chip.set_line(number, level)


def request(chip: Chip) -> int | None:
    return chip.request()


def acknowledge(chip: Chip, number: int | None) -> int:
    if number is None:
        return chip.base + 7
    chip.acknowledge(number)
    return chip.base + number


def end_of_interrupt(chip: Chip, command: int) -> None:
    chip.write(0, command & ~0x18)  # as OCW2, whatever it is: to tell it from ICW1 and OCW3 is the caller's part


def plain_request(chip: Any) -> int | None:
    """`request` as task 06.4 has it, for any chip with its three registers: nobody's turn comes before another's."""
    return PicChip(irr=chip.irr, imr=chip.imr, isr=chip.isr).request()


def intr(master: Chip, slave: Chip) -> bool:
    master.set_line(CASCADE, slave.request() is not None)
    return master.request() is not None


OURS: dict[str, Callable[..., Any]] = {
    "set_line": set_line, "request": plain_request, "acknowledge": acknowledge, "end_of_interrupt": end_of_interrupt,
    "intr": intr,
}  # fmt: skip


def alone(function: Callable[..., Any], **more: Callable[..., Any]) -> Callable[..., Any]:
    """The student's function, whose other parts are ours from now on: a mistake in one of those is told elsewhere."""
    names = getattr(function, "__globals__", None)
    if isinstance(names, dict):
        ours = OURS | more
        names.update({name: ours[name] for name in ours if names.get(name) is not function})
    return function


@dataclass
class Parts:
    """Eight functions, with the signatures of the lab. A student's replaces the library's of the same name."""

    theirs: dict[str, Callable[..., Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, student: Student, *names: str) -> Parts:
        """The student's parts of these names."""
        return cls({name: student.get(name) for name in names})

    def set_line(self, chip: Chip, number: int, level: bool) -> None:
        self.theirs.get("set_line", set_line)(chip, number, level)

    def request(self, chip: Chip) -> Any:
        return self.theirs.get("request", request)(chip)

    def acknowledge(self, chip: Chip, number: Any) -> Any:
        return self.theirs.get("acknowledge", acknowledge)(chip, number)

    def write(self, chip: Chip, port: int, value: int) -> None:
        if "write" in self.theirs:
            self.theirs["write"](chip, port, value)
        elif "end_of_interrupt" in self.theirs and not port and not value & 0x18:
            self.theirs["end_of_interrupt"](chip, value)
        else:
            chip.write(port, value)

    def intr(self, master: Chip, slave: Chip) -> Any:
        if "intr" in self.theirs:
            return self.theirs["intr"](master, slave)
        set_line(master, CASCADE, self.request(slave) is not None)  # ours: a wire in between is no device's line
        return self.request(master) is not None

    def inta(self, master: Chip, slave: Chip) -> Any:
        if "inta" in self.theirs:
            return self.theirs["inta"](master, slave)
        number = self.request(master)
        vector = self.acknowledge(master, number)
        if number == CASCADE:
            vector = self.acknowledge(slave, self.request(slave))
            self.intr(master, slave)
        return vector
