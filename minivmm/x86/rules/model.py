"""What a broken rule looks like to the person who broke it."""

from __future__ import annotations

from typing import Literal, NamedTuple

Severity = Literal["error", "advice"]

# Titles, not numbers: Intel renumbers the sections of its manual from edition to edition, but keeps their titles.
ENTRY_CONTROL = 'SDM vol. 3, "Checks on Guest Control Registers, Debug Registers, and MSRs"'
ENTRY_SEGMENTS = 'SDM vol. 3, "Checks on Guest Segment Registers"'
ENTRY_TABLES = 'SDM vol. 3, "Checks on Guest Descriptor-Table Registers"'
ENTRY_RIP = 'SDM vol. 3, "Checks on Guest RIP, RFLAGS, and SSP"'
CONTROL = 'SDM vol. 3, "Control Registers"'
IA32E = 'SDM vol. 3, "Initializing IA-32e Mode"'
REAL = 'SDM vol. 3, "Real-Address Mode"'
DESCRIPTORS = 'SDM vol. 3, "Segment Descriptors"'
KVM_SREGS = "KVM API, KVM_SET_SREGS"


class Rule(NamedTuple):
    """A rule that a CPU state breaks.

    An "error" makes KVM refuse the state, or the processor refuse to enter it, or describes no CPU that can be. An
    "advice" is legal and probably not what was meant. `sentence` says what is wrong and what to do about it.
    """

    name: str
    sentence: str
    source: str
    severity: Severity = "error"

    def __str__(self) -> str:
        return f"{self.name}: {self.sentence} ({self.source})"
