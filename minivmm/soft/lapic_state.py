"""The state of a local APIC as KVM_GET_LAPIC and KVM_SET_LAPIC have it: the register page of an xAPIC.

In x2APIC mode the page keeps this form: the ID in bits 31:24, the ICR in two halves (KVM API 4.57, KVM_X2APIC_API).

Source: KVM API 4.57 KVM_GET_LAPIC, 4.58 KVM_SET_LAPIC.
"""

from __future__ import annotations

from minivmm.soft import lapic_registers as r
from minivmm.soft.lapic import ERROR, LocalApic

SIZE = 1024
VECTORS = (("isr", r.ISR), ("tmr", r.TMR), ("irr", r.IRR))


def get_lapic(apic: LocalApic) -> bytes:
    """The page. Whoever reads it advances the clock first, so that no expired timer is left in it."""
    page = bytearray(SIZE)

    def put(number: int, value: int) -> None:
        page[number << 4 : (number << 4) + 4] = (value & 0xFFFF_FFFF).to_bytes(4, "little")

    put(r.ID, (apic.identity & 0xFF if apic.x2apic else apic.xapic_id) << 24)
    put(r.ICR, apic.icr)
    put(r.ICR_HIGH, apic.icr >> 32)
    for number in (r.VERSION, r.TPR, r.PPR, r.LDR, r.DFR, r.SVR, r.ESR, r.INITIAL, r.CURRENT, r.DIVIDE):
        put(number, r.read_register(apic, number) or 0)
    for entry, value in enumerate(apic.lvt):
        put(r.LVT_FIRST + entry, value)
    for name, first in VECTORS:
        for word in range(8):
            put(first + word, getattr(apic, name) >> 32 * word)
    return bytes(page)


def set_lapic(apic: LocalApic, page: bytes) -> None:
    """Takes a page over. IA32_APIC_BASE says which mode it is for, so that is set first."""

    def get(number: int) -> int:
        return int.from_bytes(page[number << 4 : (number << 4) + 4], "little")

    if not apic.x2apic:
        apic.xapic_id = get(r.ID) >> 24
        apic.ldr = get(r.LDR) & 0xFF00_0000
    apic.tpr = get(r.TPR) & 0xFF
    apic.dfr = get(r.DFR) | 0x0FFF_FFFF
    apic.svr = get(r.SVR) & 0x3FF
    apic.esr = get(r.ESR)
    apic.errors = 0
    apic.icr = get(r.ICR_HIGH) << 32 | get(r.ICR)
    apic.lvt = [get(r.LVT_FIRST + entry) for entry in range(ERROR + 1)]
    for name, first in VECTORS:
        setattr(apic, name, sum(get(first + word) << 32 * word for word in range(8)))
    r.apply_timer_mode(apic)
    apic.timer.divide = get(r.DIVIDE) & 0xB
    apic.timer.resume(get(r.INITIAL), get(r.CURRENT))
    if apic.irr:
        apic.cpu.wake()
