"""KVM_CHECK_EXTENSION: true answers, and the kernel's own way of giving them."""

from __future__ import annotations

import pytest

from minivmm.kvm import constants as k
from minivmm.kvm import ioctls
from minivmm.kvm.seam import Backend
from minivmm.soft.capabilities import TABLE, check
from minivmm.soft.memory import MOST_SLOTS

# Capabilities whose answer is a size or a limit: ours may differ from the kernel's.
OWN_NUMBERS = {
    k.KVM_CAP_NR_VCPUS,
    k.KVM_CAP_MAX_VCPUS,
    k.KVM_CAP_MAX_VCPU_ID,
    k.KVM_CAP_ADJUST_CLOCK,  # flags
}


def names() -> dict[int, str]:
    return {number: name for name, number in vars(k).items() if name.startswith("KVM_CAP_")}


def test_what_is_not_in_the_table_is_not_there() -> None:
    others = set(names()) - set(TABLE)
    assert len(others) > 50
    assert [names()[number] for number in others if check(number)] == []
    assert check(100_000) == 0
    assert check(-1) == 0


def test_every_entry_says_yes_and_why() -> None:
    for number, answer in TABLE.items():
        assert check(number) == answer.value > 0, names()[number]
        assert answer.reason


def test_numbers_with_a_meaning() -> None:
    assert check(k.KVM_CAP_NR_MEMSLOTS) == MOST_SLOTS
    assert check(k.KVM_CAP_SYNC_REGS) == 0b111
    assert check(k.KVM_CAP_XSAVE2) == 4096
    assert check(k.KVM_CAP_NR_VCPUS) <= check(k.KVM_CAP_MAX_VCPUS) == 8
    assert check(k.KVM_CAP_SET_GUEST_DEBUG2) & k.KVM_GUESTDBG_USE_HW_BP


def test_what_cannot_be_is_not_promised() -> None:
    absent = ("IRQFD", "IOEVENTFD", "DIRTY_LOG_RING", "TSC_CONTROL", "MCE", "NESTED_STATE", "X86_SMM")
    assert [name for name in absent if check(getattr(k, f"KVM_CAP_{name}"))] == []


@pytest.mark.kvm
def test_the_kernel_knows_all_that_we_promise_and_counts_alike(kvm_backend: Backend) -> None:
    system = kvm_backend.open()
    try:
        for number, answer in TABLE.items():
            kernel = kvm_backend.ioctl(system, ioctls.KVM_CHECK_EXTENSION, number)
            assert kernel > 0, names()[number]
            if number not in OWN_NUMBERS:
                assert kernel == answer.value, names()[number]
    finally:
        kvm_backend.close(system)
