"""Which backend answers the KVM API: the choice, and the reason for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from minivmm.kvm import host
from minivmm.kvm.device import KvmBackend
from minivmm.kvm.errors import KvmError
from minivmm.kvm.seam import Backend

ACCELERATORS = ("auto", "kvm", "soft")
LINUX = "linux"  # what a stock kernel needs: a KVM on a processor's own virtualization
PVM = "this host's KVM (kvm_pvm) interprets everything but 64-bit user mode, and no stock kernel boots on it"


class NoBackendError(RuntimeError):
    """No backend can serve what was asked for; the text says why and what to do."""


@dataclass(frozen=True)
class Choice:
    """A backend that opens, and the sentence that says why it was taken."""

    backend: Backend
    reason: str


def choose(accel: str = "auto", needs: Iterable[str] = (), *, counting: bool = False) -> Choice:
    """The backend for `accel`, one of ACCELERATORS (else ValueError). Raises NoBackendError where it can't be had.

    "auto" takes KVM where it has what the guest `needs` (probes by name, as in guest.toml; LINUX for a kernel), else
    soft. `counting` asks for time that is counted in instructions, which only soft has.
    """
    if accel not in ACCELERATORS:
        raise ValueError(f"--accel takes one of {', '.join(ACCELERATORS)}, not {accel!r}")
    if accel == "soft":
        return Choice(soft(counting=counting), "asked for")
    if counting:
        return _without_kvm(accel, "only soft can count time in instructions", counting=True)
    probes = set(needs)
    if LINUX in probes and host.look().is_pvm:
        return _without_kvm(accel, PVM)
    probes.discard(LINUX)
    if accel == "kvm":
        return Choice(_kvm(), "asked for")
    try:
        backend = _kvm()
    except NoBackendError as error:
        return Choice(_soft_instead(error), f"{what_is_wrong()}, so guests run without hardware")
    if missing := _missing(frozenset(probes)):
        return Choice(soft(), f"this host's KVM does not have what the guest needs: {missing}")
    return Choice(backend, "/dev/kvm is there and answers")


def _without_kvm(accel: str, why: str, *, counting: bool = False) -> Choice:
    """Soft, where KVM would not do. Raises NoBackendError for who wants KVM all the same."""
    if accel == "kvm":
        raise NoBackendError(f"KVM won't do: {why}. Use --accel soft.")
    return Choice(soft(counting=counting), why)


def _kvm() -> Backend:
    backend = KvmBackend()
    try:
        backend.close(backend.open())
    except KvmError as error:
        raise NoBackendError(str(error)) from None
    return backend


def soft(*, counting: bool = False) -> Backend:
    """The backend without hardware. Raises NoBackendError where its engine is missing or not the one that it knows."""
    from minivmm.soft.backend import SoftBackend  # only now: it loads an emulator

    backend = SoftBackend(counting=counting)
    try:
        backend.close(backend.open())
    except KvmError as error:
        raise NoBackendError(error.remedy) from None
    return backend


def _soft_instead(why_not_kvm: NoBackendError) -> Backend:
    try:
        return soft()
    except NoBackendError as error:
        raise NoBackendError(f"{why_not_kvm} And without it: {error}") from None


def what_is_wrong() -> str:
    """Why KVM can't be had here, in a few words."""
    words = {"absent": "there is no /dev/kvm", "forbidden": "/dev/kvm may not be opened"}
    return words.get(host.look().device, "/dev/kvm does not serve")


@cache
def _missing(probes: frozenset[str]) -> str:
    """Which of `probes` this host's KVM fails, in words; found out by running them."""
    if not probes:
        return ""
    from minivmm.doctor.guest_probes import guest_probes

    results = [probe.run(KvmBackend()) for probe in guest_probes() if probe.name in probes]
    return ", ".join(result.title for result in results if result.status == "failed")
