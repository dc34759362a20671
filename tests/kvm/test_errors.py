"""Errors name the call, the errno, the cause and the remedy; each case of a host without KVM has its own."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from minivmm.accel import choose
from minivmm.kvm import (
    KVM_CREATE_VM,
    KVM_GET_API_VERSION,
    KVM_RUN,
    KVM_SET_USER_MEMORY_REGION,
    KvmBackend,
    KvmError,
    ioctl,
)
from minivmm.kvm.errors import failure
from minivmm.kvm.host import Host, look, remedy

BARE = Host("Linux", "x86_64", "vmx", False, False, "", ("kvm", "kvm_intel"), "Y", "absent", "kvm")


def test_an_error_names_call_code_and_remedy() -> None:
    text = str(failure(KVM_SET_USER_MEMORY_REGION, errno.EEXIST))
    assert text.startswith("KVM_SET_USER_MEMORY_REGION failed: EEXIST")
    assert "overlaps another slot" in text
    assert "VirtualBox" in str(failure(KVM_CREATE_VM, errno.EBUSY))
    assert "after fork()" in str(failure(KVM_RUN, errno.EIO))
    assert "ioctl 0x1234 failed: EPERM" in str(failure(0x1234, errno.EPERM))


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (replace(BARE, device="forbidden", group="kvm"), "usermod -aG kvm"),
        (replace(BARE, device="forbidden", group=""), "no group may"),
        (replace(BARE, extension="", under_hypervisor=True), "nested virtualization"),
        (replace(BARE, extension=""), "firmware set-up"),
        (BARE, "modprobe kvm_intel"),
        (replace(BARE, extension="svm"), "modprobe kvm_amd"),
        (replace(BARE, container="docker"), "--device /dev/kvm"),
        (replace(BARE, wsl=True), "nestedVirtualization=true"),
        (replace(BARE, system="Darwin"), "this is Darwin"),
        (replace(BARE, machine="aarch64"), "this host is aarch64"),
        (replace(BARE, device="broken"), "not a device file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_host_has_its_remedy(host: Host, words: str) -> None:
    assert words in remedy(host)


def test_a_usable_device_needs_no_remedy() -> None:
    assert remedy(replace(BARE, device="ok")) == ""


def test_the_facts_are_read_from_the_tree(tmp_path: Path) -> None:
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu svm hypervisor\n")
    (tmp_path / "proc/sys/kernel/osrelease").write_text("5.15.90.1-microsoft-standard-WSL2\n")
    (tmp_path / "sys/module/kvm_amd/parameters").mkdir(parents=True)
    (tmp_path / "sys/module/kvm_amd/parameters/nested").write_text("1\n")
    (tmp_path / ".dockerenv").touch()
    host = look(tmp_path)
    assert (host.extension, host.under_hypervisor, host.wsl) == ("svm", True, True)
    assert (host.container, host.kvm_modules, host.nested, host.device) == ("docker", ("kvm_amd",), "1", "absent")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/kvm").touch()
    assert look(tmp_path).device == "broken"


def test_a_missing_device_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(KvmError) as caught:
        KvmBackend(str(tmp_path / "kvm")).open()
    assert caught.value.errno == errno.ENOENT
    assert "No such file" in str(caught.value)


def test_something_else_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kvm").touch()
    with pytest.raises(KvmError, match="doesn't answer as KVM"):
        KvmBackend(str(tmp_path / "kvm")).open()


def test_an_ioctl_on_a_closed_handle() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(KvmError, match="closed, or it is not a handle of this kind"):
        ioctl(reader, KVM_GET_API_VERSION)


def test_the_chooser_says_why_not() -> None:
    with pytest.raises(ValueError, match="auto, kvm, soft"):
        choose("xen")
