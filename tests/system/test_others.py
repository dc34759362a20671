"""Kernels that are not Linux: memtest86+, and a multiboot kernel of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from minivmm import guests
from minivmm.kvm import host

from .conftest import Minivmm, Talk, missing


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
    with Talk(memtest, "--accel", accel, "--memory", "32", "--append", "console=ttyS0,115200") as guest:
        guest.expect("Memtest86+")
        guest.expect("Pass")


@pytest.mark.parametrize("accel", ["kvm"])
def test_kvm_pvm_says_that_linux_is_not_for_it(accel: str, cloud_kernel: Path, minivmm: Minivmm) -> None:
    if not host.look().is_pvm:
        pytest.skip("this host's KVM is not kvm_pvm")
    done = minivmm(cloud_kernel, "--accel", accel)
    assert done.code == 2
    assert "--accel soft" in done.err
