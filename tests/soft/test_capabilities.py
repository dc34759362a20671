"""KVM_CHECK_EXTENSION: true answers, and the kernel's own way of giving them."""

from __future__ import annotations

import pytest

from minivmm.kvm import constants as k
from minivmm.kvm import ioctls
from minivmm.kvm.seam import Backend
from minivmm.soft import irq_ioctls, vcpu, vm
from minivmm.soft.capabilities import TABLE, check
from minivmm.soft.memory import MOST_SLOTS

# Capabilities whose answer is a size or a limit: ours may differ from the kernel's.
OWN_NUMBERS = {
    k.KVM_CAP_NR_VCPUS,
    k.KVM_CAP_MAX_VCPUS,
    k.KVM_CAP_MAX_VCPU_ID,
    k.KVM_CAP_ADJUST_CLOCK,  # flags
}


# The calls that a capability stands for, where there are any of its own.
CALLS = {
    k.KVM_CAP_USER_MEMORY: ("SET_USER_MEMORY_REGION", "GET_DIRTY_LOG"),
    k.KVM_CAP_SET_TSS_ADDR: ("SET_TSS_ADDR",),
    k.KVM_CAP_SET_IDENTITY_MAP_ADDR: ("SET_IDENTITY_MAP_ADDR",),
    k.KVM_CAP_COALESCED_MMIO: ("REGISTER_COALESCED_MMIO", "UNREGISTER_COALESCED_MMIO"),
    k.KVM_CAP_MP_STATE: ("GET_MP_STATE", "SET_MP_STATE"),
    k.KVM_CAP_EXT_CPUID: ("SET_CPUID2", "GET_CPUID2"),
    k.KVM_CAP_VCPU_EVENTS: ("GET_VCPU_EVENTS", "SET_VCPU_EVENTS"),
    k.KVM_CAP_DEBUGREGS: ("GET_DEBUGREGS", "SET_DEBUGREGS"),
    k.KVM_CAP_XSAVE: ("GET_XSAVE", "SET_XSAVE"),
    k.KVM_CAP_XCRS: ("GET_XCRS", "SET_XCRS"),
    k.KVM_CAP_X86_MSR_FILTER: ("X86_SET_MSR_FILTER",),
    k.KVM_CAP_SET_GUEST_DEBUG: ("SET_GUEST_DEBUG",),
    k.KVM_CAP_IRQCHIP: ("CREATE_IRQCHIP", "IRQ_LINE", "GET_IRQCHIP", "SET_IRQCHIP"),
    k.KVM_CAP_IRQ_ROUTING: ("SET_GSI_ROUTING",),
    k.KVM_CAP_IRQ_INJECT_STATUS: ("IRQ_LINE_STATUS",),
    k.KVM_CAP_SIGNAL_MSI: ("SIGNAL_MSI",),
    k.KVM_CAP_USER_NMI: ("NMI",),
    k.KVM_CAP_ENABLE_CAP_VM: ("ENABLE_CAP",),
    k.KVM_CAP_CHECK_EXTENSION_VM: ("CHECK_EXTENSION",),
    k.KVM_CAP_PIT2: ("CREATE_PIT2",),
    k.KVM_CAP_PIT_STATE2: ("GET_PIT2", "SET_PIT2"),
    k.KVM_CAP_REINJECT_CONTROL: ("REINJECT_CONTROL",),
    k.KVM_CAP_GET_TSC_KHZ: ("GET_TSC_KHZ",),
    k.KVM_CAP_ADJUST_CLOCK: ("GET_CLOCK", "SET_CLOCK"),
    k.KVM_CAP_IRQFD: ("IRQFD",),
    k.KVM_CAP_IOEVENTFD: ("IOEVENTFD",),
    k.KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: ("CLEAR_DIRTY_LOG",),
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


def test_a_capability_is_promised_where_its_calls_are_answered() -> None:
    answered = {*vm._IOCTLS, *vcpu._IOCTLS, *irq_ioctls._VM}
    for capability, calls in CALLS.items():
        there = [call for call in calls if getattr(ioctls, f"KVM_{call}") in answered]
        assert bool(check(capability)) == (there == list(calls)), (names()[capability], there)
        assert bool(check(capability)) == bool(there)


def test_numbers_with_a_meaning() -> None:
    assert check(k.KVM_CAP_NR_MEMSLOTS) == MOST_SLOTS
    assert check(k.KVM_CAP_SYNC_REGS) == 0b111
    assert check(k.KVM_CAP_XSAVE2) == 4096
    assert check(k.KVM_CAP_NR_VCPUS) <= check(k.KVM_CAP_MAX_VCPUS) == 8
    assert check(k.KVM_CAP_SET_GUEST_DEBUG2) & k.KVM_GUESTDBG_USE_HW_BP


def test_what_cannot_be_is_not_promised() -> None:
    absent = ("IRQFD", "DIRTY_LOG_RING", "TSC_CONTROL", "MCE", "NESTED_STATE", "X86_SMM")
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
