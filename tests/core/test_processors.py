"""What CPUID tells a guest that it runs on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from minivmm.machine.processors import set_up_cpuid

LEAF_1 = {"function": 1, "index": 0, "flags": 0, "eax": 0, "ebx": 0, "ecx": 0, "edx": 0}
HYPERVISOR = 1 << 31


@pytest.mark.parametrize("apics", [False, True])
def test_a_guest_is_told_that_it_is_one(apics: bool) -> None:
    """KVM_GET_SUPPORTED_CPUID leaves the bit out, and a guest that doesn't see it never looks for kvmclock."""
    told: list[Any] = []
    vm = SimpleNamespace(supported_cpuid=lambda: [dict(LEAF_1)], has_cap=lambda capability: 0)
    vcpu = SimpleNamespace(index=0, set_cpuid=told.extend)
    set_up_cpuid(vm, [vcpu], apics=apics)  # type: ignore[arg-type, list-item]
    assert [entry["ecx"] & HYPERVISOR for entry in told if entry["function"] == 1] == [HYPERVISOR]
