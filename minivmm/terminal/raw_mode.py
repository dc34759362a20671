"""A terminal in raw mode: every key arrives as it is, at once and unechoed. And back again, whatever happens.

Source: termios(3), "Raw mode"; credentials(7) and setpgid(2) for who owns the terminal.
"""

from __future__ import annotations

import contextlib
import os
import signal
import termios
import threading
from types import FrameType
from typing import Any, Self

FATAL = (signal.SIGTERM, signal.SIGHUP)
IFLAG, CFLAG, LFLAG, CC = 0, 2, 3, 6  # the fields of tcgetattr's list


class RawMode:
    """While it is entered, the terminal `fd` is raw; on the way out it is as it was, after an exception too.

    SIGTERM and SIGHUP raise SystemExit(128 + number) in the main thread, so that every `with` on the way tidies up.
    SIGTSTP gives the terminal back before it stops us, and fg takes it again. Signals can only be caught from the main
    thread; elsewhere they are left alone. While we are in the background the terminal is somebody else's, and stays as
    it is: see `ours`.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[Any] = []
        self._handlers: dict[signal.Signals, Any] = {}
        self._is_raw = self._is_stopping = False

    def ours(self) -> bool:
        """Whether we may read the terminal: it would stop us (SIGTTIN) while we are in the background. No signal tells
        of the way back to the foreground, so ask before each read; the terminal is then made raw again."""
        if self._is_stopping or not self._in_foreground():
            return False
        if not self._is_raw:
            self._raw()
        return True

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._fd)
        if threading.current_thread() is threading.main_thread():
            for number in FATAL:
                self._catch(number, self._die)
            self._catch(signal.SIGTSTP, self._suspend)
            self._catch(signal.SIGCONT, self._resumed)  # after SIGSTOP, which nobody can catch, the shell set it
        self._raw()
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def _catch(self, number: signal.Signals, handler: Any) -> None:
        before = signal.getsignal(number)
        # A signal that is ignored (nohup) stays so; None is a handler that is not Python's, which we couldn't put back.
        if before not in (signal.SIG_IGN, None):
            self._handlers[number] = before
            signal.signal(number, handler)

    # ---- the terminal ----

    def _in_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:  # not the terminal that controls us: nobody else can be using it
            return True

    def _raw(self) -> None:
        if not self._in_foreground():
            return
        mode = [*self._before[:CC], self._before[CC].copy()]
        mode[IFLAG] &= ~(termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON)
        # OPOST stays: a guest that ends its lines with \n alone, and our own messages, start at the left margin.
        mode[CFLAG] = mode[CFLAG] & ~termios.CSIZE | termios.CS8
        mode[LFLAG] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
        mode[CC][termios.VMIN], mode[CC][termios.VTIME] = 1, 0
        self._set(mode)
        self._is_raw = True

    def _restore(self) -> None:
        if self._in_foreground():
            self._set(self._before)
            self._is_raw = False

    def _set(self, mode: list[Any]) -> None:
        with contextlib.suppress(termios.error):  # the terminal has been closed under us
            termios.tcsetattr(self._fd, termios.TCSADRAIN, mode)

    # ---- signals ----

    def _die(self, number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        self._is_stopping = True  # from now on the reader's thread leaves the terminal alone
        self._restore()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        # Here we stand still until somebody sends SIGCONT. (An orphaned process group doesn't stop at all: signal(7).)
        signal.signal(signal.SIGTSTP, self._suspend)
        self._is_stopping = self._is_raw = False
        self._raw()

    def _resumed(self, number: int, frame: FrameType | None) -> None:
        self._is_raw = False
        self._raw()
