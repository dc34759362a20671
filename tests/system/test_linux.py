"""Debian's kernels, as they come, to a shell: processors, memory, disk, and power off."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Minivmm, Talk

MIB = 1 << 20
DISK = 8 * MIB

# What is typed. The shell echoes it, so each answer is of a form that the question hasn't.
QUESTIONS = """\
echo cpus:$(nproc):
echo memory:$(sed -n 's/MemTotal: *//p' /proc/meminfo):
echo disk:$(sha256sum < /dev/vda):
dd if=/dev/vda of=/dev/vda bs=1M count=2 seek=4 conv=fsync
echo random:$(dd if=/dev/hwrng bs=16 count=1 2>/dev/null | wc -c):
poweroff -f
"""


def answer(lines: list[str], name: str) -> str:
    found = [match[1] for line in lines if (match := re.match(rf"{name}:([^$]*):$", line))]
    assert found, "\n".join(lines[-30:])
    return found[0]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(random.Random(7).randbytes(DISK))
    return path


@pytest.mark.parametrize(
    ("kernel", "cpus", "irqchip"),
    [
        ("cloud_kernel", 1, "kernel"),
        ("cloud_kernel", 2, "kernel"),
        ("cloud_kernel", 2, "split"),
        ("cloud_kernel", 1, "user"),
        ("standard_kernel", 2, "kernel"),
    ],
)
def test_a_shell_that_does_what_is_typed(
    kernel: str,
    cpus: int,
    irqchip: str,
    accel: str,
    disk: Path,
    minivmm: Minivmm,
    shell: Callable[[Path], Path],
    request: pytest.FixtureRequest,
) -> None:
    image: Path = request.getfixturevalue(kernel)
    before = disk.read_bytes()
    done = minivmm(
        *(image, "--initrd", shell(image), "--disk", disk, "--accel", accel),
        *("--cpus", cpus, "--irqchip", irqchip, "--memory", 192, "--append", "console=ttyS0 panic=-1 quiet"),
        typed=QUESTIONS,
    )
    assert done.code == 0, done.err + done.out[-2000:]
    assert answer(done.lines, "cpus") == str(cpus)
    kib, unit = answer(done.lines, "memory").split()
    assert unit == "kB"
    assert 128 << 10 < int(kib) <= 192 << 10  # what the kernel keeps for itself is missing
    assert answer(done.lines, "disk").split()[0] == hashlib.sha256(before).hexdigest()
    assert answer(done.lines, "random") == "16"
    assert disk.read_bytes() == before[: 4 * MIB] + before[: 2 * MIB] + before[6 * MIB :]
    assert re.search(r"The guest was up after \d+\.\d+ s\.", done.err)


def test_a_shell_on_a_virtio_console(
    accel: str, cloud_kernel: Path, minivmm: Minivmm, shell: Callable[[Path], Path]
) -> None:
    """Its driver is a module: what the kernel says before comes by the 16550, all else by the device."""
    typed = "echo tty:$(tty):\necho writes:$(cat /proc/consoles | grep -c ttyS0):\npoweroff -f\n"
    done = minivmm(
        *(cloud_kernel, "--initrd", shell(cloud_kernel), "--accel", accel, "--console", "virtio"), typed=typed
    )
    assert done.code == 0, done.err + done.out[-2000:]
    assert answer(done.lines, "tty") == "/dev/hvc0"
    assert answer(done.lines, "writes") == "0"
    assert done.out.count("Linux version 6") == 1
    assert "console [hvc0] enabled" in done.out


def test_a_disk_that_is_read_only(
    accel: str, cloud_kernel: Path, disk: Path, minivmm: Minivmm, shell: Callable[[Path], Path]
) -> None:
    before = disk.read_bytes()
    done = minivmm(
        *(cloud_kernel, "--initrd", shell(cloud_kernel), "--disk", disk, "--disk-read-only", "--accel", accel),
        *("--append", "console=ttyS0 quiet"),
        typed="echo read-only:$(cat /sys/block/vda/ro):\necho hello > /dev/vda\npoweroff -f\n",
    )
    assert done.code == 0, done.err
    assert answer(done.lines, "read-only") == "1"
    assert disk.read_bytes() == before


def test_a_deterministic_session_leaves_the_same_trace_twice(
    accel: str, cloud_kernel: Path, disk: Path, minivmm: Minivmm, shell: Callable[[Path], Path], tmp_path: Path
) -> None:
    """A boot, a disk, and random numbers, which are the same, too."""
    if accel != "soft":
        pytest.skip("only soft counts time in instructions")
    trace, initrd = tmp_path / "trace.jsonl", shell(cloud_kernel)
    seen = []
    for _ in range(2):
        done = minivmm(
            *(cloud_kernel, "--initrd", initrd, "--disk", disk, "--accel", accel, "--append", "console=ttyS0 quiet"),
            *("--disk-read-only", "--deterministic", "--trace", trace),
            typed="echo disk:$(sha256sum < /dev/vda):\necho random:$(head -c 8 /dev/urandom | od -x):\npoweroff -f\n",
        )
        assert done.code == 0, done.err
        assert answer(done.lines, "disk").split()[0] == hashlib.sha256(disk.read_bytes()).hexdigest()
        assert "random:0000000" in done.out
        seen.append((done, trace.read_text()))
    assert seen[0] == seen[1]


def test_a_kernel_without_a_root_panics_and_resets(accel: str, cloud_kernel: Path, minivmm: Minivmm) -> None:
    done = minivmm(cloud_kernel, "--accel", accel)
    assert done.code == 0
    assert "Unable to mount root fs" in done.out
    assert "The guest asked for a reset" in done.err


def test_a_reset_starts_it_again_where_that_is_wanted(
    accel: str, cloud_kernel: Path, shell: Callable[[Path], Path]
) -> None:
    arguments = ("--initrd", shell(cloud_kernel), "--accel", accel, "--append", "console=ttyS0 quiet", "--reboot")
    with Talk(cloud_kernel, *arguments) as guest:
        guest.expect("minivmm# ")
        guest.type("reboot -f\n")
        guest.expect("minivmm# ")
        guest.type("poweroff -f\n")
        assert guest.ended() == 0
