"""The fork server of the sandbox: imports everything once, then forks a fresh child for every check.

Started by the supervisor as `python -m autograder.sandbox.zygote FD` with a bare environment, in a session and an empty
folder of its own. It talks in frames over the socket FD:

    ← {"path", "modules", "accel", "needs", "readable", "hidden", "devices", "scratch"}
    → {"backend", "reason"}, or {"error", "usage"} and the end
    ← {"chunks", "module", "driver", "exercise", "cases", "limits"}     per check
    → a header (see `watch`), then one frame with the child's answers as they came, unread

It never imports stages, and it runs no student code in its own process.
"""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from autograder.sandbox import child, limits, linux, wire
from autograder.sandbox.channel import receive, send
from autograder.sandbox.jail import Jail
from autograder.sandbox.watch import watch

# What nearly every notebook imports: loaded here once, it costs no check anything.
PRELOADED = ("minivmm.lab", "minivmm.machine", "minivmm.guests", "minivmm.x86")


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    greeting = receive(channel)
    if greeting is None:
        return
    ready = prepare(greeting)
    send(channel, ready)
    if "error" in ready:
        return
    scratch = Path(greeting["scratch"])
    jail = Jail(map(Path, greeting["readable"]), map(Path, greeting["hidden"]), map(Path, greeting["devices"]), scratch)
    # Objects that the collector never visits are pages that the children share with us.
    gc.collect()
    gc.freeze()
    while (request := receive(channel)) is not None:
        if request.get("ping"):
            send(channel, probe())
            continue
        header, answers = serve(channel, request, jail, scratch)
        send(channel, header)
        send(channel, answers)


def prepare(greeting: dict[str, Any]) -> dict[str, Any]:
    """Imports drivers and chooses the backend. Returns the zygote's first answer."""
    sys.path += greeting["path"]
    try:
        chosen = choose(greeting["accel"], greeting["needs"])
        for module in greeting["modules"]:
            importlib.import_module(module)
        return chosen if "error" in chosen else probe() or chosen
    except Exception as error:  # whatever a module may raise: the supervisor says it in a sentence
        return {"error": f"{type(error).__name__}: {error}", "usage": False}


def choose(name: str, needs: list[str]) -> dict[str, Any]:
    """Sets the backend and loads what runs on it; "none" is for exercises in plain Python. `needs` is what the labs'
    guests must find there."""
    if name == "none":
        return {"backend": name, "reason": ""}
    from minivmm import accel
    from minivmm.kvm import calls

    try:
        choice = accel.choose(name, needs)
    except (accel.NoBackendError, ValueError) as error:
        # What nobody knows can't be had anywhere; that a host lacks a backend is the host's fault.
        return {"error": str(error), "usage": name not in accel.ACCELERATORS}
    calls.use(choice.backend)
    for module in PRELOADED:
        importlib.import_module(module)
    return {"backend": choice.backend.name, "reason": choice.reason}


def probe() -> dict[str, Any]:
    """Whether the backend opens: {} or {"error": why not, with the remedy}."""
    if "minivmm.kvm.calls" not in sys.modules:
        return {}
    from minivmm.kvm import calls

    try:
        backend = calls.current()
        backend.close(backend.open())
    except OSError as error:
        return {"error": str(error), "usage": False}
    return {}


def serve(channel: socket.socket, request: dict[str, Any], jail: Jail, scratch: Path) -> tuple[dict[str, Any], bytes]:
    """Forks a child for one check and watches it to its end."""
    output, output_end = os.pipe()
    answers, answers_end = os.pipe()
    home = tempfile.mkdtemp(dir=scratch)
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            linux.prctl(linux.PR_SET_PDEATHSIG, 9)
            linux.prctl(linux.PR_SET_DUMPABLE, 1)
            os.chdir(home)
            os.environ.update(HOME=home, TMPDIR=home)
            limits.set_limits(request["limits"]["seconds"], request["limits"]["memory_mib"])
            jail.enter()  # before the streams are taken, which closes the rules' descriptor
            child.serve(request, child.take_the_streams(output_end, answers_end))
        finally:
            os._exit(child.CANNOT_ANSWER)
    os.close(output_end)
    os.close(answers_end)
    try:
        return watch(pid, output, answers, request["limits"], lambda: linux.kill_descendants(os.getpid()), channel)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    with suppress(BrokenPipeError, ConnectionResetError, wire.WireError):
        main()
