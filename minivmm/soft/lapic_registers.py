"""The registers of a local APIC as the guest touches them: in memory (xAPIC), or as MSRs (x2APIC).

Both number them alike: register n is at n << 4 from the base, or MSR 0x800 + n. In memory a wrong access is ignored and
noted in ESR; as an MSR it is a #GP.

Source: Intel SDM vol. 3, "Local APIC Register Address Map", "x2APIC Register Address Space".
"""

from __future__ import annotations

from minivmm.soft.lapic import ESR_ILLEGAL_REGISTER, LVT_MASKED, SELF, SVR_ENABLED, TIMER, LocalApic
from minivmm.soft.lapic_timer import DEADLINE, ONE_SHOT

IA32_APIC_BASE, IA32_TSC_DEADLINE, X2APIC_FIRST, X2APIC_LAST = 0x1B, 0x6E0, 0x800, 0x8FF

ID, VERSION, TPR, ARBITRATION, PPR, EOI, REMOTE_READ, LDR, DFR, SVR = 0x2, 0x3, 0x8, 0x9, 0xA, 0xB, 0xC, 0xD, 0xE, 0xF
ISR, TMR, IRR, ESR, ICR, ICR_HIGH = 0x10, 0x18, 0x20, 0x28, 0x30, 0x31
LVT_FIRST, LVT_LAST, INITIAL, CURRENT, DIVIDE, SELF_IPI = 0x32, 0x37, 0x38, 0x39, 0x3E, 0x3F
VERSION_VALUE = 0x14 | 5 << 16  # integrated APIC; the highest LVT entry is number 5
XAPIC_ONLY = {ARBITRATION, REMOTE_READ, DFR, ICR_HIGH}
WRITE_ONLY = {EOI, SELF_IPI}
READ_ONLY = {VERSION, ARBITRATION, PPR, REMOTE_READ, CURRENT, *range(ISR, ESR)}
ICR_BUSY = 1 << 12
ICR_RESERVED = 0xFFF3_2000

# What each LVT entry keeps of a write. TIMER's mode bits are added where CPUID shows them.
_VECTOR, _MODE, _PIN = 0x1_10FF, 0x700, 0xE000
LVT_KEPT = (_VECTOR, _VECTOR | _MODE, _VECTOR | _MODE, _VECTOR | _MODE | _PIN, _VECTOR | _MODE | _PIN, _VECTOR)


def read_register(apic: LocalApic, number: int) -> int | None:
    """The value of a register, or None where there is none to read."""
    if ISR <= number < ESR:  # three sets of 256 bits, 32 a register
        vectors = (apic.isr, apic.tmr, apic.irr)[(number - ISR) >> 3]
        return vectors >> 32 * (number & 7) & 0xFFFF_FFFF
    if LVT_FIRST <= number <= LVT_LAST:
        return apic.lvt[number - LVT_FIRST]
    match number:
        case 0x2:  # ID
            return apic.identity if apic.x2apic else apic.xapic_id << 24
        case 0x3:  # VERSION
            return VERSION_VALUE
        case 0x8:  # TPR
            return apic.tpr
        case 0xA:  # PPR
            return apic.ppr
        case 0xD:  # LDR
            return apic.logical_id
        case 0xE:  # DFR
            return apic.dfr
        case 0xF:  # SVR
            return apic.svr
        case 0x28:  # ESR
            return apic.esr
        case 0x30:  # ICR: 64 bits as an MSR
            return apic.icr if apic.x2apic else apic.icr & 0xFFFF_FFFF
        case 0x31:  # ICR_HIGH
            return apic.icr >> 32
        case 0x38:  # INITIAL
            return apic.timer.initial
        case 0x39:  # CURRENT
            return apic.timer.current()
        case 0x3E:  # DIVIDE
            return apic.timer.divide
        case 0x9 | 0xC:  # ARBITRATION, REMOTE_READ: only older processors use them
            return 0
        case _:
            return None


