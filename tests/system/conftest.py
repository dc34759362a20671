"""What the tests with real systems share: kernels, an initial RAM disk, and a run of `minivmm` to its end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from minivmm.accel import LINUX, NoBackendError, choose

ROOT = Path(__file__).parents[2]
RUN = (sys.executable, "-c", "from minivmm.cli import main; main()", "run")
IN_BOX = "MINIVMM_BOX" in os.environ
PATIENCE = 400  # seconds: a whole boot on a busy machine, twice


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "system: boots a real operating system; takes seconds, and Debian's packages")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("system")


def missing(what: str, packages: str) -> None:
    """Skips the test, or fails it where nothing may be missing."""
    text = f"there is no {what} here: apt install {packages}"
    pytest.fail(text) if "MINIVMM_NO_SKIP" in os.environ else pytest.skip(text)


@pytest.fixture(params=["soft", "kvm"])
def accel(request: pytest.FixtureRequest) -> str:
    """A backend that a stock kernel boots on. The box has a KVM, and no time for soft."""
    name: str = request.param
    if name == "soft" and IN_BOX:
        pytest.skip("soft is tested outside the box")
    try:
        choose(name, (LINUX,))
    except NoBackendError as error:
        pytest.skip(str(error))
    return name


def newest(pattern: str, packages: str, but: str = "\0") -> Path:
    """The newest kernel that fits."""
    found = [file for file in Path("/boot").glob(pattern) if but not in file.name]
    if not found:
        missing(pattern, packages)
    return max(found, key=lambda file: [int(number) for number in re.findall(r"\d+", file.name)])


@pytest.fixture
def cloud_kernel() -> Path:
    return newest("vmlinuz-*-cloud-amd64", "linux-image-cloud-amd64")


@pytest.fixture
def standard_kernel() -> Path:
    return newest("vmlinuz-*-amd64", "linux-image-amd64", but="-cloud-")


@dataclass
class Done:
    """How a run ended, and what it said. `lines` are those of the guest's terminal."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.replace("\r", "").splitlines()


Minivmm = Callable[..., Done]


@pytest.fixture
def minivmm() -> Minivmm:
    """`minivmm run` with these arguments; `typed` is what the guest finds on its terminal."""

    def run(*arguments: str | Path, typed: str = "") -> Done:
        command = [*RUN, *map(str, arguments), "--timeout", str(PATIENCE / 2)]
        done = subprocess.run(command, input=typed.encode(), capture_output=True, timeout=PATIENCE, check=False)
        return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    return run


class Talk:
    """A `minivmm run` that is talked to while it runs. A context manager; `seen` is all that it has said."""

    def __init__(self, *arguments: str | Path) -> None:
        command = [*RUN, *map(str, arguments), "--timeout", str(PATIENCE / 2)]
        self.seen = ""
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def expect(self, text: str) -> None:
        """Waits until it has said `text`, and forgets what came up to there."""
        assert self._child.stdout is not None
        while text not in self.seen:
            data = self._child.stdout.read1(4096)
            assert data, f"it ended without saying {text!r}:\n{self.seen[-2000:]}"
            self.seen += data.decode(errors="replace")
        self.seen = self.seen.partition(text)[2]

    def type(self, text: str) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(text.encode())
        self._child.stdin.flush()

    def ended(self) -> int:
        """Waits for the end: the exit code."""
        out, _ = self._child.communicate(timeout=PATIENCE)
        self.seen += out.decode(errors="replace")
        return self._child.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._child.kill()
        self._child.wait()


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[Path], Path]:
    """The initial RAM disk with a shell, for a kernel."""

    def make(kernel: Path) -> Path:
        out = tmp_path / "initrd"
        command = [sys.executable, ROOT / "tools" / "initramfs.py", out, "--kernel", kernel]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            missing(f"busybox ({made.stderr.strip()})", "busybox-static")
        return out

    return make
