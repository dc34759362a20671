"""Watches one child to its end: drains what it prints and answers, and stops it when it is over a limit."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from autograder.sandbox.linux import cpu_seconds

ANSWER_LIMIT = 1 << 20  # bytes of observations
KEPT = 4096  # bytes of output kept from the beginning, and as many from the end
TICK = 0.05  # seconds between two looks at the processor clock


class Output:
    """What a child prints: its length, its head, its tail. The middle is not kept."""

    def __init__(self) -> None:
        self.length = 0
        self.head = b""
        self.tail = b""

    def add(self, data: bytes) -> None:
        self.length += len(data)
        room = KEPT - len(self.head)
        self.head += data[:room]
        self.tail = (self.tail + data[max(0, room) :])[-KEPT:]


def watch(
    pid: int,
    output_fd: int,
    answers_fd: int,
    limits: dict[str, Any],
    clean_up: Callable[[], None],
    channel: socket.socket | None = None,
) -> tuple[dict[str, Any], bytes]:
    """Waits for the child, or kills it; then `clean_up` kills what it forked. Returns a header and the raw answers.

    Should `channel` hang up, nobody waits for the answer and the child is killed. The header: "stopped" is "" or what
    the child had too much of ("time", "output", "answer"), "status" its exit status or -signal, "seconds" on the clock,
    "head" and "tail" of its output.
    """
    output, answers = Output(), bytearray()
    start = time.monotonic()
    stopped = ""
    handle = os.pidfd_open(pid)
    with selectors.DefaultSelector() as selector:
        for fd in (output_fd, answers_fd):
            os.set_blocking(fd, False)
            selector.register(fd, selectors.EVENT_READ)
        selector.register(handle, selectors.EVENT_READ)
        if channel:
            selector.register(channel, selectors.EVENT_READ)
        alive = True
        while alive and not stopped:
            ready = {key.fd for key, _ in selector.select(TICK)}
            for fd in ready & {output_fd, answers_fd}:
                data = _read(fd)
                if data == b"":
                    selector.unregister(fd)
                elif fd == output_fd:
                    output.add(data)
                else:
                    answers += data
            stopped = _over(limits, output.length, len(answers), start, pid)
            alive = handle not in ready
            if channel and channel.fileno() in ready and not channel.recv(1, socket.MSG_PEEK):
                stopped = "hung up"  # nobody waits for this answer any more
        seconds = time.monotonic() - start
        with suppress(ProcessLookupError):
            if stopped:
                os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        # Whoever else holds the pipes must go, or the last read would wait for it.
        clean_up()
        for fd in (output_fd, answers_fd):
            while data := _read(fd):
                if fd == output_fd:
                    output.add(data)
                elif len(answers) <= ANSWER_LIMIT:
                    answers += data
                if output.length > 64 * ANSWER_LIMIT:
                    break
    for fd in (handle, output_fd, answers_fd):
        os.close(fd)
    if status == -signal.SIGXCPU:
        stopped = "time"
    header = {
        "stopped": stopped or _too_long(limits, output.length, len(answers)),
        "status": status,
        "seconds": seconds,
        "printed": output.length,
        "head": output.head.decode(errors="backslashreplace"),
        "tail": output.tail.decode(errors="backslashreplace"),
    }
    return header, bytes(answers[:ANSWER_LIMIT])


def _over(limits: dict[str, Any], printed: int, answered: int, start: float, pid: int) -> str:
    if cpu_seconds(pid) > limits["seconds"] or time.monotonic() - start > limits["wall"]:
        return "time"
    return _too_long(limits, printed, answered)


def _too_long(limits: dict[str, Any], printed: int, answered: int) -> str:
    if printed > limits["output_kib"] << 10:
        return "output"
    return "answer" if answered > ANSWER_LIMIT else ""


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except BlockingIOError:
        return b""
