"""The validator: which architectural rule does this CPU state break?

KVM_SET_SREGS answers a wrong state with EINVAL, and a state that KVM lets through but the processor does not ends in
KVM_EXIT_FAIL_ENTRY; neither names the rule. Asked before the ioctl, `broken_rules` does.

Source: SDM vol. 3, "Checks on the Guest State Area"; APM vol. 2, "Canonicalization and Consistency Checks"; what KVM
itself refuses: the control-register rules of KVM_SET_SREGS.
"""

from __future__ import annotations

from minivmm.x86.modes import VIRTUAL_8086, mode_of
from minivmm.x86.rules.control import control_rules
from minivmm.x86.rules.execution import execution_rules
from minivmm.x86.rules.model import Rule, Severity
from minivmm.x86.rules.segments import segment_rules
from minivmm.x86.state import RegsLike, SregsLike

__all__ = ["Rule", "Severity", "broken_rules", "errors"]


def broken_rules(sregs: SregsLike, regs: RegsLike | None = None, *, physical_bits: int = 52) -> list[Rule]:
    """Every rule that the state breaks, errors first; empty for a sound state.

    RIP and RFLAGS are judged where `regs` is given. `physical_bits` is the guest's MAXPHYADDR (CPUID 0x80000008,
    EAX bits 7 to 0); 52 is the most that any processor has.
    """
    if mode_of(sregs, regs) == VIRTUAL_8086 and regs is not None:
        # Virtual-8086 mode has segment rules of its own.
        found = [*control_rules(sregs, physical_bits), *execution_rules(sregs, regs)]
    else:
        found = [*control_rules(sregs, physical_bits), *segment_rules(sregs)]
        found += execution_rules(sregs, regs) if regs is not None else []
    return sorted(found, key=lambda rule: rule.severity != "error")


def errors(sregs: SregsLike, regs: RegsLike | None = None, *, physical_bits: int = 52) -> list[Rule]:
    """The broken rules that make the state impossible, without the advice."""
    return [rule for rule in broken_rules(sregs, regs, physical_bits=physical_bits) if rule.severity == "error"]
