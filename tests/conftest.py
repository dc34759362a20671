"""What all tests share: a backend where there is one, a reason where there is none, processes that end with a test."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from minivmm.accel import NoBackendError, choose
from minivmm.kvm.seam import Backend


def _why_not() -> str:
    try:
        choose("kvm")
    except NoBackendError as error:
        return str(error)
    return ""


# A suite that a script started in the background ignores SIGINT, under nohup SIGHUP too, and so would the processes
# that tests start, though they are to be interrupted. A handler that does nothing is as good here, and isn't passed on:
# a program begins with the signals ignored that were, and with the default for those that were handled (execve(2)).
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda number, frame: None)

WHY_NO_KVM = _why_not()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not WHY_NO_KVM:
        return
    for item in items:
        if item.get_closest_marker("kvm") or "kvm_backend" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason=WHY_NO_KVM))


@pytest.fixture(params=["kvm", "soft"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn: /dev/kvm (skipped, with the reason, where it can't be used) and soft."""
    if request.param == "kvm" and WHY_NO_KVM:
        pytest.skip(WHY_NO_KVM)
    return choose(request.param).backend


@pytest.fixture
def kvm_backend() -> Backend:
    """The real device; the test is skipped, with the reason, where it can't be used."""
    return choose("kvm").backend


Spawn = Callable[..., "subprocess.Popen[Any]"]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """`subprocess.Popen`, whose process is killed at the end of the test if it hasn't ended."""
    processes: list[subprocess.Popen[Any]] = []

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[Any]:
        processes.append(subprocess.Popen(*arguments, **options))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        with process:  # closes its pipes, and waits for it
            pass
