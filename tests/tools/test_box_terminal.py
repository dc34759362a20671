"""The box's terminal: what is typed and shown goes through a socket. One box is started, where its packages are."""

from __future__ import annotations

import os
import pty
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import box as box_tool
import box_terminal
import pytest

SOON = 20  # seconds for what takes a moment


@pytest.fixture
def box() -> Iterator[subprocess.Popen[bytes]]:
    """A process in place of QEMU."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def port(tmp_path: Path) -> Iterator[socket.socket]:
    """QEMU's end of the serial port, which waits for us to connect."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "tty"))
        server.listen()
        yield server


@dataclass
class Ends:
    """A keyboard to write on and a screen to read, and what join() has of both."""

    keyboard: int
    screen: int
    typed: int
    shown: int

    def join(self, box: subprocess.Popen[bytes], path: Path, seconds: float = SOON) -> bool:
        return box_terminal.join(box, path / "tty", time.monotonic() + seconds, self.typed, self.shown)


@pytest.fixture
def ends() -> Iterator[Ends]:
    (typed, keyboard), (screen, shown) = os.pipe(), os.pipe()
    yield Ends(keyboard, screen, typed, shown)
    for fd in (typed, keyboard, screen, shown):
        os.close(fd)


def guest(port: socket.socket, says: Callable[[socket.socket], object]) -> None:
    """Runs what is at the far end of the port on a thread of its own."""

    def serve() -> None:
        with port.accept()[0] as line:
            says(line)

    threading.Thread(target=serve, daemon=True).start()


def test_both_ways_and_the_end(box, port, ends, tmp_path):
    def echo(line: socket.socket) -> None:
        line.sendall(b"hello ")
        line.sendall(line.recv(100).upper())
        box.kill()

    guest(port, echo)
    os.write(ends.keyboard, b"typed")
    assert ends.join(box, tmp_path) is True
    assert os.read(ends.screen, 100) == b"hello TYPED"


def test_nothing_typed_is_sent_before_the_program_speaks(box, port, ends, tmp_path):
    got = []

    def listen(line: socket.socket) -> None:
        line.settimeout(0.3)
        try:
            got.append(line.recv(100))
        except TimeoutError:
            got.append(b"")
        line.sendall(b"$ ")
        line.settimeout(SOON)
        got.append(line.recv(100))
        box.kill()

    guest(port, listen)
    os.write(ends.keyboard, b"early")
    assert ends.join(box, tmp_path) is True
    assert got == [b"", b"early"]


def test_ctrl_closing_bracket_leaves(box, port, ends, tmp_path):
    guest(port, lambda line: (line.sendall(b"stuck"), line.recv(100)))
    os.write(ends.keyboard, b"\x1d")
    with pytest.raises(box_terminal.Left):
        ends.join(box, tmp_path)


def test_the_deadline(box, port, ends, tmp_path):
    assert ends.join(box, tmp_path, 0) is False


def test_a_box_that_never_starts(box, ends, tmp_path):
    box.kill()
    box.wait()
    assert ends.join(box, tmp_path) is True


def test_a_program_in_a_real_box_has_a_terminal(tmp_path):
    try:
        box_tool.need(box_tool.newest_kernel())
    except box_tool.BoxError as error:
        if "MINIVMM_NO_SKIP" in os.environ:
            raise
        pytest.skip(str(error))
    program = "test -t 0 || exit 9; echo ready; read line; echo got $line; test -c /dev/kvm && exit 7"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, box_tool.__file__, "--timeout", "300", "--terminal", "--", "sh", "-c", program],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(theirs)
        seen = b""
        while b"ready" not in seen:
            seen += os.read(ours, 4096)
        os.write(ours, b"typed\r")
        while b"got typed" not in seen:
            seen += os.read(ours, 4096)
        assert process.wait(120) == 7
    os.close(ours)


def test_the_size_of_the_window_is_told(monkeypatch):
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((101, 37)))
    assert "rows 37 cols 101" in box_terminal.script("'top'")
