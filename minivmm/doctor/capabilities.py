"""What KVM says of itself (KVM_CHECK_EXTENSION), as far as a VMM like this one makes use of it.

Source: KVM API 4.4 KVM_CHECK_EXTENSION; each capability in sections 6 to 8.
"""

from __future__ import annotations

from dataclasses import dataclass

from minivmm.kvm import constants as k
from minivmm.vm import Vm

USED = {
    "KVM_CAP_USER_MEMORY": "memory slots",
    "KVM_CAP_NR_MEMSLOTS": "memory slots a VM may have",
    "KVM_CAP_READONLY_MEM": "read-only slots (ROM)",
    "KVM_CAP_NR_VCPUS": "vCPUs a VM should have at most",
    "KVM_CAP_MAX_VCPUS": "vCPUs a VM may have",
    "KVM_CAP_IMMEDIATE_EXIT": "stopping KVM_RUN without a race",
    "KVM_CAP_SYNC_REGS": "registers in the shared page",
    "KVM_CAP_SET_GUEST_DEBUG": "breakpoints and single steps",
    "KVM_CAP_VCPU_EVENTS": "pending exceptions and interrupts",
    "KVM_CAP_X86_USER_SPACE_MSR": "MSRs answered in userspace",
    "KVM_CAP_IRQCHIP": "interrupt controllers in the kernel",
    "KVM_CAP_SPLIT_IRQCHIP": "LAPIC in the kernel, the rest in userspace",
    "KVM_CAP_PIT2": "timer chip in the kernel",
    "KVM_CAP_IRQFD": "interrupts by eventfd",
    "KVM_CAP_IOEVENTFD": "port and MMIO writes by eventfd",
    "KVM_CAP_SIGNAL_MSI": "message-signalled interrupts",
    "KVM_CAP_COALESCED_MMIO": "MMIO writes in batches",
    "KVM_CAP_COALESCED_PIO": "port writes in batches",
    "KVM_CAP_DIRTY_LOG_RING": "dirty pages in a ring",
    "KVM_CAP_TSC_DEADLINE_TIMER": "LAPIC timer in TSC-deadline mode",
    "KVM_CAP_ADJUST_CLOCK": "kvmclock saved and restored",
    "KVM_CAP_STEAL_TIME": "time stolen from the guest",
    "KVM_CAP_XSAVE": "FPU and vector state saved and restored",
    "KVM_CAP_MP_STATE": "state of an application processor",
    "KVM_CAP_NESTED_STATE": "guests that run VMs themselves",
}


@dataclass(frozen=True)
class Capability:
    """One line of the table; `value` is 0 where the host lacks it."""

    name: str
    value: int
    meaning: str


def capabilities(vm: Vm) -> tuple[Capability, ...]:
    """What this host's KVM offers, in the order of USED."""
    return tuple(Capability(name, vm.has_cap(getattr(k, name)), meaning) for name, meaning in USED.items())
