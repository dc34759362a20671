"""The student's side of a lab: `from minivmm.lab import *` is the first line of every notebook.

It brings the system calls of a VMM, every constant of the KVM API, `check`, `predict`, and ways to look at a guest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from html import escape
from importlib.metadata import entry_points
from typing import Any

from minivmm import guests
from minivmm.accel import choose
from minivmm.bus import Bus
from minivmm.exits import Exit, decode
from minivmm.guests import load as _load
from minivmm.kvm import *  # noqa: F403
from minivmm.kvm import __all__ as _kvm_names
from minivmm.kvm import calls
from minivmm.kvm.run_page import RunPage
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine, Stop
from minivmm.notebook import heat_map, hexdump, memory_map, table, timeline
from minivmm.notebook.view import View
from minivmm.x86 import broken_rules
from minivmm.x86.disassembly import disassemble as _disassemble

__all__ = [
    *_kvm_names,
    "Machine", "broken_rules", "check", "decode", "disassemble", "guest_image", "guests", "heat_map", "hexdump",
    "host_for", "memory_map", "predict", "reveal", "run_guest", "show", "table", "timeline", "try_out", "trying",
]  # fmt: skip

KEPT_EXITS = 10_000


def _best_backend() -> Backend:
    """KVM where it answers, else soft; a notebook says so, once, at its first call."""
    choice = choose("auto")
    if choice.backend.name != "kvm":
        print(f"Backend: {choice.backend.name} ({choice.reason}).")
    return choice.backend


calls.default_to(_best_backend)
_predictions: dict[str, int] = {}


def check(exercise: str, *objects: Any) -> Any:
    """Runs the checks of an exercise on your live object(s): in a child process, with a time limit.

    Shows what was expected and what came, and a hint. Nothing that the object does can hurt the notebook.
    """
    for entry in entry_points(group="minivmm.checker"):
        return entry.load()(exercise, *objects)
    return Note("No checker is installed: pip install minivmm brings one (the package autograder).")


def host_for(*needs: str) -> Note:
    """From here on, guests run where they find all that they need: on this host's KVM, or else on soft.

    `needs` are probes of `minivmm doctor` by name ("paging32", "syscall", …). Says which it is, and why.
    """
    choice = choose("auto", needs)
    calls.use(choice.backend)
    return Note(f"Guests run on {choice.backend.name}: {choice.reason}.")


class Note(View):
    """A line or two of text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def text(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return f'<div style="white-space:pre-wrap">{escape(self._text)}</div>'  # prose, so it may wrap between words


def predict(question: str, choice: int) -> Note:
    """Notes your answer to a question, before you run anything."""
    _predictions[question] = choice
    return Note(f"Noted: {choice}. Now find out.")


def reveal(question: str, answer: int, why: str) -> Note:
    """The answer to a question, beside what you predicted."""
    yours = _predictions.get(question)
    if yours is None:
        return Note(f"{question}: the answer is {answer}, {why} (You made no prediction: try the next one first.)")
    start = f"you said {yours}, and so it is:" if yours == answer else f"you said {yours}; it is {answer},"
    return Note(f"{question}: {start} {why}")


def show(*things: Any) -> None:
    """Displays each thing, as a picture or table where the notebook can, else as text."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        get_ipython = None
    for thing in things:
        if get_ipython is not None and get_ipython() is not None and not isinstance(thing, str):
            display(thing)  # type: ignore[no-untyped-call]
        else:
            print(thing)


@contextmanager
def trying() -> Iterator[None]:
    """Lets a demo of your code end in one line, not a traceback, where a task is not written yet or goes wrong."""
    try:
        yield
    except Exception as error:
        print(_stopped(error))


def try_out(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls your function; where it isn't written yet or goes wrong, the answer is a word on that."""
    try:
        return function(*arguments)
    except Exception as error:
        return _stopped(error)


def _stopped(error: Exception) -> str:
    return f"(stopped: {str(error) or type(error).__name__})"


class Disassembly(View):
    """Instructions, one a line."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = list(lines)

    def text(self) -> str:
        return "\n".join(self.lines)


def disassemble(code: bytes, address: int = 0x1000, bits: int = 16, count: int = 12) -> Disassembly:
    """The first `count` instructions of `code`, decoded as 16-, 32- or 64-bit code that lies at `address`."""
    return Disassembly(_disassemble(bytes(code), address, bits, count))


def guest_image(name: str, **parameters: int) -> bytes:
    """The image of a reference guest, its parameter block filled in: guest_image("hello", nonce=7)."""
    return _load(name).patched(**parameters)


class _Everywhere(Bus):
    """A bus whose every address is served by one function of the student's, on the page itself."""

    def __init__(self, page: RunPage, serve: Callable[[RunPage], object]) -> None:
        super().__init__("address")
        self._page = page
        self._serve = serve

    def read_into(self, address: int, size: int, buffer: memoryview) -> None:
        self._serve(self._page)

    def write_from(self, address: int, size: int, data: bytes) -> None:
        self._serve(self._page)


class GuestRun(View):
    """What a reference guest did: `console` (bytes), `exits` (in order), `stop`, and the `machine` it ran in."""

    def __init__(self, name: str, machine: Machine, stop: Stop, exits: list[Exit]) -> None:
        self.name = name
        self.machine = machine
        self.stop = stop
        self.exits = exits
        self.console = bytes(machine.console)

    def _headline(self) -> str:
        return f"{self.name}: {self.stop}"

    def text(self) -> str:
        printed = self.console.decode("ascii", "backslashreplace")
        died = f"\n{self.stop.explanation}" if self.stop.explanation is not None else ""
        return f"{self._headline()}\nconsole: {printed}\n{timeline(self.exits)}{died}"

    def _repr_html_(self) -> str:
        parts = [Note(self._headline()), Note(self.console.decode("ascii", "backslashreplace") or "(nothing printed)")]
        views: list[Any] = [*parts, timeline(self.exits)]
        if self.stop.explanation is not None:
            views.append(self.stop.explanation)
        return "".join(view._repr_html_() for view in views)


def run_guest(
    name: str,
    *,
    memory: int = 1 << 20,
    input: bytes = b"",
    timeout: float = 2.0,
    machine: Machine | None = None,
    on_mmio: Callable[[RunPage], object] | None = None,
    **parameters: int,
) -> GuestRun:
    """Runs a reference guest in a complete machine and brings back what it printed and every exit it made.

    `memory` in bytes, `timeout` in seconds; `parameters` go into the guest's parameter block (nonce, port, count, …).
    Bring a `machine` of your own to give it other memory, and `on_mmio` to serve its MMIO exits: it gets the page.
    """
    exits: list[Exit] = []
    machine = machine or Machine(memory, input=input)
    if on_mmio is not None:
        machine.mmio = _Everywhere(machine.vcpu.run_page, on_mmio)
    machine.on_exit = lambda exit: exits.append(exit) if len(exits) < KEPT_EXITS else None
    machine.load_guest(_load(name), **parameters)
    return GuestRun(name, machine, machine.run(timeout), exits)
