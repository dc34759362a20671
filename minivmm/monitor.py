"""The monitor: a few commands to look at a running machine and to steer it.

It is reached by Ctrl-A c in the terminal, and from gdb by `monitor`. What it needs of the machine is `Controls`, and it
prints the same words as a failure report.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from minivmm.debug.evidence import Evidence
from minivmm.debug.view import View
from minivmm.exits import Interrupted
from minivmm.notebook.table import hexdump
from minivmm.x86.bits import RFLAGS_AC
from minivmm.x86.registers import state_text
from minivmm.x86.state import MemoryLike

SHOWN, MOST = 64, 4096  # bytes of memory


class Controls(Protocol):
    """What the monitor may ask of a machine, from a thread that runs no vCPU. A ValueError's text is the answer where
    the machine can't."""

    @property
    def memory(self) -> MemoryLike:
        """Guest-physical memory."""
        ...

    @property
    def cpus(self) -> int:
        """How many vCPUs there are."""
        ...

    @property
    def paused(self) -> bool: ...

    def state(self, cpu: int) -> tuple[Any, Any]:
        """Copies of a vCPU's general and special registers. One that runs is stopped for a moment."""
        ...

    def exits(self) -> str:
        """The exits so far, as a table: `Statistics.text()`."""
        ...

    def pause(self) -> None:
        """Returns when no vCPU runs. Pausing twice is pausing once."""
        ...

    def resume(self) -> None: ...

    def reset(self) -> None: ...

    def power_button(self) -> None: ...

    def quit(self) -> None:
        """Ends the run. Doesn't wait for the end."""
        ...


class MonitorError(ValueError):
    """A command that can't be done as typed. The text says what would be right."""


@dataclass(frozen=True)
class Command:
    """One command: how it is typed, what it does in a few words, and the function that does it and returns text."""

    usage: str
    help: str
    do: Callable[[Controls, list[str]], str]

    @property
    def name(self) -> str:
        return self.usage.split()[0]


