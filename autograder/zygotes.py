"""A zygote as the supervisor holds it: started, asked, and replaced when student code has brought it down."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import autograder
from autograder.sandbox import channel, wire

START_SECONDS = 60  # a cold disk on a busy machine
GRACE_SECONDS = 10  # beyond the zygote's own deadline: it also has to kill and to clean up
PACKAGE = Path(autograder.__file__).parent
OPEN_TO_THE_SANDBOX = {"__init__.py", "odd.py", "sandbox", "drivers"}  # of this package


class InfrastructureError(RuntimeError):
    """The grader can't work here, and no student is to blame. The text says what to do."""


class UsageError(ValueError):
    """What was asked for can't be had. The text says what can."""


@dataclass(frozen=True)
class Answer:
    """What the zygote says of one check: the header of its watch, and the frames that the child wrote, still raw."""

    header: dict[str, Any]
    frames: bytes


class LostError(RuntimeError):
    """The zygote died or fell silent during a check."""


class Zygote:
    """One running zygote. `backend` and `reason` say what serves the guests in it."""

    def __init__(self, accel: str, modules: Sequence[str], path: Sequence[str] = (), needs: Sequence[str] = ()) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="minivmm-"))
        self.log = self.scratch / "log"
        ours, theirs = socket.socketpair()
        self.channel = ours
        with theirs, self.log.open("wb") as log:
            self.process = subprocess.Popen(
                # -s and -P with a bare environment isolate as -I does, but let the hash seed through: with it, a
                # student's sets iterate in the same order in every run, so a seed replays exactly.
                [sys.executable, "-s", "-P", "-m", "autograder.sandbox.zygote", str(theirs.fileno())],
                env=environment(self.scratch),
                cwd=self.scratch,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.backend, self.reason = "", ""
        greeting = {
            "accel": accel,
            "needs": list(needs),
            "modules": list(modules),
            "path": list(path),
            "readable": [str(place) for place in readable(path)],
            "hidden": [str(place) for place in hidden()],
            "devices": ["/dev/kvm", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/shm"],
            "scratch": str(self.scratch),
        }
        with suppress(OSError):  # one that died at once is noticed by `wait_until_ready`
            channel.send(ours, greeting)

    def wait_until_ready(self) -> None:
        """Raises InfrastructureError or UsageError, with a sentence, where the zygote can't serve."""
        try:
            self.channel.settimeout(START_SECONDS)
            answer = self._receive()
        except LostError:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(1)
            last = self.log.read_text(errors="replace").strip().rpartition("\n")[2] if self.log.exists() else ""
            raise InfrastructureError(f"the sandbox did not start: {last or 'it said nothing'}") from None
        if "error" in answer:
            raise (UsageError if answer["usage"] else InfrastructureError)(answer["error"])
        self.backend, self.reason = answer["backend"], answer["reason"]

    def ask(self, request: dict[str, Any]) -> Answer:
        """Runs one check. Raises LostError where the zygote does not survive it."""
        header = self._exchange(request, request["limits"]["wall"] + GRACE_SECONDS)
        frames = self._receive()
        if not isinstance(header, dict) or not isinstance(frames, bytes):
            raise LostError("an answer that is none")
        return Answer(header, frames)

    def device_works(self) -> bool:
        """Whether the backend opens in the zygote itself, where no student code runs."""
        try:
            return "error" not in self._exchange({"ping": True}, GRACE_SECONDS)
        except LostError:
            return False

    def close(self) -> None:
        """Ends the zygote and everything that it started, and removes its scratch folder."""
        self.channel.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_SECONDS if self.process.poll() is None and self._is_awake() else 0)
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        kill_leftovers(self.scratch)
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _is_awake(self) -> bool:
        with suppress(OSError, IndexError):
            # proc(5): the state is the first field after the name in parentheses; T is stopped.
            return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T"
        return False

    def _exchange(self, request: dict[str, Any], seconds: float) -> Any:
        self.channel.settimeout(seconds)
        try:
            channel.send(self.channel, request)
        except OSError as error:
            raise LostError(str(error)) from None
        return self._receive()

    def _receive(self) -> Any:
        try:
            answer = channel.receive(self.channel)
        except (OSError, wire.WireError) as error:
            raise LostError(str(error)) from None
        if answer is None:
            raise LostError("the zygote hung up")
        return answer


def environment(scratch: Path) -> dict[str, str]:
    """All that the sandbox knows of the supervisor's environment."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
    }


def readable(path: Sequence[str]) -> list[Path]:
    """What student code may read: Python, the system's libraries, the course's packages. Nobody's home."""
    system = ["/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/opt", "/sys", "/dev"]
    proc = [
        f"/proc/{name}"
        for name in ("cpuinfo", "meminfo", "version", "stat", "loadavg", "filesystems", "modules", "sys")
    ]
    places = [*system, *proc, sys.prefix, sys.base_prefix, *sys.path, *path, str(PACKAGE.parent)]
    return sorted({Path(place) for place in places if place and Path(place).exists()})


def hidden() -> list[Path]:
    """What it may not: the stages, the judge, the solutions, and the history they are in."""
    root = PACKAGE.parent
    answers = [root / name for name in ("solutions", "labs", "tests", ".git")]
    answers += [root / "minivmm" / "_data" / name for name in ("solutions", "labs")]
    return [*answers, *(entry for entry in PACKAGE.iterdir() if entry.name not in OPEN_TO_THE_SANDBOX)]


def kill_leftovers(scratch: Path) -> None:
    """Kills what a zygote that was brought down could not: processes that still carry its environment."""
    mark = f"HOME={scratch}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if mark in (entry / "environ").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)
