"""The process that runs student code for one check. It is born by fork, answers in frames, and ends by os._exit.

It never returns into the code that forked it: no atexit handler, no flushing of a parent's buffers.
"""

from __future__ import annotations

import importlib
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from autograder.drivers.base import Student
from autograder.sandbox import limits, student_code, wire
from minivmm import watch

CANNOT_ANSWER = 70  # exit status: the channel for answers is gone (EX_SOFTWARE of sysexits.h)
ANSWER_FD = 230  # out of the way of what students open, so that a wrong number rarely hits it

SLACK = 3  # how much slower than alone a guest may run, because of others, before its time-out comes

Driver = Callable[[Student, dict[str, Any]], dict[str, Any]]


def time_at_work() -> float:
    """Seconds that guests' time-outs are counted in: this process's on a processor, and a share of those on the clock,
    for a guest that only sleeps. A grading machine has more to do than it has processors: to wait is no mistake."""
    return time.process_time() + time.monotonic() / SLACK


def run(
    load: Callable[[], dict[str, Any]],
    driver: Callable[[], Driver],
    exercise: str,
    cases: list[dict[str, Any]],
    fd: int,
    home: dict[str, Any] | None = None,
) -> None:
    """Loads the student's namespace, calls the driver once a case, writes one frame each to `fd`, and exits.

    `home` are the globals that mark a frame as the student's, where they are not the namespace itself.
    Frames: {"case": n, "observation": …}, then {"end": true}; or {"error": …} as the last one.
    """
    # Student code may delete builtins or rebind os._exit; what this function needs is bound before.
    leave, failed = os._exit, BaseException
    status = CANNOT_ANSWER
    namespace: dict[str, Any] | None = None
    watch.use(time_at_work)
    try:
        try:
            namespace = load()
            student = Student(namespace, exercise)
            call = driver()
            for number, inputs in enumerate(cases):
                send(fd, {"case": number, "observation": call(student, inputs)})
            send(fd, {"end": True})
        except failed as error:
            limits.spend_the_spare()
            report = student_code.what_went_wrong(error, home or namespace)
            # Drop what the failed frames still hold before making an answer.
            error.__traceback__ = None
            send(fd, {"error": report})
        status = 0
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        leave(status)


def send(fd: int, value: dict[str, Any]) -> None:
    """Writes one frame."""
    data = wire.frame(value)
    while data:
        data = data[os.write(fd, data) :]


def take_the_streams(output: int, answers: int) -> int:
    """Standard input is empty, standard output and error go to `output`; every other descriptor but the one for
    answers is closed. Returns the new number of `answers`."""
    os.dup2(answers, ANSWER_FD, inheritable=False)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.closerange(3, ANSWER_FD)
    os.closerange(ANSWER_FD + 1, 1 << 16)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1)  # noqa: SIM115
    return ANSWER_FD


def find_driver(module: str, name: str) -> Driver:
    """The function `name` of a module of drivers."""
    found: Driver = getattr(importlib.import_module(module), name)
    return found


def serve(request: dict[str, Any], answers: int) -> None:
    """Answers one request of the supervisor's: the slice is loaded, then the driver called. Does not return."""
    random.seed(0)  # a seed replays a run: also where a student draws numbers
    sys.argv = ["notebook"]
    sys.dont_write_bytecode = True  # what the zygote imports may be cached; what a student's code does, not
    run(
        load=lambda: student_code.load(request["chunks"]),
        driver=lambda: find_driver(request["module"], request["driver"]),
        exercise=request["exercise"],
        cases=request["cases"],
        fd=answers,
    )