class Monitor:
    """Executes one line at a time; `without` are the names of commands that make no sense where it is used."""

    def __init__(self, controls: Controls, without: Collection[str] = ()) -> None:
        self._controls = controls
        self._commands = {command.name: command for command in COMMANDS if command.name not in without}

    def execute(self, line: str) -> str:
        """The answer to a line, in whole lines; "" where there is nothing to say. Never raises for what was typed."""
        words = line.split()
        if not words:
            return ""
        try:
            if words[0] in ("help", "?"):
                return self._help()
            return self._find(words[0]).do(self._controls, words[1:])
        except (ValueError, OSError) as error:  # MonitorError, no memory there, KvmError, …
            return str(error)

    def _find(self, word: str) -> Command:
        """The command of that name, or the only one that begins like that."""
        if word in self._commands:
            return self._commands[word]
        starting = [name for name in self._commands if name.startswith(word)]
        if len(starting) == 1:
            return self._commands[starting[0]]
        if starting:
            raise MonitorError(f"{word!r} may be {' or '.join(starting)}: type a letter more.")
        close = difflib.get_close_matches(word, self._commands, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "“help” lists the commands."
        raise MonitorError(f"There is no command {word!r}: {hint}")

    def _help(self) -> str:
        commands = [*self._commands.values(), Command("help", "this list; commands may be shortened", _nothing)]
        width = max(len(command.usage) for command in commands)
        return "\n".join(f"{command.usage:<{width}}   {command.help}" for command in commands)


# ---- the commands ----


def _registers(controls: Controls, words: list[str]) -> str:
    _at_most(words, 1)
    cpu = _cpu(controls, words[0]) if words else 0
    regs, sregs = controls.state(cpu)
    heading = f"vCPU {cpu}\n" if controls.cpus > 1 else ""
    return heading + state_text(regs, sregs)


def _where(controls: Controls, words: list[str]) -> str:
    _at_most(words, 0)
    lines = []
    for cpu in range(controls.cpus):
        regs, sregs = controls.state(cpu)
        evidence = Evidence(Interrupted(), (), controls.memory, regs, sregs)
        instruction = evidence.instruction()
        text = f", `{instruction.text}`" if instruction else ", where nothing can be fetched"
        linear = f" (linear {evidence.linear_rip:#x})" if evidence.linear_rip != regs.rip else ""
        lines.append(f"vCPU {cpu} at {regs.rip:#x}{linear}{text}")
    return "\n".join([*lines, "The machine is paused."] if controls.paused else lines)


def _memory(controls: Controls, words: list[str]) -> str:
    cpu = None
    if words and words[0].startswith("-"):
        option = words.pop(0)
        if not option.startswith("-v"):
            raise MonitorError(f"{option!r} is no option: -v takes a virtual address of vCPU 0, -v1 one of vCPU 1.")
        cpu = _cpu(controls, option[2:] or "0")
    if not words:
        raise MonitorError("memory needs an address, such as “memory 0x1000 64”.")
    _at_most(words, 2)
    address = _number(words[0])
    size = min(_number(words[1]), MOST) if len(words) > 1 else SHOWN
    data, problem = _read_virtual(controls, cpu, address, size) if cpu is not None else _read(controls, address, size)
    return "\n".join(filter(None, (hexdump(data, address).text(), problem)))


def _read(controls: Controls, address: int, size: int) -> tuple[bytes, str]:
    """The bytes at a guest-physical address, up to the first that isn't there, and why it isn't."""
    found = bytearray()
    try:
        while len(found) < size:
            piece = min(size - len(found), 4096 - (address + len(found)) % 4096)  # slots consist of pages
            found += controls.memory.read(address + len(found), piece)
    except ValueError as error:
        return bytes(found), str(error)
    return bytes(found), ""


def _read_virtual(controls: Controls, cpu: int, address: int, size: int) -> tuple[bytes, str]:
    regs, sregs = controls.state(cpu)
    # A person may look where SMAP keeps the kernel out: AC lifts it.
    view = View(controls.memory, sregs, regs.rflags | RFLAGS_AC)
    data = view.read_some(address, size)
    if len(data) == size:
        return data, ""
    end = address + len(data)
    try:
        return data, f"{end:#x}, {view.reach(end).problem}"
    except ValueError as error:  # wider than an address can be
        return data, str(error)


def _told(do: Callable[[Controls], None], words_after: str) -> Callable[[Controls, list[str]], str]:
    """A command that only does, and says so."""

    def run(controls: Controls, words: list[str]) -> str:
        _at_most(words, 0)
        do(controls)
        return words_after

    return run


def _exits(controls: Controls, words: list[str]) -> str:
    _at_most(words, 0)
    return controls.exits()


def _nothing(controls: Controls, words: list[str]) -> str:
    return ""


COMMANDS = (
    Command("registers [CPU]", "all registers of vCPU 0, or of another", _registers),
    Command("where", "each vCPU's place and instruction", _where),
    Command("memory [-v] ADDR [N]", f"N bytes ({SHOWN}) of physical memory; -v, -v1: by virtual address", _memory),
    Command("exits", "exits by kind and device, with their times", _exits),
    Command("pause", "stops all vCPUs", _told(lambda controls: controls.pause(), "The machine is paused.")),
    Command("continue", "lets them run again", _told(lambda controls: controls.resume(), "The machine runs.")),
    Command("reset", "the reset button", _told(lambda controls: controls.reset(), "The machine was reset.")),
    Command("power", "the power button", _told(lambda c: c.power_button(), "The power button was pressed.")),
    Command("quit", "ends the run", _told(lambda controls: controls.quit(), "")),
)


# ---- what was typed ----


def _number(word: str) -> int:
    try:
        number = int(word, 0)
    except ValueError:
        raise MonitorError(f"{word!r} is not a number like 4096 or 0x1000.") from None
    if not 0 <= number < 1 << 64:
        raise MonitorError(f"{word!r} is not an address: those go from 0 to 2^64 - 1.")
    return number


def _cpu(controls: Controls, word: str) -> int:
    cpu = _number(word)
    if cpu >= controls.cpus:
        there = "vCPU 0" if controls.cpus == 1 else f"vCPUs 0 to {controls.cpus - 1}"
        raise MonitorError(f"There is no vCPU {cpu}: this machine has {there}.")
    return cpu


def _at_most(words: list[str], count: int) -> None:
    if len(words) > count:
        raise MonitorError(f"{words[count]!r} is too much: “help” shows what a command takes.")
