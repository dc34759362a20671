"""Who gets an interrupt message: destinations, shorthands, lowest priority.

Source: Intel SDM vol. 3, "Determining IPI Destination", "Lowest Priority Delivery Mode".
"""

from __future__ import annotations

from minivmm.devices.msi import LOWEST, Message
from minivmm.soft.lapic import ALL, NO_SHORTHAND, OTHERS, SELF, LocalApic

X2APIC_BROADCAST = 0xFFFF_FFFF


def matches(apic: LocalApic, dest: int, logical: bool, from_cpu: bool) -> bool:
    """Whether a destination means `apic`. The 8-bit broadcast of an IOAPIC or an MSI is one in x2APIC mode too."""
    x2apic = apic.x2apic
    if dest == X2APIC_BROADCAST or (dest == 0xFF and not (x2apic and from_cpu)):
        return True
    if not logical:
        # Nobody could address an xAPIC whose number has more than 8 bits; KVM takes its full number, and so do we.
        return dest == (apic.identity if x2apic or apic.identity > 0xFF else apic.xapic_id)
    mine = apic.logical_id
    if x2apic:  # a cluster, and one bit for each of its 16 processors
        return dest >> 16 == mine >> 16 and dest & mine & 0xFFFF != 0
    mine >>= 24
    if apic.dfr >> 28 == 0xF:  # flat model: one bit a processor
        return dest & mine != 0
    return dest >> 4 == mine >> 4 and dest & mine & 0xF != 0  # cluster model


def receivers(
    apics: list[LocalApic], message: Message, source: LocalApic | None = None, shorthand: int = NO_SHORTHAND
) -> list[LocalApic]:
    """The APICs that `message` is for, those that are switched off left out."""
    if shorthand == SELF:
        found = [source] if source is not None else []
    elif shorthand in (ALL, OTHERS):
        found = [apic for apic in apics if shorthand == ALL or apic is not source]
    else:
        from_cpu = source is not None
        found = [apic for apic in apics if matches(apic, message.dest, message.logical, from_cpu)]
    found = [apic for apic in found if apic.enabled]
    if message.delivery_mode == LOWEST:
        # The lowest processor priority wins; among equals, whoever was chosen least often.
        ready = [apic for apic in found if apic.software_enabled]
        found = [min(ready, key=lambda apic: (apic.ppr >> 4, apic.taken, apic.identity))] if ready else []
        for chosen in found:
            chosen.taken += 1
    return found