def write_register(apic: LocalApic, number: int, value: int) -> bool:
    """Writes a register (32 bits; the ICR of x2APIC mode has 64). False where there is none to write."""
    match number:
        case 0x2 if not apic.x2apic:  # ID
            apic.xapic_id = value >> 24
        case 0x8:  # TPR
            apic.tpr = value & 0xFF
        case 0xB:  # EOI
            apic.end_of_interrupt()
        case 0xD if not apic.x2apic:  # LDR
            apic.ldr = value & 0xFF00_0000
        case 0xE:  # DFR
            apic.dfr = value | 0x0FFF_FFFF
        case 0xF:  # SVR
            apic.svr = value & 0x3FF
            if not value & SVR_ENABLED:  # "all LVT entries are masked, and stay so"
                apic.lvt = [entry | LVT_MASKED for entry in apic.lvt]
        case 0x28:  # ESR: a write shows what was gathered since the last
            apic.esr, apic.errors = apic.errors, 0
        case 0x30:  # ICR
            value &= ~ICR_BUSY
            apic.icr = value if apic.x2apic else apic.icr & ~0xFFFF_FFFF | value
            apic.send(value & 0xFFFF_FFFF, apic.icr >> (32 if apic.x2apic else 56))
        case 0x31:  # ICR_HIGH
            apic.icr = (value & 0xFF00_0000) << 32 | apic.icr & 0xFFFF_FFFF
        case 0x38:  # INITIAL
            apic.timer.set_initial(value)
        case 0x3E:  # DIVIDE
            apic.timer.set_divide(value)
        case 0x3F if apic.x2apic:  # SELF_IPI
            apic.send(SELF << 18 | value & 0xFF, 0)
        case _ if LVT_FIRST <= number <= LVT_LAST:
            _write_lvt(apic, number - LVT_FIRST, value)
        case _:
            return False
    return True


def _write_lvt(apic: LocalApic, entry: int, value: int) -> None:
    kept = LVT_KEPT[entry]
    if entry == TIMER:
        kept |= 0x6_0000 if apic.has_deadline else 0x2_0000
    apic.lvt[entry] = value & kept | (0 if apic.svr & SVR_ENABLED else LVT_MASKED)
    if entry == TIMER:
        apply_timer_mode(apic)


def apply_timer_mode(apic: LocalApic) -> None:
    """The timer follows bits 18:17 of its LVT entry. 0b11 is reserved, and one-shot here."""
    mode = apic.lvt[TIMER] >> 17 & 3
    apic.timer.set_mode(mode if mode <= DEADLINE else ONE_SHOT)


# ---- in memory ----


def mmio_read(apic: LocalApic, offset: int, size: int) -> int:
    """A read of the page of an xAPIC. Registers have 4 bytes, 16 bytes apart."""
    if not apic.enabled or apic.x2apic:
        return (1 << 8 * size) - 1  # nobody there
    value = None if offset >> 4 in WRITE_ONLY or offset & 0xF > 3 else read_register(apic, offset >> 4)
    if value is None:
        apic.report(ESR_ILLEGAL_REGISTER)
        return 0
    return value >> 8 * (offset & 3)


def mmio_write(apic: LocalApic, offset: int, size: int, value: int) -> None:
    """A write to the page of an xAPIC. "Must be 32 bits wide, on a 128-bit boundary": others are ignored."""
    if not apic.enabled or apic.x2apic or size != 4 or offset & 0xF:
        return
    number = offset >> 4
    if number not in READ_ONLY and not write_register(apic, number, value & 0xFFFF_FFFF):
        apic.report(ESR_ILLEGAL_REGISTER)


# ---- as MSRs ----


def has_msr(index: int) -> bool:
    """Whether MSR `index` is the APIC's: IA32_APIC_BASE, IA32_TSC_DEADLINE, 0x800–0x8FF."""
    return X2APIC_FIRST <= index <= X2APIC_LAST or index in (IA32_APIC_BASE, IA32_TSC_DEADLINE)


def read_msr(apic: LocalApic, index: int) -> int | None:
    """RDMSR. None: #GP(0)."""
    if index == IA32_APIC_BASE:
        return apic.base
    if index == IA32_TSC_DEADLINE:
        return apic.timer.deadline if apic.has_deadline else None
    number = index - X2APIC_FIRST
    return read_register(apic, number) if apic.x2apic and number not in XAPIC_ONLY | WRITE_ONLY else None


def write_msr(apic: LocalApic, index: int, value: int) -> bool:
    """WRMSR by the guest. False: #GP(0), and nothing changed."""
    if index == IA32_APIC_BASE:
        return apic.set_base(value, by_guest=True)
    if index == IA32_TSC_DEADLINE:
        if apic.has_deadline:
            apic.timer.set_deadline(value)
        return apic.has_deadline
    number = index - X2APIC_FIRST
    if not apic.x2apic or number in XAPIC_ONLY | READ_ONLY or value & _reserved(number):
        return False
    return write_register(apic, number, value)


def _reserved(number: int) -> int:
    # "Reserved bits must be 0", or the write is a #GP; the upper 32 bits are reserved in all but the ICR.
    if number in (EOI, ESR):
        return ~0
    if number in (TPR, SELF_IPI):
        return ~0xFF
    return ICR_RESERVED if number == ICR else ~0xFFFF_FFFF
