"""What the guests of lab 08 print, computed in Python: each does at the registers what its source does. The devices are
the library's, which are tested by themselves. These are answers; nothing on the sandbox's side may import them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from autograder.stages.models import Stream, model
from minivmm.devices.rtc_calendar import encode
from minivmm.lab_console import EPOCH, START, Parts, Serial

Script = Iterable[tuple[int, Sequence[Any]]]
END_OF_TIMES = 40
RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(8)


class Port:
    """The UART under a guest, and the script of its bench."""

    def __init__(self, script: Script = (), line_status: Callable[[Serial], int] | None = None) -> None:
        self.chip = Serial()
        self.parts = Parts({"line_status": line_status} if line_status else {})
        self._script = dict(script)

    def act(self, step: int) -> None:
        for kind, what in self._script.get(step, ()):
            if kind == "feed":
                for byte in what:
                    self.parts.receive(self.chip, byte)
            elif kind == "flawed":
                self.chip.fifo.extend(what)
            elif kind == "errors":
                self.chip.errors |= what
            else:
                self.chip.deltas |= what

    def read(self, register: int) -> int:
        return int(self.parts.read_uart(self.chip, register))

    def write(self, register: int, value: int) -> None:
        self.parts.write_uart(self.chip, register, value)
        self.chip.thre |= register == RBR  # the library has no need to note it where nobody wants to be told


def letters(nonce: int, count: int) -> str:
    """The letters that a guest sends."""
    stream = Stream(nonce)
    return "".join(chr(ord("a") + (stream.byte() >> 4)) for _ in range(count))


@model("baud-setter")
def baud_setter(p: Any) -> bytes:
    stream, lines = Stream(p.nonce), ""
    for divisor, lcr, ier, scr in settings(stream, p.count):
        lines += f"{ier:x} {lcr:02x} {divisor:04x} {scr:02x}\n"
    return lines.encode()


def settings(stream: Stream, count: int) -> list[tuple[int, int, int, int]]:
    """Divisor, LCR, IER and SCR, as baud-setter draws them."""
    return [(stream.next() >> 16 | 1, stream.byte() & 0x3F, stream.byte() & 0x0F, stream.byte()) for _ in range(count)]


@model("lsr-waiter")
def lsr_waiter(p: Any) -> bytes:
    """On a UART that is always ready. The letters go elsewhere."""
    stream = Stream(p.nonce)
    for _ in range(p.count):
        stream.byte()
    return f"{p.count:08x} 00000001 {stream.byte():02x}\n".encode()


@model("rx-reader")
def rx_reader(p: Any, script: Script = (), line_status: Callable[[Serial], int] | None = None) -> bytes:
    """`line_status`: another way to read LSR."""
    port, stream, lines = Port(script, line_status), Stream(p.nonce), ""
    for step in range(p.count):
        port.act(step)
        if control := p.option >> 8 * (step & 3) & 0xFF:
            port.write(IIR, control)
        for _ in range(END_OF_TIMES):
            status = port.read(LSR)
            lines += f"{status:02x}"
            if not status & 1:
                break
            lines += f".{port.read(RBR):02x} "
        lines += f" {stream.byte():02x}\n"
    return lines.encode()


@model("iir-logger")
def iir_logger(p: Any, script: Script = ()) -> bytes:
    """`script`: what the bench does at each step."""
    port, stream, lines = Port(script), Stream(p.nonce), ""
    port.write(IIR, p.option & 0xFF)
    port.write(MCR, p.option >> 8 & 0xFF)
    port.write(IER, p.value & 0xFF)
    for step in range(p.count):
        port.act(step)
        letter = ord("a") + (stream.byte() >> 4)
        port.write(RBR, letter)
        lines += f"{letter:c} "
        for _ in range(END_OF_TIMES):
            source = port.read(IIR)
            lines += f"{source:02x}"
            if source & 1:
                break
            register = {2: None, 6: LSR, 0: MSR}.get(source & 0x0E, RBR)
            lines += " " if register is None else f"={port.read(register):02x} "
        lines += "\n"
    return lines.encode()


@model("thre-sender")
def thre_sender(p: Any) -> bytes:
    stream = Stream(p.nonce)
    for _ in range(p.count):
        stream.byte()
    return f"00 {p.count + 1 & 0xFF:02x} {stream.byte():02x}\n".encode()


@model("uart-detective")
def uart_detective(p: Any) -> bytes:
    """On a 16550A."""
    return f"00 0f 90 {Stream(p.nonce).byte():02x} c1 10 16550A\n".encode()


@model("rtc-reader")
def rtc_reader(
    p: Any, script: Script = (), now: int = START, cost: int = 20, updating: Callable[[int], bool] | None = None
) -> bytes:
    """`now`: the clock at first, in µs since 1970; `cost`: how long an access takes. `updating`: UIP."""
    stream, lines, steps = Stream(p.nonce), "", dict(script)
    now += cost  # the write of register B
    for step in range(p.count):
        for _, time in steps.get(step, ()):
            now = time
        while p.option & 1:
            busy = (updating or uip)(now)
            now += cost
            if not busy:
                break
        values = []
        for register in (0, 2, 4, 7, 8, 9, 0x32):
            values.append(encode(now // 1_000_000, p.value)[register])
            now += cost
        second, minute, hour, day, month, year, century = (f"{value:02x}" for value in values)
        lines += f"{century}:{year}/{month}/{day} {hour}:{minute}:{second} {stream.byte():02x}\n"
    return lines.encode()


def uip(now: int) -> bool:
    """Whether the clock is about to change: 244 µs before an update, and the 1984 µs that it takes."""
    return now % 1_000_000 >= 1_000_000 - 244 - 1984


@model("kbd-tester")
def kbd_tester(p: Any, config: int = 0x65) -> bytes:
    stream, lines = Stream(p.nonce), f"55 {config:02x}\n"
    for _ in range(p.count):
        value = stream.byte()
        lines += f"{value:02x} {value:02x}\n"
    return f"{lines}!".encode() + (b"\n" if p.option > 1 else b"")


@model("power-switch")
def power_switch(p: Any, boots: int | None = None) -> bytes:
    """`boots`: how many boots there are, if something else ends them."""
    stream, lines = Stream(p.nonce), ""
    for boot in range(1, 1 + (p.count + 1 if boots is None else boots)):
        lines += f"{boot:02x} {stream.byte():02x}....\n"
    return lines.encode()


HELP = "help echo time peek reset off crash\n"


@model("mini-shell")
def mini_shell(p: Any, typed: str = "", now: int = START, cost: int = 20, memory: bytes = b"", at: int = 0) -> bytes:
    """`typed`: what comes in, ENTER is a carriage return. `memory` lies at the address `at`, for peek."""
    hello = f"mini-shell {p.nonce:016x}\n> "
    screen = hello
    *lines, rest = typed.split("\r")
    for line in lines:
        word, _, rest_of_line = line.partition(" ")
        screen += line + "\n"
        match word:
            case "help":
                screen += HELP
            case "echo":
                screen += rest_of_line + "\n"
            case "time":
                shown = []
                for register in (4, 2, 0):
                    shown.append(f"{encode(now // 1_000_000, 2)[register]:02x}")
                    now += cost
                screen += ":".join(shown) + "\n"
            case "peek":
                offset = int(rest_of_line, 16) - at
                screen += f"{int.from_bytes(memory[offset : offset + 4], 'little'):08x}\n"
            case "reset":
                screen += hello
                continue
            case "off" | "crash":
                return screen.encode()
            case "":
                pass
            case _:
                screen += "?\n"
        screen += "> "
    return (screen + rest).encode()


def moment_of(now: int) -> datetime:
    """µs since 1970 as a moment, in whole seconds."""
    return datetime.fromtimestamp(now // 1_000_000, UTC).replace(tzinfo=EPOCH.tzinfo)
