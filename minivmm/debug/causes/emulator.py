"""Causes that lie in KVM's instruction emulator: it knows what operating systems use, not all that a processor has.

Source: KVM API, "5. The kvm_run structure", KVM_INTERNAL_ERROR_EMULATION; linux/arch/x86/kvm/emulate.c.
"""

from __future__ import annotations

from minivmm.debug.causes.fetch import stack_hole
from minivmm.debug.causes.model import Cause
from minivmm.debug.evidence import Evidence, kvm_bytes
from minivmm.debug.exceptions import first_exception
from minivmm.debug.vectors import UD
from minivmm.exits import InternalError, Shutdown
from minivmm.kvm import constants as k
from minivmm.x86.disassembly import instructions

INTERNAL = 'KVM API, "5. The kvm_run structure", KVM_EXIT_INTERNAL_ERROR'
EMULATOR = "linux/arch/x86/kvm/emulate.c"
ELSEWHERE = (
    "Use other instructions, or a host with VT-x or AMD-V to run the guest on; `minivmm doctor` says what runs here."
)


def lacks_instruction(evidence: Evidence) -> Cause | None:
    exit = evidence.exit
    if not isinstance(exit, InternalError) or exit.suberror != k.KVM_INTERNAL_ERROR_EMULATION:
        return None
    code = kvm_bytes(exit) or evidence.code(15)
    if not code:
        return None
    first = instructions(code, evidence.regs.rip, evidence.bits, 1)[0]
    if first.text == "(bad)":
        return Cause(
            f"The bytes {code[:4].hex(' ')} at {evidence.linear_rip:#x} are no {evidence.bits}-bit instruction.",
            "Check where the last jump went, and that the code is built for this mode.",
            INTERNAL,
        )
    shown = f"`{first.text}` at {evidence.linear_rip:#x}"
    if first.text.split()[0] in ("vmcall", "vmmcall"):
        return Cause(f"The guest made a hypercall ({shown}), and this KVM can't serve it.", ELSEWHERE, INTERNAL)
    if evidence.interpreted:
        return Cause(
            f"KVM's emulator lacks {shown}, and this host's KVM (kvm_pvm) interprets all code but 64-bit ring 3.",
            ELSEWHERE,
            EMULATOR,
        )
    return Cause(
        f"KVM had to emulate {shown} and its emulator lacks it, which happens where an instruction touches MMIO.",
        "Access devices with plain MOVs, and check that the address was meant to be outside RAM.",
        EMULATOR,
    )


def undefined_here(evidence: Evidence) -> Cause | None:
    """On kvm_pvm the emulator answers some valid instructions with #UD, and the guest dies of it if it has no IDT."""
    if not isinstance(evidence.exit, Shutdown) or not evidence.interpreted or evidence.vector != UD:
        return None
    instruction, raised = evidence.instruction(), first_exception(evidence)
    if instruction is None or raised is None or raised.vector != UD or not raised.remembered:
        return None
    return Cause(
        f"`{instruction.text}` at {evidence.linear_rip:#x} is a valid instruction, but this host's KVM (kvm_pvm) "
        "interprets all code but 64-bit ring 3, its emulator raised #UD (undefined instruction) for it, and the guest "
        "couldn't handle that.",
        ELSEWHERE,
        EMULATOR,
    )


def delivery_event(evidence: Evidence) -> Cause | None:
    exit = evidence.exit
    if not isinstance(exit, InternalError) or exit.suberror != k.KVM_INTERNAL_ERROR_DELIVERY_EV:
        return None
    hole = stack_hole(evidence)
    because = f": {hole}" if hole else ", most often because the IDT, GDT, TSS or stack lies outside RAM"
    return Cause(
        f"KVM could not deliver an interrupt or exception to the guest{because}.",
        "Put the IDT, the GDT, the TSS and the stack into memory slots.",
        INTERNAL,
    )


def exceptions_at_once(evidence: Evidence) -> Cause | None:
    exit = evidence.exit
    if not isinstance(exit, InternalError) or exit.suberror != k.KVM_INTERNAL_ERROR_SIMUL_EX:
        return None
    return Cause("KVM met a second exception while it delivered a first one, and gave up.", source=INTERNAL)


RULES = (lacks_instruction, undefined_here, delivery_event, exceptions_at_once)
