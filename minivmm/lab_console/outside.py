"""What is outside of lab 08's PC: somebody who types, and the test bench, which acts when a guest asks for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from minivmm.lab_console.chips import Pc, Serial
from minivmm.lab_console.parts import Parts

RTS = 2  # in MCR: the guest is ready to receive


class Terminal:
    """The terminal at the other end of the line. It heeds flow control: while RTS is 0, and while the UART has no
    room, what was typed waits here."""

    def __init__(self) -> None:
        self._typed: deque[int] = deque()

    def type(self, text: str) -> None:
        self._typed.extend(text.encode())

    def send(self, chip: Serial, parts: Parts, update: Callable[[], object]) -> None:
        """Sends what the UART can take now; `update` is called behind each byte."""
        while self._typed and chip.mcr & RTS and len(chip.fifo) < (16 if chip.fcr & 1 else 1):
            before = len(chip.fifo)
            parts.receive(chip, self._typed.popleft())
            update()
            if len(chip.fifo) == before:
                break  # a `receive` that receives nothing


class Bench:
    """The test bench: what it does at each step of a guest, by its `script`. The kinds of deeds are in `Board`."""

    def __init__(self, script: Iterable[tuple[int, Sequence[Any]]]) -> None:
        self._script = dict(script)

    def act(self, step: int, pc: Pc, parts: Parts) -> None:
        for kind, what in self._script.get(step, ()):
            match kind:
                case "feed":
                    for byte in what:
                        parts.receive(pc.uart, byte)
                case "flawed":
                    pc.uart.fifo.extend(what)
                case "errors":
                    pc.uart.errors |= what
                case "deltas":
                    pc.uart.deltas |= what
                case "time":
                    pc.rtc.now = what
                case _:
                    raise ValueError(f"a test bench does not know {kind!r}")
