"""What a PC's firmware leaves in memory for the kernel that it starts. We have no firmware, so we write it.

Source: IBM PC/AT Technical Reference, "BIOS data area"; MultiProcessor Specification 1.4, "MP Floating Pointer
Structure" and ACPI specification, "Finding the RSDP on IA-PC Systems", for where kernels look.
"""

from __future__ import annotations

import struct
from contextlib import suppress

from minivmm.boot import layout
from minivmm.boot.acpi import acpi_tables
from minivmm.boot.errors import BadImageError
from minivmm.boot.mptable import mp_table
from minivmm.boot.placing import put
from minivmm.boot.platform import Platform
from minivmm.kvm.errors import KvmError
from minivmm.memory import GuestMemory
from minivmm.vcpu import Vcpu

EBDA_SEGMENT = 0x40E
BASE_MEMORY_KIB = 0x413
MTRR_DEF_TYPE = 0x2FF
MTRR_ENABLE, WRITE_BACK = 1 << 11, 6

RSDP = layout.BIOS_AREA  # where the ACPI tables begin


def install(memory: GuestMemory, platform: Platform) -> None:
    """Writes the BIOS data area, the MP table and the ACPI tables. Raises BadImageError where memory is too small."""
    put(memory, EBDA_SEGMENT, struct.pack("<H", layout.EBDA >> 4), "the BIOS data area")
    put(memory, BASE_MEMORY_KIB, struct.pack("<H", layout.EBDA >> 10), "the BIOS data area")
    if platform.apics:
        put(memory, layout.EBDA, mp_table(layout.EBDA, platform), "the MP table")
    tables = acpi_tables(RSDP, platform)
    if RSDP + len(tables) > layout.HIGH_MEMORY:
        raise BadImageError(f"The ACPI tables of {len(platform.devices)} devices don't fit below 1 MiB: use fewer.")
    put(memory, RSDP, tables, "the ACPI data")


def set_up_processor(vcpu: Vcpu) -> None:
    """Switches the caches on, as firmware does on every processor: all memory write-back, whatever is there.

    With the memory type registers off, all memory counts as uncacheable, and Linux does without large mappings and the
    page attribute table. A backend that has no such registers has no caches either. SDM vol. 3, "MTRR Feature
    Identification" and "IA32_MTRR_DEF_TYPE MSR".
    """
    with suppress(KvmError):
        vcpu.set_msr(MTRR_DEF_TYPE, MTRR_ENABLE | WRITE_BACK)
