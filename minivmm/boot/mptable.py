"""The MP table: the processors, the IOAPIC and its interrupts, for kernels that don't read ACPI tables.

Source: Intel MultiProcessor Specification 1.4, chapter 4 "MP Configuration Table".
"""

from __future__ import annotations

import struct

from minivmm.boot import layout
from minivmm.boot.platform import Platform
from minivmm.boot.sdt import with_checksum

PROCESSOR, BUS, IOAPIC, IO_INTERRUPT, LOCAL_INTERRUPT = range(5)  # entry types
INT, NMI, _, EXTINT = range(4)  # interrupt types
ENABLED, BOOTSTRAP = 1, 2
APIC_VERSION = 0x14
IOAPIC_VERSION = 0x11
IOAPIC_PINS = 24
ISA = 0  # the number of our only bus
EVERY_APIC = 0xFF
LINT0, LINT1 = 0, 1
SPEC_1_4 = 4


def mp_table(base: int, platform: Platform) -> bytes:
    """The floating pointer and, behind it, the table, to be put at guest-physical `base` (a multiple of 16).

    Interrupt n is pin n of the IOAPIC, as KVM routes it by default; those of virtio, from 16 on, are listed as ISA
    interrupts too, for this table knows no others than those of a bus.
    """
    entries = [_processor(cpu) for cpu in range(platform.cpus)]
    entries += [struct.pack("<BB6s", BUS, ISA, b"ISA   ")]
    entries += [struct.pack("<BBBBI", IOAPIC, platform.cpus, IOAPIC_VERSION, ENABLED, layout.IOAPIC)]
    # Flags of 0: polarity and trigger as the bus has them, which for ISA is active high, edge.
    entries += [
        struct.pack("<BBHBBBB", IO_INTERRUPT, INT, 0, ISA, pin, platform.cpus, pin) for pin in range(IOAPIC_PINS)
    ]
    entries += [struct.pack("<BBHBBBB", LOCAL_INTERRUPT, EXTINT, 0, ISA, 0, 0, LINT0)]
    entries += [struct.pack("<BBHBBBB", LOCAL_INTERRUPT, NMI, 0, ISA, 0, EVERY_APIC, LINT1)]
    pointer = struct.pack("<4sIBBB5s", b"_MP_", base + 16, 1, SPEC_1_4, 0, bytes(5))
    return with_checksum(pointer, 10) + _configuration(entries)


def _processor(cpu: int) -> bytes:
    flags = ENABLED | (BOOTSTRAP if cpu == 0 else 0)
    # Signature and features are for programs that can't ask CPUID; with these two, none has a reason to trust them.
    signature, features = 0x600, 0x201  # family 6; FPU and APIC
    return struct.pack("<BBBBII8x", PROCESSOR, cpu, APIC_VERSION, flags, signature, features)


def _configuration(entries: list[bytes]) -> bytes:
    body = b"".join(entries)
    header = struct.pack(
        "<4sHBB8s12sIHHIHBx", b"PCMP", 44 + len(body), SPEC_1_4, 0, b"MINIVMM ", b"MINIVMM".ljust(12),
        0, 0, len(entries), layout.LOCAL_APIC, 0, 0,
    )  # fmt: skip
    return with_checksum(header + body, 7)
