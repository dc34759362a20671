"""Which backend answers the KVM API: the choice, and the reason for it."""

from __future__ import annotations

from dataclasses import dataclass

from minivmm.kvm.device import KvmBackend
from minivmm.kvm.errors import KvmError
from minivmm.kvm.seam import Backend

ACCELERATORS = ("auto", "kvm", "soft")


class NoBackendError(RuntimeError):
    """No backend can serve what was asked for; the text says why and what to do."""


@dataclass(frozen=True)
class Choice:
    """A backend that opens, and the sentence that says why it was taken."""

    backend: Backend
    reason: str


def choose(accel: str = "auto") -> Choice:
    """The backend for `accel`, one of ACCELERATORS (else ValueError). Raises NoBackendError where it can't be had."""
    if accel not in ACCELERATORS:
        raise ValueError(f"--accel takes one of {', '.join(ACCELERATORS)}, not {accel!r}")
    if accel == "soft":
        return Choice(_soft(), "asked for")
    backend = KvmBackend()
    try:
        backend.close(backend.open())
    except KvmError as error:
        raise NoBackendError(str(error)) from None
    return Choice(backend, "asked for" if accel == "kvm" else "/dev/kvm is there and answers")


def _soft() -> Backend:
    from minivmm.soft.backend import SoftBackend  # only now: it loads an emulator

    backend = SoftBackend()
    try:
        backend.close(backend.open())
    except KvmError as error:
        raise NoBackendError(error.remedy) from None
    return backend
