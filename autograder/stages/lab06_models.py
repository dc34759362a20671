"""What the guests of lab 06 print, computed in Python. Their interrupt controller is the library's, which is tested
against KVM's own. See models.py; these are answers, and nothing on the sandbox's side may import them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autograder.stages.models import Stream, model
from minivmm.devices.pic import Pic

Script = Sequence[Sequence[Any]]  # [step, [action, …]], as drivers/lab06_bench.py has it
READ_ISR, MASTER, SLAVE = 0x0B, 0, 1


@model("ivt-caller")
def ivt_caller(p: Any, answers: Mapping[int, int] | None = None) -> bytes:
    """`answers`: what the handler of a vector leaves in AL."""
    stream, lines = Stream(p.nonce), ""
    for _ in range(p.count):
        vector = 0x60 + (stream.next() >> 29)
        lines += f"{vector:02x} {(answers or {}).get(vector, 0) ^ stream.byte():02x}\n"
    return lines.encode()


@model("gate-caller")
def gate_caller(p: Any, number: int = 0, trap: bool = False) -> bytes:
    """`number`: what the handler leaves in EAX; `trap`: whether the gate is a trap gate."""
    stream = Stream(p.nonce)
    return "".join(f"{stream.next() ^ number:08x} {int(trap)}\n" for _ in range(p.count)).encode()


@model("irq-window")
def irq_window(p: Any) -> bytes:
    """Where every round's line is raised once."""
    stream, lines = Stream(p.nonce), ""
    for _ in range(p.count):
        stream.next()
        lines += f". {stream.byte():02x}\n"
    return lines.encode()


@model("sti-hlt")
def sti_hlt(p: Any) -> bytes:
    """Where every round's line is raised once."""
    stream = Stream(p.nonce)
    return "".join(f"1 {stream.byte():02x}\n" for _ in range(p.count)).encode()


@model("nmi-watchdog")
def nmi_watchdog(p: Any) -> bytes:
    return f"{p.count:02x} {Stream(p.nonce).byte():02x}\n".encode()


W, A, S, D, ESCAPE = 0x11, 0x1E, 0x1F, 0x20, 0x01
MOVES = {W: -80, A: -1, S: 80, D: 1}


def etching(nonce: int, keys: Sequence[int]) -> tuple[bytes, dict[int, int]]:
    """What etch prints for these scan codes, and the letters on its screen by place."""
    stream = Stream(nonce)
    printed, screen, pen = f"{stream.byte():02x}\n".encode(), {}, 12 * 80 + 40
    for key in keys:
        if key == ESCAPE:
            break
        if key in MOVES:
            pen = (pen + MOVES[key]) % (80 * 25)
            screen[pen] = ord("a") + (stream.byte() >> 4)
            printed += bytes([screen[pen]])
    return printed, screen


@model("etch")
def etch(p: Any, keys: Sequence[int] = ()) -> bytes:
    """`keys`: the scan codes that come."""
    return etching(p.nonce, keys)[0]


class Board:
    """A guest of the irq family, with the lines that a script moves."""

    def __init__(self, p: Any, script: Script, handle: Callable[[Board, int], None], level: int = 0) -> None:
        self.pic = Pic()
        self.text = ""
        self.wants = 0
        self.sampled = False
        self.command = p.option >> 16 & 0xFF
        self._script = [list(each) for each in script]
        self._handle = handle
        for chip, base, mask in ((MASTER, p.value, p.option), (SLAVE, p.value >> 8, p.option >> 8)):
            self.pic.write_port(chip, 0, 0x11)
            for value in (base & 0xF8, 4 if chip == MASTER else 2, 1, mask & 0xFF):
                self.pic.write_port(chip, 1, value)
            self.pic.chips[chip].elcr = level >> 8 * chip & 0xFF

    def act(self, step: int) -> None:
        for entry in self._script:
            if entry[0] == step:
                self._script.remove(entry)
                for kind, *what in entry[1]:
                    self._do(kind, what)
                return

    def _do(self, kind: str, what: Sequence[int]) -> None:
        if kind == "glitch":
            self.pic.set_line(what[0], True)
            self.sampled |= self.pic.intr
            self.pic.set_line(what[0], False)
        elif kind == "want":
            self.wants |= what[1]
            self.pic.set_line(what[0], True)
        else:
            self.pic.set_line(what[0], bool(what[1]))

    def deliver(self) -> None:
        """Takes interrupts for as long as there are any: the guest has switched them on."""
        while self.pic.intr or self.sampled:
            self.sampled = False
            vector = self.pic.acknowledge()
            chip = next(number for number in (SLAVE, MASTER) if vector & 0xF8 == self.pic.chips[number].base)
            self._handle(self, 8 * chip + (vector & 7))

    def end(self, line: int) -> None:
        """The command that ends an interrupt, as pic.inc sends it."""
        specific = self.command & 0x40
        command = self.command | (line & 7 if specific else 0)
        if line >= 8:
            self.pic.write_port(SLAVE, 0, command)
            command = self.command | (2 if specific else 0)
        self.pic.write_port(MASTER, 0, command)

    def run(self, p: Any) -> bytes:
        stream = Stream(p.nonce)
        for step in range(p.count):
            self.act(step)
            self.deliver()
            self.text += f" {stream.byte():02x}\n"
        return self.text.encode()


@model("irq-log")
def irq_log(p: Any, script: Script = ()) -> bytes:
    """`script`: what the bench does at each step."""

    def handle(board: Board, line: int) -> None:
        board.text += f"{line:x}"
        board.end(line)

    return Board(p, script, handle).run(p)


@model("irq-nest")
def irq_nest(p: Any, script: Script = ()) -> bytes:
    """`script`: what the bench does at each step, and (0x80 + line) in the handler of a line."""

    def handle(board: Board, line: int) -> None:
        board.text += f"({line:x}"
        board.act(0x80 + line)
        board.deliver()
        board.text += f"{line:x})"
        board.end(line)

    return Board(p, script, handle).run(p)


@model("irq-shared")
def irq_shared(p: Any, script: Script = ()) -> bytes:
    """`script`: which devices want service at each step."""

    def handle(board: Board, line: int) -> None:
        served = board.wants & -board.wants
        board.text += {0: "?", 1: "A", 2: "B"}[served]
        if board.wants and board.wants == served:
            board.pic.set_line(p.address, False)
        board.wants &= ~served
        board.end(line)

    return Board(p, script, handle, level=1 << p.address).run(p)


@model("irq-spurious")
def irq_spurious(p: Any, script: Script = ()) -> bytes:
    """`script`: as for irq-log; a glitch is what makes a spurious interrupt."""

    def handle(board: Board, line: int) -> None:
        chip = line >> 3
        board.pic.write_port(chip, 0, READ_ISR)
        if line & 7 != 7 or board.pic.read_port(chip, 0) & 0x80:
            board.text += f"{line:x}"
            board.end(line)
        else:
            board.text += f"~{line:x}"
            if chip:
                board.pic.write_port(MASTER, 0, 0x20)

    glitching = {action[1] for _, actions in script for action in actions if action[0] == "glitch"}
    level = sum(1 << line for line in glitching)
    return Board(p, script, handle, level=level).run(p)
