"""Kernels that are not Linux: memtest86+, and a multiboot kernel of our own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from minivmm import guests

from .conftest import PATIENCE, RUN, Minivmm, missing


def test_a_multiboot_kernel_halts(minivmm: Minivmm, tmp_path: Path) -> None:
    image, module = tmp_path / "kernel", tmp_path / "module"
    image.write_bytes(guests.load("multiboot-hello").patched(nonce=0x1234))
    module.write_bytes(b"a module")
    done = minivmm(image, "--append", "one two", "--initrd", module)
    assert done.code == 0, done.err
    assert done.lines[0].startswith("hello ")
    assert done.lines[-1] == "command one two"


def test_memtest86_begins_its_work(accel: str) -> None:
    memtest = Path("/boot/memtest86+x64.bin")
    if not memtest.exists():
        missing("memtest86+", "memtest86+")
    command = [*RUN, str(memtest), "--accel", accel, "--memory", "32", "--append", "console=ttyS0,115200"]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdout is not None
    seen = b""
    try:
        while b"Memtest86+" not in seen or b"Pass" not in seen:
            data = child.stdout.read1(4096)
            assert data, seen
            seen += data
    finally:
        child.kill()
        child.wait(PATIENCE)


@pytest.mark.parametrize("accel", ["kvm"])
def test_kvm_pvm_says_that_linux_is_not_for_it(accel: str, cloud_kernel: Path, minivmm: Minivmm) -> None:
    from minivmm.kvm import host

    if not host.look().is_pvm:
        pytest.skip("this host's KVM is not kvm_pvm")
    done = minivmm(cloud_kernel, "--accel", accel)
    assert done.code == 2
    assert "--accel soft" in done.err
