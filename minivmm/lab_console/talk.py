"""A terminal in a notebook: a prompt for whoever sits there, and the time on their wall."""

from __future__ import annotations

import time
from collections.abc import Callable

from minivmm.lab_console.board import Board


def right_now() -> int:
    """The time of the host in µs since 1970, UTC."""
    return time.time_ns() // 1000


def interact(board: Board, live: Callable[[Board], str], goodbye: str = "bye") -> None:
    """Asks for lines and types them to the guest, until it is off or dead, or until somebody says `goodbye`.

    `live` runs the board until it stays down or sleeps. Where nobody can be asked, it says so.
    """
    end, seen = live(board), 0
    while True:
        print(board.screen[seen:])
        seen = len(board.screen)
        if end != "asleep":
            print(f"[{end}]")
            return
        try:
            line = input()
        except (EOFError, NotImplementedError):  # Jupyter's name for "there is no keyboard" is a kind of the latter
            print("[nobody can be asked here: use say(…)]")
            return
        if line == goodbye:
            return
        board.type(line + "\r")
        end = live(board)
