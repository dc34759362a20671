"""The terminal of a running machine: keys to the guest's serial port, its text to the screen, Ctrl-A for us.

    with Terminal(uart.feed, leave=machine.stop, monitor=monitor.execute) as terminal:
        ...                                     # the guest's text goes to terminal.write

Where standard input is a file or a pipe, all of it is the guest's, byte for byte, and its end ends nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Self

from minivmm.stdin import Reader
from minivmm.terminal.keys import Command, Keys
from minivmm.terminal.line_editor import LineEditor
from minivmm.terminal.raw_mode import RawMode
from minivmm.terminal.screen import Screen

HELP = """
Ctrl-A x   leave: the machine ends
Ctrl-A c   the monitor, and back again
Ctrl-A a   a Ctrl-A for the guest
Ctrl-A h   this help
"""
PROMPT = "(minivmm) "


class Terminal:
    """Standard input and output as the far end of a serial line. A context manager, for the main thread.

    `feed` gets what the guest should read; `leave` is called at Ctrl-A x and when nobody reads the output any more;
    `monitor` answers a line typed in the monitor. All three are called from the reader's thread (`leave` also from a
    thread that writes), so they must not wait for the main one. `backlog` says how many bytes the guest has not read
    yet: piped input then waits for the guest instead of filling the host's memory.
    """

    def __init__(
        self,
        feed: Callable[[bytes], object],
        *,
        leave: Callable[[], object],
        monitor: Callable[[str], str] | None = None,
        backlog: Callable[[], int] = lambda: 0,
        stdin: int | None = None,
        stdout: int | None = None,
    ) -> None:
        self._feed = feed
        self._leave = leave
        self._monitor = monitor
        self._backlog = backlog
        self._stdin = _descriptor(sys.stdin) if stdin is None else stdin
        output = _descriptor(sys.stdout) if stdout is None else stdout
        self._screen = Screen(output, leave)
        self._keys = Keys()
        self._editor = LineEditor(self._screen.say, PROMPT)
        self._in_monitor = False
        self._stack = ExitStack()
        self.is_tty = self._stdin >= 0 and os.isatty(self._stdin)

    def write(self, data: bytes) -> None:
        """Shows what the guest prints. From any thread."""
        self._screen.guest(data)

    def __enter__(self) -> Self:
        if self._stdin < 0:
            return self
        with ExitStack() as stack:
            if self.is_tty:
                raw = stack.enter_context(RawMode(self._stdin))
                reader = Reader(self._stdin, self._typed, may_read=raw.ours)
            else:
                reader = Reader(self._stdin, self._feed, self._backlog)
            stack.enter_context(reader)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
        self._screen.release()

    # ---- keys, in the reader's thread ----

    def _typed(self, data: bytes) -> None:
        for part in self._keys.split(data):
            match part:
                case bytes() if self._in_monitor:
                    self._to_monitor(part)
                case bytes():
                    self._feed(part)
                case Command.LEAVE:
                    self._screen.say("\n")
                    self._leave()
                case Command.MONITOR:
                    self._toggle()
                case Command.HELP:
                    self._screen.say(HELP)
                    if self._in_monitor:
                        self._editor.prompt()

    def _toggle(self) -> None:
        if self._monitor is None:
            return
        self._in_monitor = not self._in_monitor
        if self._in_monitor:
            self._screen.hold()
            self._screen.say("\nThe monitor: “help” lists its commands, Ctrl-A c goes back to the guest.\n")
            self._editor.prompt()
        else:
            self._screen.say("\n")
            self._screen.release()

    def _to_monitor(self, data: bytes) -> None:
        for line in self._editor.typed(data):
            answer = self._monitor(line) if self._monitor and line.strip() else ""
            if answer:
                self._screen.say(answer.rstrip("\n") + "\n")
            self._editor.prompt()


def _descriptor(stream: object) -> int:
    """The number behind sys.stdin or sys.stdout; -1 where there is none (a test, a service)."""
    try:
        number: int = stream.fileno()  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return -1
    return number
