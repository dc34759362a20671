"""The terminal: keys, lines, the screen, and the whole of it on a pseudo-terminal, as a person has it."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivmm.stdin import ENOUGH, Reader
from minivmm.terminal.keys import Command, Keys
from minivmm.terminal.line_editor import LineEditor
from minivmm.terminal.screen import HELD_MOST, Screen
from minivmm.terminal.terminal import Terminal

GUEST = (sys.executable, str(Path(__file__).with_name("terminal_guest.py")))
BASH = shutil.which("bash")
PATIENCE = 30  # seconds until a test gives up

# ---- keys ----


@pytest.mark.parametrize(
    ("typed", "split"),
    [
        (b"ls\r", [b"ls\r"]),
        (b"\x03\x1a\x04", [b"\x03\x1a\x04"]),
        (b"\x01x", [Command.LEAVE]),
        (b"\x01X", [Command.LEAVE]),
        (b"\x01c", [Command.MONITOR]),
        (b"\x01h", [Command.HELP]),
        (b"\x01a", [b"\x01"]),
        (b"\x01\x01", [b"\x01"]),
        (b"ab\x01\x01cd\x01cpause\r\x01cxyz", [b"ab\x01cd", Command.MONITOR, b"pause\r", Command.MONITOR, b"xyz"]),
        (b"a\x01qb", [b"ab"]),
        (b"a\x01\xffb", [b"ab"]),
        (b"\x01", []),
    ],
)
def test_keys(typed: bytes, split: list[bytes | Command]) -> None:
    assert list(Keys().split(typed)) == split


@given(st.lists(st.binary(max_size=4)))
def test_it_does_not_matter_where_a_read_ends(reads: list[bytes]) -> None:
    keys, whole = Keys(), list(Keys().split(b"".join(reads)))
    pieces = [part for read in reads for part in keys.split(read)]
    assert _joined(pieces) == _joined(whole)


def _joined(parts: list[bytes | Command]) -> list[int | Command]:
    return [each for part in parts for each in (part if isinstance(part, bytes) else [part])]


# ---- lines ----


@pytest.mark.parametrize(
    ("typed", "lines"),
    [
        (b"where\r", ["where"]),
        (b"pause\rexits\n", ["pause", "exits"]),
        (b"whex\x7fre\r", ["where"]),
        (b"\x7f\x7fok\r", ["ok"]),
        (b"rubbish\x15ok\r", ["ok"]),
        (b"rubbish\x03ok\r", ["ok"]),
        (b"a\x1b[A\x1b[1;5Cb\x1bOPc\x1bxd\r", ["abcd"]),
        (b"\t\x00\xc3\xa9ok\r", ["ok"]),
        (b"unfinished", []),
    ],
)
def test_lines(typed: bytes, lines: list[str]) -> None:
    assert list(LineEditor(lambda text: None, "> ").typed(typed)) == lines


def test_what_is_typed_is_seen() -> None:
    seen: list[str] = []
    editor = LineEditor(seen.append, "> ")
    editor.prompt()
    list(editor.typed(b"ab\x7f\x03cd\x15e\r"))
    assert "".join(seen) == "> ab\b \b^C\n> cd\b \b\b \be\n"


@given(st.binary(max_size=200))
def test_a_line_is_always_printable(typed: bytes) -> None:
    assert all(line.isprintable() for line in LineEditor(lambda text: None, "> ").typed(typed + b"\r"))


# ---- the screen ----


@contextlib.contextmanager
def a_pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def test_the_guest_waits_while_the_screen_is_held() -> None:
    with a_pipe() as (read, write):
        screen = Screen(write, lambda: None)
        screen.guest(b"one ")
        screen.hold()
        screen.guest(b"two ")
        screen.say("us ")
        screen.release()
        screen.guest(b"three")
        assert os.read(read, 100) == b"one us two three"


def test_a_guest_that_prints_much_is_not_held_for_ever() -> None:
    with a_pipe() as (read, write):
        screen = Screen(write, lambda: None)
        screen.hold()
        writer = threading.Thread(target=screen.guest, args=(b"x" * (HELD_MOST + 1),))
        writer.start()
        assert receive(read, HELD_MOST + 1) == b"x" * (HELD_MOST + 1)
        writer.join(PATIENCE)


def receive(fd: int, size: int) -> bytes:
    got = b""
    while len(got) < size and select.select([fd], [], [], PATIENCE)[0]:
        got += os.read(fd, 4096)
    return got


def test_nobody_reads_any_more() -> None:
    gone: list[bool] = []
    with a_pipe() as (read, write):
        screen = Screen(write, lambda: gone.append(True))
        os.close(read)
        screen.guest(b"x")
        screen.guest(b"y")
        assert gone == [True]


def test_a_non_blocking_output_loses_nothing() -> None:
    with a_pipe() as (read, write):
        os.set_blocking(write, False)
        screen, text = Screen(write, lambda: None), bytes(range(256)) * 1024
        writer = threading.Thread(target=screen.guest, args=(text,))
        writer.start()
        assert receive(read, len(text)) == text
        writer.join(PATIENCE)


# ---- piped input ----


def test_a_pipe_is_the_guests_byte_for_byte_and_its_end_ends_nothing() -> None:
    fed, left, threads = bytearray(), [], []

    def feed(data: bytes) -> None:
        fed.extend(data)
        threads.append(threading.current_thread())

    with a_pipe() as (read, write), open(os.devnull, "w") as nowhere:
        os.write(write, b"\x01x\x03")
        with Terminal(feed, leave=lambda: left.append(1), stdin=read, stdout=nowhere.fileno()):
            assert fed == b"\x01x\x03"
            assert threads == [threading.current_thread()]  # before the guest starts, not at some time
            os.write(write, b"later")
            os.close(write)
            wait_until(lambda: fed == b"\x01x\x03later")
    assert left == []


def test_a_pipe_waits_for_the_guest() -> None:
    fed = bytearray()
    with open("/dev/zero", "rb") as zeroes, Reader(zeroes.fileno(), fed.extend, lambda: len(fed)):
        wait_until(lambda: len(fed) > ENOUGH)
        time.sleep(0.1)
    assert len(fed) < 2 * ENOUGH


def test_without_any_input_or_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stdout", None)
    with Terminal(lambda data: None, leave=lambda: None) as terminal:
        terminal.write(b"into the void")
        assert not terminal.is_tty


def wait_until(true: object) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


# ---- a pseudo-terminal ----


class Screenful:
    """What appears on the terminal whose other end is `master`."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.seen = b""

    def sees(self, text: bytes) -> bytes:
        """Waits for `text`; all that was seen up to it, which then is forgotten."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            ready = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))[0]
            assert ready, f"never saw {text!r}, only {self.seen!r}"
            self.seen += os.read(self.master, 4096)
        before, _, self.seen = self.seen.partition(text)
        return before


class Person(Screenful):
    """Someone at a terminal where tests/terminal_guest.py runs, by itself or under a shell."""

    def __init__(self, command: tuple[str, ...] = GUEST) -> None:
        master, self.slave = pty.openpty()
        super().__init__(master)
        self.before = termios.tcgetattr(self.slave)
        # A session of its own with this terminal, as a shell has it: that is what job control is about.
        self.process = subprocess.Popen(
            command,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
        )

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    @property
    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def person() -> Iterator[Person]:
    someone = Person()
    try:
        someone.sees(b"ready")
        yield someone
    finally:
        someone.close()


def ended(person: Person, code: int) -> None:
    assert person.process.wait(PATIENCE) == code
    assert termios.tcgetattr(person.slave) == person.before


def test_the_guests_text_waits_for_the_monitor() -> None:
    master, slave = pty.openpty()
    with Terminal(lambda data: None, leave=lambda: None, monitor=str.upper, stdin=slave, stdout=slave) as terminal:
        screen = Screenful(master)
        os.write(master, b"\x01c")
        screen.sees(b"(minivmm) ")
        terminal.write(b"a boot log")
        os.write(master, b"hello\r")
        assert b"boot log" not in screen.sees(b"HELLO\r\n(minivmm) ")
        os.write(master, b"\x01c")
        screen.sees(b"a boot log")
    os.close(master)
    os.close(slave)


@pytest.mark.kvm
def test_typing_to_a_guest(person: Person) -> None:
    assert person.is_raw
    person.type(b"hi\x03\x1a\x04\r\x01a\x01\x01")
    person.sees(b"hi\x03\x1a\x04\r\x01\x01")  # echoed once, by the guest, with Ctrl-C, Z and D
    person.type(b".")
    person.sees(b"ended: halted")
    ended(person, 0)


@pytest.mark.kvm
def test_leaving(person: Person) -> None:
    person.type(b"\x01h")
    person.sees(b"Ctrl-A x   leave")
    person.type(b"\x01x")
    person.sees(b"ended: asked")
    ended(person, 0)


@pytest.mark.kvm
def test_the_monitor(person: Person) -> None:
    person.type(b"\x01c")
    person.sees(b"(minivmm) ")
    person.type(b"wherx\x7fe\r")
    person.sees(b"vCPU 0 at 0x100")
    person.sees(b"(minivmm) ")
    person.type(b"pause\r")
    person.sees(b"The machine is paused.\r\n(minivmm) ")
    person.type(b"nonsense\r")
    person.sees(b"There is no command 'nonsense'")
    person.type(b"\x01c" + b"typed while paused")
    person.type(b"\x01cexits\r")
    person.sees(b"16550 UART")
    assert b"typed" not in person.seen
    person.type(b"continue\r\x01c")
    person.sees(b"typed while paused")
    person.type(b"\x01cquit\r")
    person.sees(b"ended: asked")
    ended(person, 0)


@pytest.mark.kvm
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_gives_the_terminal_back(person: Person, number: signal.Signals) -> None:
    person.process.send_signal(number)
    ended(person, 128 + number)


@pytest.mark.kvm
@pytest.mark.skipif(BASH is None and "MINIVMM_NO_SKIP" not in os.environ, reason="job control needs bash")
def test_stopped_and_continued_by_a_shell() -> None:
    # A group whose parent is in another session doesn't stop (setpgid(2), "orphaned"), so here the parent is a shell.
    script = f"set -m; {shlex.join(GUEST)}; echo stopped; read; bg; echo behind; read; echo going on; fg"
    person = Person((str(BASH), "-c", script))
    try:
        person.sees(b"ready")
        children = Path(f"/proc/{person.process.pid}/task/{person.process.pid}/children")
        os.kill(int(children.read_text()), signal.SIGTSTP)
        person.sees(b"stopped")
        assert not person.is_raw
        person.type(b"for the shell\r")
        person.sees(b"behind")
        time.sleep(0.3)  # SIGCONT has come by now, but the terminal is the shell's
        assert not person.is_raw
        person.type(b"for the shell\r")
        person.sees(b"going on")
        wait_until(lambda: person.is_raw)
        person.type(b"back.")
        person.sees(b"back.")
        person.sees(b"ended: halted")
        person.process.wait(PATIENCE)
        assert not person.is_raw
    finally:
        person.close()


@pytest.mark.kvm
def test_a_stop_that_does_not_stop(person: Person) -> None:
    person.process.send_signal(signal.SIGTSTP)  # its group is orphaned, see above
    person.type(b"still here")
    person.sees(b"still here")
    time.sleep(0.3)
    assert person.is_raw


@pytest.mark.kvm
def test_piped_through() -> None:
    done = subprocess.run(GUEST, input=b"\x01xone two.", capture_output=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (0, b"ready\r\n\x01xone two.")


@pytest.mark.kvm
def test_a_reader_that_goes_away_ends_the_run(spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = spawn(GUEST, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"ready\r\n"
    process.stdout.close()
    process.stdin.write(b"unread")
    process.stdin.flush()
    assert process.wait(PATIENCE) == 0
    assert process.stderr.read() == b"ended: asked\n"
