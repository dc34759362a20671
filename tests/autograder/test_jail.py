"""The limits that the kernel enforces, each tried in a process of its own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

FILTERED = """
import os, signal, socket, sys, threading
from autograder.sandbox.jail import refuse_calls
from autograder.sandbox.linux import PR_SET_NO_NEW_PRIVS, prctl

def tried(call, *arguments):
    try:
        call(*arguments)
    except PermissionError:
        return "refused"
    return "allowed"

prctl(PR_SET_NO_NEW_PRIVS, 1)
refuse_calls(signals=True)
me = os.getpid()
print("parent", tried(os.kill, os.getppid(), 0))
print("group", tried(os.kill, -os.getppid(), 0))
print("everyone", tried(os.kill, -1, 0))
print("myself", tried(os.kill, me, 0))
print("my thread", tried(signal.pthread_kill, threading.get_ident(), 0))
print("network", tried(socket.socket))
print("pair", tried(socket.socketpair))
thread = threading.Thread(target=print, args=("thread allowed",))
thread.start()
thread.join()
print("fork", tried(os.posix_spawn, "/bin/true", ["true"], {}))
"""

TREE = """
import os, sys, time
from autograder.sandbox import linux
linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        os.fork()
        time.sleep(1000)
    os._exit(0)  # the grandchildren are orphans now
os.wait()
while len(linux.descendants(os.getpid())) < 2:
    time.sleep(0.01)
linux.kill_descendants(os.getpid())
print(linux.descendants(os.getpid()))
"""


def run(source: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the filter is written for x86-64")
def test_the_filter_stands_in_where_landlock_can_not_forbid_signals() -> None:
    assert run(FILTERED) == [
        "parent refused",
        "group refused",
        "everyone refused",
        "myself allowed",
        "my thread allowed",
        "network refused",
        "pair allowed",
        "thread allowed",
        "fork refused",
    ]


def test_orphans_are_killed_too() -> None:
    assert run(TREE) == ["[]"]


def test_what_is_hidden_inside_what_is_readable(tmp_path: Path, landlock: bool) -> None:
    if not landlock:
        pytest.skip("this kernel has no Landlock")
    for name in ("open/file", "open/deep/secret/answer", "open/deep/file", "scratch/file"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    source = f"""
import os
from pathlib import Path
from autograder.sandbox.jail import Jail
root = Path({str(tmp_path)!r})
Jail([root / "open"], [root / "open/deep/secret"], [Path("/dev/null")], root / "scratch").enter()
for name in ("open/file", "open/deep/file", "scratch/file", "open/deep/secret/answer"):
    try:
        print((root / name).read_text(), end=" ")
    except PermissionError:
        print("refused", end=" ")
for name in ("open/new", "scratch/new"):
    try:
        print((root / name).write_text("x"), end=" ")
    except PermissionError:
        print("refused", end=" ")
"""
    assert run(source) == ["x x x refused refused 1 "]


def test_the_sandbox_knows_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from autograder.zygotes import environment

    monkeypatch.setenv("SECRET_TOKEN", "x")
    assert set(environment(tmp_path)) == {"PATH", "HOME", "TMPDIR", "LANG", "PYTHONHASHSEED"}
    assert os.environ["SECRET_TOKEN"] not in environment(tmp_path).values()
