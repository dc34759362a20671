"""The FADT: where ACPI's fixed hardware lies, and what else of a PC a kernel may count on.

Source: ACPI specification 6.3, "Fixed ACPI Description Table (FADT)" and "IA-PC Boot Architecture Flags".
"""

from __future__ import annotations

import struct

from minivmm.boot.sdt import HEADER, sdt

PM1A_EVT, PM1A_CNT, PM_TMR, GPE0 = 0x600, 0x604, 0x608, 0x620
RESET_PORT, RESET_VALUE, SCI_IRQ, S5_TYPE = 0xCF9, 6, 9, 5

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
        (46, "H", (SCI_IRQ,)),
        (56, "I", (PM1A_EVT,)),
        (64, "I", (PM1A_CNT,)),
        (76, "II", (PM_TMR, GPE0)),
        (88, "BBBBB", (4, 2, 0, 4, 4)),  # lengths in bytes: PM1 event, PM1 control, PM2, timer, GPE0
        (96, "HH", (NONE, NONE)),  # C2, C3
        (108, "B", (CENTURY,)),
        (109, "H", (architecture,)),
        (112, "I", (flags,)),
        (116, "12s", (_port(RESET_PORT, 1),)),
        (128, "B", (RESET_VALUE,)),
        (140, "Q", (dsdt,)),
        (148, "12s", (_port(PM1A_EVT, 4, access=2),)),
        (172, "12s", (_port(PM1A_CNT, 2),)),
        (208, "12s", (_port(PM_TMR, 4),)),
        (220, "12s", (_port(GPE0, 4, access=1),)),
        (268, "8s", (b"MINIVMM\0",)),
    ]
    table = bytearray(SIZE)
    for offset, form, values in fields:
        struct.pack_into("<" + form, table, offset, *values)
    return sdt("FACP", 6, bytes(table[HEADER.size :]))


def _port(address: int, size: int, *, access: int | None = None) -> bytes:
    """Generic Address Structure for a register block of `size` bytes in port space, read `access` bytes at a time."""
    width = {1: 1, 2: 2, 4: 3}[access or size]
    return struct.pack("<BBBBQ", 1, 8 * size, 0, width, address)
