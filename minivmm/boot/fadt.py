"""The FADT: where ACPI's fixed hardware lies, and what else of a PC a kernel may count on.

Source: ACPI specification 6.3, "Fixed ACPI Description Table (FADT)" and "IA-PC Boot Architecture Flags".
"""

from __future__ import annotations

import struct

from minivmm.boot.sdt import HEADER, sdt
from minivmm.devices import acpi_pm

SIZE = 276
NONE = 0xFFFF  # a latency too long to be used: there is no such power state

# Fixed feature flags.
WBINVD = 1 << 0
PROC_C1 = 1 << 2
SLP_BUTTON = 1 << 5  # none as a fixed feature; the power button is one, for its flag (bit 4) is clear
FIX_RTC = 1 << 6  # the clock doesn't wake the machine through the fixed registers
TMR_VAL_EXT = 1 << 8  # the timer counts 32 bits
RESET_REG_SUP = 1 << 10

# IA-PC boot architecture flags: each saves Linux a search, or tells it that a search pays.
LEGACY_DEVICES = 1 << 0
I8042 = 1 << 1
NO_VGA = 1 << 2
NO_PCIE_ASPM = 1 << 4

CENTURY = 0x32  # the RTC's register for it


def fadt(facs: int, dsdt: int, *, keyboard: bool = True) -> bytes:
    """The table, revision 6. `facs` and `dsdt` are guest-physical addresses below 4 GiB; `keyboard`: is there an i8042?

    There is no SMI command port: the machine is in ACPI mode from the start.
    """
    architecture = LEGACY_DEVICES | NO_VGA | NO_PCIE_ASPM | (I8042 if keyboard else 0)
    flags = WBINVD | PROC_C1 | SLP_BUTTON | FIX_RTC | TMR_VAL_EXT | RESET_REG_SUP
    fields: list[tuple[int, str, tuple[int | bytes, ...]]] = [  # offset, format, values
        (36, "II", (facs, dsdt)),
        (46, "H", (acpi_pm.SCI_IRQ,)),
        (56, "I", (acpi_pm.PM1A_EVT,)),
        (64, "I", (acpi_pm.PM1A_CNT,)),
        (76, "II", (acpi_pm.PM_TMR, acpi_pm.GPE0)),
        (88, "BB", (acpi_pm.PM1A_EVT_LEN, acpi_pm.PM1A_CNT_LEN)),
        (91, "BB", (acpi_pm.PM_TMR_LEN, acpi_pm.GPE0_LEN)),
        (96, "HH", (NONE, NONE)),  # C2, C3
        (108, "B", (CENTURY,)),
        (109, "H", (architecture,)),
        (112, "I", (flags,)),
        (116, "12s", (_ports(acpi_pm.RESET_PORT, 1),)),
        (128, "B", (acpi_pm.RESET_VALUE,)),
        (140, "Q", (dsdt,)),
        # The same blocks again, in the form that ACPI 2.0 brought.
        (148, "12s", (_ports(acpi_pm.PM1A_EVT, acpi_pm.PM1A_EVT_LEN, access=2),)),
        (172, "12s", (_ports(acpi_pm.PM1A_CNT, acpi_pm.PM1A_CNT_LEN),)),
        (208, "12s", (_ports(acpi_pm.PM_TMR, acpi_pm.PM_TMR_LEN),)),
        (220, "12s", (_ports(acpi_pm.GPE0, acpi_pm.GPE0_LEN, access=1),)),
        (268, "8s", (b"MINIVMM\0",)),
    ]
    table = bytearray(SIZE)
    for offset, form, values in fields:
        struct.pack_into("<" + form, table, offset, *values)
    return sdt("FACP", 6, bytes(table[HEADER.size :]))


def _ports(address: int, size: int, *, access: int | None = None) -> bytes:
    """Generic Address Structure for a register block of `size` bytes in port space, read `access` bytes at a time."""
    width = {1: 1, 2: 2, 4: 3}[access or size]
    return struct.pack("<BBBBQ", 1, 8 * size, 0, width, address)
