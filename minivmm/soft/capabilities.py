"""KVM_CHECK_EXTENSION of the soft backend: what it does, and in a line each why, or what the number means.

What is not in the table is not there, and answers 0. Left out on purpose: DIRTY_LOG_RING and MANUAL_DIRTY_LOG_PROTECT2
(the bitmap does), IRQFD (somebody would have to wait for it), TSC_CONTROL (the TSC runs at 1 GHz), SMM, nested
virtualization, MCE.

Source: KVM API 4.4 KVM_CHECK_EXTENSION, and the section of each capability.
"""

from __future__ import annotations

from typing import NamedTuple

from minivmm.kvm import constants as k
from minivmm.soft import ioeventfd
from minivmm.soft.fpu import XSAVE_BYTES
from minivmm.soft.guest_debug import CONTROL_FLAGS
from minivmm.soft.irq_routing import MAX_ROUTES
from minivmm.soft.memory import MOST_SLOTS
from minivmm.soft.page import SYNCED

RECOMMENDED_VCPUS, MOST_VCPUS = 4, 8


class Answer(NamedTuple):
    """What KVM_CHECK_EXTENSION returns, and why."""

    value: int
    reason: str


TABLE: dict[int, Answer] = {
    # ---- memory ----
    k.KVM_CAP_USER_MEMORY: Answer(1, "KVM_SET_USER_MEMORY_REGION"),
    k.KVM_CAP_NR_MEMSLOTS: Answer(MOST_SLOTS, "the number of slots"),
    k.KVM_CAP_SYNC_MMU: Answer(1, "host memory may be remapped under a slot"),
    k.KVM_CAP_DESTROY_MEMORY_REGION_WORKS: Answer(1, "a slot of size 0 is gone"),
    k.KVM_CAP_JOIN_MEMORY_REGIONS_WORKS: Answer(1, "slots may be deleted and set anew as a larger one"),
    k.KVM_CAP_READONLY_MEM: Answer(1, "a write to a read-only slot is an MMIO exit"),
    k.KVM_CAP_SET_TSS_ADDR: Answer(1, "accepted; only VT-x needs the pages"),
    k.KVM_CAP_SET_IDENTITY_MAP_ADDR: Answer(1, "accepted; only VT-x needs the page"),
    k.KVM_CAP_COALESCED_MMIO: Answer(k.KVM_COALESCED_MMIO_PAGE_OFFSET, "the ring's place: pages behind kvm_run"),
    k.KVM_CAP_COALESCED_PIO: Answer(1, "zones of ports, too"),
    # ---- vCPUs ----
    k.KVM_CAP_NR_VCPUS: Answer(RECOMMENDED_VCPUS, "they share one engine's turn: more are slower"),
    k.KVM_CAP_MAX_VCPUS: Answer(MOST_VCPUS, "the most that were tried"),
    k.KVM_CAP_MAX_VCPU_ID: Answer(MOST_VCPUS, "vCPU IDs are APIC IDs"),
    k.KVM_CAP_MP_STATE: Answer(1, "KVM_GET_MP_STATE, KVM_SET_MP_STATE"),
    k.KVM_CAP_IMMEDIATE_EXIT: Answer(1, "kvm_run.immediate_exit makes KVM_RUN return EINTR"),
    k.KVM_CAP_HLT: Answer(1, "HLT is an exit without an irqchip, and waits with one"),
    k.KVM_CAP_INTERNAL_ERROR_DATA: Answer(1, "KVM_EXIT_INTERNAL_ERROR shows the instruction's bytes"),
    # ---- their state ----
    k.KVM_CAP_EXT_CPUID: Answer(1, "KVM_GET_SUPPORTED_CPUID, KVM_SET_CPUID2"),
    k.KVM_CAP_SYNC_REGS: Answer(SYNCED, "what can be shared in kvm_run"),
    k.KVM_CAP_VCPU_EVENTS: Answer(1, "KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS"),
    k.KVM_CAP_DEBUGREGS: Answer(1, "KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS"),
    k.KVM_CAP_XSAVE: Answer(1, "KVM_GET_XSAVE, KVM_SET_XSAVE: x87 and SSE"),
    k.KVM_CAP_XSAVE2: Answer(XSAVE_BYTES, "the size of struct kvm_xsave: there is no more state"),
    k.KVM_CAP_XCRS: Answer(1, "KVM_GET_XCRS, KVM_SET_XCRS"),
    k.KVM_CAP_X86_USER_SPACE_MSR: Answer(1, "an access that is refused, unknown or filtered may exit"),
    k.KVM_CAP_X86_MSR_FILTER: Answer(1, "KVM_X86_SET_MSR_FILTER"),
    # ---- debugging ----
    k.KVM_CAP_SET_GUEST_DEBUG: Answer(1, "single step, INT3, execution breakpoints"),
    k.KVM_CAP_SET_GUEST_DEBUG2: Answer(CONTROL_FLAGS, "the flags of KVM_SET_GUEST_DEBUG"),
    k.KVM_CAP_X86_ROBUST_SINGLESTEP: Answer(1, "a single step and the guest's own TF don't disturb each other"),
    # ---- interrupts ----
    k.KVM_CAP_IRQCHIP: Answer(1, "two 8259A, an IOAPIC, a local APIC for each vCPU"),
    k.KVM_CAP_SPLIT_IRQCHIP: Answer(1, "the local APICs alone"),
    k.KVM_CAP_IRQ_ROUTING: Answer(MAX_ROUTES, "KVM_SET_GSI_ROUTING: the number of GSIs"),
    k.KVM_CAP_IRQ_INJECT_STATUS: Answer(1, "KVM_IRQ_LINE_STATUS"),
    k.KVM_CAP_SIGNAL_MSI: Answer(1, "KVM_SIGNAL_MSI"),
    k.KVM_CAP_USER_NMI: Answer(1, "KVM_NMI"),
    k.KVM_CAP_ENABLE_CAP_VM: Answer(1, "KVM_ENABLE_CAP on a VM's handle"),
    k.KVM_CAP_CHECK_EXTENSION_VM: Answer(1, "KVM_CHECK_EXTENSION on a VM's handle, with the same answers"),
    # ---- time ----
    k.KVM_CAP_PIT2: Answer(1, "an 8254, and port 0x61 on request"),
    k.KVM_CAP_PIT_STATE2: Answer(1, "KVM_GET_PIT2, KVM_SET_PIT2"),
    k.KVM_CAP_REINJECT_CONTROL: Answer(1, "missed ticks of the PIT are made up for, or not"),
    k.KVM_CAP_TSC_DEADLINE_TIMER: Answer(1, "the local APIC's third timer mode"),
    k.KVM_CAP_GET_TSC_KHZ: Answer(1, "KVM_GET_TSC_KHZ: 1 GHz"),
    k.KVM_CAP_CLOCKSOURCE: Answer(1, "kvmclock"),
    k.KVM_CAP_ADJUST_CLOCK: Answer(k.KVM_CLOCK_TSC_STABLE, "KVM_GET_CLOCK, KVM_SET_CLOCK; the flags of the first"),
    k.KVM_CAP_NOP_IO_DELAY: Answer(1, "CPUID tells guests not to wait by writing to port 0x80"),
    k.KVM_CAP_STEAL_TIME: Answer(1, "how long a vCPU waited for its turn"),
}

if ioeventfd.AVAILABLE:
    TABLE |= {
        k.KVM_CAP_IOEVENTFD: Answer(1, "KVM_IOEVENTFD"),
        k.KVM_CAP_IOEVENTFD_NO_LENGTH: Answer(1, "… for writes of any size"),
        k.KVM_CAP_IOEVENTFD_ANY_LENGTH: Answer(1, "… in memory, too"),
    }


def check(capability: int) -> int:
    """The answer of KVM_CHECK_EXTENSION: 0 for what isn't there."""
    return TABLE[capability].value if capability in TABLE else 0
