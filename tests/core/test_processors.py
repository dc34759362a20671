"""What CPUID tells a guest that it runs on."""

from __future__ import annotations

from typing import Any

import pytest

from minivmm.kvm import ioctls
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine
from minivmm.soft.backend import SoftBackend

HYPERVISOR = 1 << 31


class Forgetful:
    """A backend whose KVM_GET_SUPPORTED_CPUID leaves the bit out, as upstream's does. Keeps what vCPUs are told."""

    def __init__(self) -> None:
        self._backend = SoftBackend()
        self.told: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        result = self._backend.ioctl(fd, request, argument)
        if request in (ioctls.KVM_GET_SUPPORTED_CPUID, ioctls.KVM_SET_CPUID2):
            for entry in argument.entries[0 : argument.nent]:
                if entry.function == 1 and request == ioctls.KVM_SET_CPUID2:
                    self.told.append(entry.ecx & HYPERVISOR)
                elif entry.function == 1:
                    entry.ecx &= ~HYPERVISOR
        return result


@pytest.mark.parametrize("irqchip", ["none", "kernel", "split", "user"])
def test_a_guest_is_told_that_it_is_one(irqchip: str) -> None:
    """A guest that doesn't see the bit never looks for kvmclock."""
    backend: Backend = Forgetful()  # type: ignore[assignment]
    with Machine(1 << 20, backend, irqchip=irqchip) as machine:
        assert [entry["ecx"] & HYPERVISOR for entry in machine.vm.supported_cpuid() if entry["function"] == 1] == [
            HYPERVISOR
        ]
    assert backend.told == [HYPERVISOR]  # type: ignore[attr-defined]
