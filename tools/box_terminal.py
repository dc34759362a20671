"""A person's terminal joined to a serial port of the box: a program in there has a real terminal, this one.

The port is the box's second one (ttyS1), a socket on our side; the first is the console of the box's own kernel. Until
the program says something the terminal stays as it is, so that Ctrl-C still ends a box that doesn't come up.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from minivmm.terminal.raw_mode import RawMode

LEAVE = b"\x1d"  # Ctrl-], telnet's key: it works when nothing in the box does
STARTING = "The box starts: half a minute. Once it is up, Ctrl-] takes it away whatever happens in it.\n"
IN_THE_BOX = (
    "stty -F /dev/ttyS1 115200 rows {rows} cols {columns} && "
    "TERM={term} setsid --ctty --wait sh -c {command} < /dev/ttyS1 > /dev/ttyS1 2>&1"
)


class Left(Exception):
    """The person pressed Ctrl-]."""


def qemu_option(path: Path) -> str:
    """The serial port, for QEMU's command line."""
    return f"-serial unix:{path},server=on,wait=off"


def script(command: str) -> str:
    """What runs a (quoted) shell command on the port, inside."""
    size = shutil.get_terminal_size()
    return IN_THE_BOX.format(
        rows=size.lines, columns=size.columns, term=os.environ.get("TERM", "vt100"), command=command
    )


def join(box: subprocess.Popen[bytes], path: Path, deadline: float, typed: int = 0, shown: int = 1) -> bool:
    """Passes everything both ways until the box is off. False where the deadline comes first. Raises Left.

    `path` is the port's socket; `typed` and `shown` are the file descriptors of keyboard and screen.
    """
    print(STARTING, end="", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(socket.socket(socket.AF_UNIX))
        if not _connect(port, box, path):
            return True
        raw = None
        listening = False  # what is typed before the program is there would only confuse the port
        while True:
            off = box.poll() is not None
            if not off and time.monotonic() > deadline:
                return False
            mine = [typed] if listening and (raw is None or raw.ours()) else []
            ready, _, _ = select.select([port, *mine], [], [], 0 if off else 0.1)
            if off and port not in ready:  # else there is something left to show
                break
            if port in ready:
                data = port.recv(1 << 16)
                if not data:
                    break
                if raw is None and os.isatty(typed):
                    raw = stack.enter_context(RawMode(typed))
                listening = True
                os.write(shown, data)
            if typed in ready:
                data = os.read(typed, 1 << 12)
                if LEAVE in data:
                    raise Left
                listening = bool(data)  # at the end of a pipe there is nothing more to say
                with contextlib.suppress(BrokenPipeError):  # the box has just gone
                    port.sendall(data)
    box.wait()
    return True


def _connect(port: socket.socket, box: subprocess.Popen[bytes], path: Path) -> bool:
    """Joins the port, which QEMU opens a moment after it starts. False where the box is off before."""
    while box.poll() is None:
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            port.connect(str(path))
            return True
        time.sleep(0.05)
    return False
