"""Causes that the exit itself tells."""

from __future__ import annotations

from minivmm import exits
from minivmm.debug.causes.model import Cause
from minivmm.debug.evidence import Evidence
from minivmm.debug.vectors import name_of
from minivmm.x86 import msrs
from minivmm.x86.rules import errors

INVALID_GUEST_STATE = 33
ENTRY_FAILED = 1 << 31


def reset(evidence: Evidence) -> Cause | None:
    """AMD-V leaves no state behind a triple fault, so KVM gives the vCPU the one of a reset."""
    if not evidence.was_reset:
        return None
    return Cause(
        "The guest met an exception that it could not handle, a triple fault, but KVM has reset the vCPU since, so "
        "the registers no longer tell which.",
        "Look at the last exits for how far it came, or step through the guest from there.",
        'APM vol. 2, "Shutdown intercept"',
    )


def failed_entry(evidence: Evidence) -> Cause | None:
    exit = evidence.exit
    if not isinstance(exit, exits.FailEntry):
        return None
    if broken := errors(evidence.sregs, evidence.regs):
        return Cause(
            f"The processor refused the register state: {broken[0].sentence.rstrip('.')}.",
            "Correct the state before KVM_RUN; minivmm.x86.broken_rules(sregs, regs) checks all the rules.",
            broken[0].source,
        )
    invalid = exit.hardware_reason & ~ENTRY_FAILED == INVALID_GUEST_STATE and exit.hardware_reason & ENTRY_FAILED
    what = "calls the guest state invalid" if invalid else f"gives the reason {exit.hardware_reason:#x}"
    return Cause(
        f"The processor refused to enter the guest and {what}, though the state breaks no rule that is checked here.",
        "Compare the segment registers and control registers with a state that works, one by one.",
        'SDM vol. 3, "VM-Entry Failures During or After Loading Guest State"',
    )


def hypercall(evidence: Evidence) -> Cause | None:
    if not isinstance(evidence.exit, exits.Hypercall):
        return None
    return Cause(
        f"The guest made hypercall {evidence.exit.number}, and this machine serves none.",
        "Handle the Hypercall exit, or don't enable KVM_CAP_EXIT_HYPERCALL.",
        'KVM API, "5. The kvm_run structure", KVM_EXIT_HYPERCALL',
    )


def msr(evidence: Evidence) -> Cause | None:
    exit = evidence.exit
    if not isinstance(exit, exits.ReadMsr | exits.WriteMsr):
        return None
    verb = "read" if isinstance(exit, exits.ReadMsr) else "wrote"
    name = f"{msrs.name_of(exit.index)} ({exit.index:#x})" if exit.index in msrs.NAMES else f"MSR {exit.index:#x}"
    return Cause(
        f"The guest {verb} {name}, which is left to userspace, and this machine has no answer for it.",
        "Answer the exit with its value, or refuse it: the guest then gets #GP, as on hardware that lacks the MSR.",
        'KVM API, "5. The kvm_run structure", KVM_EXIT_X86_RDMSR',
    )


def debug(evidence: Evidence) -> Cause | None:
    if not isinstance(evidence.exit, exits.Debug):
        return None
    return Cause(
        f"The guest stopped at a breakpoint or a single step at {evidence.exit.pc:#x}, and nobody was debugging it.",
        "Switch guest debugging off (KVM_SET_GUEST_DEBUG with control 0), or handle the Debug exit.",
        "KVM API, KVM_SET_GUEST_DEBUG",
    )


def exception(evidence: Evidence) -> Cause | None:
    if not isinstance(evidence.exit, exits.GuestException):
        return None
    return Cause(
        f"KVM handed {name_of(evidence.exit.vector)}, error code {evidence.exit.error_code:#x}, to userspace instead "
        "of to the guest.",
        source='KVM API, "5. The kvm_run structure", KVM_EXIT_EXCEPTION',
    )


def memory_fault(evidence: Evidence) -> Cause | None:
    exit = evidence.exit
    if not isinstance(exit, exits.MemoryFault):
        return None
    return Cause(
        f"KVM could not get at the host memory behind guest-physical {exit.gpa:#x}.",
        "Keep the memory of every slot mapped for as long as the VM lives.",
        'KVM API, "5. The kvm_run structure", KVM_EXIT_MEMORY_FAULT',
    )


def system_event(evidence: Evidence) -> Cause | None:
    if not isinstance(evidence.exit, exits.SystemEvent):
        return None
    return Cause(
        f"The guest reported a {str(evidence.exit).removeprefix('system event: ')} to the platform.",
        source='KVM API, "5. The kvm_run structure", KVM_EXIT_SYSTEM_EVENT',
    )


def anything(evidence: Evidence) -> Cause:
    """The last rule: an exit that nobody handles, and that no other rule explains."""
    if isinstance(evidence.exit, exits.InternalError):
        return Cause(
            f"KVM gave up with internal error {evidence.exit.suberror}, and nothing in the guest's state says why.",
            "See the host's kernel log (dmesg) for a line of KVM's.",
            'KVM API, "5. The kvm_run structure", KVM_EXIT_INTERNAL_ERROR',
        )
    if isinstance(evidence.exit, exits.Shutdown):
        return Cause(
            "The guest met an exception that it could not handle, a triple fault, and nothing in its state says which.",
            "Step through the guest from the last exit on.",
            'SDM vol. 3, "Interrupt 8—Double Fault Exception (#DF)"',
        )
    meaning = f": {evidence.exit.meaning}" if isinstance(evidence.exit, exits.Rare) else ""
    return Cause(
        f"The machine got {evidence.exit.name}, which nothing here handles{meaning}.",
        "Handle this exit in the run loop, or don't enable the feature that makes KVM send it.",
        'KVM API, "5. The kvm_run structure"',
    )


RULES = (reset, failed_entry, hypercall, msr, debug, exception, memory_fault, system_event)
