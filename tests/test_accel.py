"""Which backend is taken, and why."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from minivmm import accel
from minivmm.accel import NoBackendError, choose
from minivmm.kvm.errors import KvmError
from minivmm.kvm.host import Host
from minivmm.soft import library
from minivmm.soft.backend import SoftBackend


class NoKvm:
    """A /dev/kvm that isn't there."""

    def open(self) -> int:
        raise KvmError("open('/dev/kvm')", 2, "There is none.")

    def close(self, fd: int) -> None:
        raise AssertionError("nothing was opened")


class SomeKvm:
    """One that opens, and is never asked more."""

    name = "kvm"

    def open(self) -> int:
        return 3

    def close(self, fd: int) -> None:
        pass


@pytest.fixture
def no_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "KvmBackend", NoKvm)


@pytest.fixture
def some_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "KvmBackend", SomeKvm)
    accel._missing.cache_clear()


def test_kvm_where_it_answers(some_kvm: None) -> None:
    choice = choose("auto")
    assert (choice.backend.name, choice.reason) == ("kvm", "/dev/kvm is there and answers")


def test_soft_where_there_is_no_kvm(no_kvm: None) -> None:
    choice = choose("auto", ["long"])
    assert choice.backend.name == "soft"
    assert "guests run without hardware" in choice.reason


def test_kvm_itself_is_not_replaced(no_kvm: None) -> None:
    with pytest.raises(NoBackendError, match="There is none"):
        choose("kvm")


def test_soft_where_kvm_lacks_what_the_guest_needs(some_kvm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe `syscall` fails on this made-up KVM, `long` passes."""
    from minivmm.doctor import guest_probes
    from minivmm.doctor.probe import FailedError, Probe

    def fails(backend: object) -> str:
        raise FailedError("it hangs")

    probes = [Probe("long", "64-bit mode", lambda backend: "", ""), Probe("syscall", "SYSCALL", fails, "")]
    monkeypatch.setattr(guest_probes, "guest_probes", lambda: probes)
    assert choose("auto", ["long"]).backend.name == "kvm"
    choice = choose("auto", ["long", "syscall"])
    assert (choice.backend.name, choice.reason) == (
        "soft",
        "this host's KVM does not have what the guest needs: SYSCALL",
    )


@pytest.fixture
def pvm(some_kvm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = Host(
        system="Linux", machine="x86_64", extension="", under_hypervisor=True, wsl=False, container="",
        kvm_modules=("kvm", "kvm_pvm"), nested="", device="ok", group="",
    )  # fmt: skip
    monkeypatch.setattr(accel.host, "look", lambda: facts)


def test_no_kernel_on_kvm_pvm(pvm: None) -> None:
    choice = choose("auto", [accel.LINUX])
    assert choice.backend.name == "soft"
    assert "kvm_pvm" in choice.reason
    with pytest.raises(NoBackendError, match=r"kvm_pvm.*--accel soft"):
        choose("kvm", [accel.LINUX])
    assert choose("kvm").backend.name == "kvm"


def test_a_kernel_needs_no_probes(some_kvm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would cost start-up time, and KVM on hardware passes them."""
    monkeypatch.setattr(accel.host, "look", lambda: SimpleNamespace(is_pvm=False))
    monkeypatch.setitem(sys.modules, "minivmm.doctor.guest_probes", None)  # an import would fail
    assert choose("auto", [accel.LINUX]).backend.name == "kvm"


@pytest.mark.parametrize("name", ["auto", "soft"])
def test_time_is_counted_on_soft_only(some_kvm: None, name: str) -> None:
    backend = choose(name, counting=True).backend
    assert isinstance(backend, SoftBackend)
    assert backend.counting
    with pytest.raises(NoBackendError, match="--accel soft"):
        choose("kvm", counting=True)


def test_without_either_both_are_explained(no_kvm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "version", lambda loaded: "2.0.1")
    library.unicorn.cache_clear()
    try:
        from minivmm.soft import selfcheck

        selfcheck.layout.cache_clear()
        with pytest.raises(NoBackendError, match=r"There is none.*And without it.*found 2\.0\.1"):
            choose("auto")
    finally:
        library.unicorn.cache_clear()
        selfcheck.layout.cache_clear()


def test_an_accelerator_that_nobody_knows() -> None:
    with pytest.raises(ValueError, match="auto, kvm, soft"):
        choose("xen")
