"""The ACPI tables: RSDP → XSDT → FADT (→ FACS, DSDT) and MADT. As few as a kernel needs to find everything.

Source: ACPI specification 6.3, chapter 5 "ACPI Software Programming Model"; section titles below are its own.
"""

from __future__ import annotations

import struct

from minivmm.boot import aml, layout
from minivmm.boot.fadt import fadt
from minivmm.boot.platform import MmioDevice, Platform
from minivmm.boot.sdt import sdt, with_checksum
from minivmm.devices import acpi_pm

ENABLED = 1
PCAT_COMPAT = 1  # there are two 8259s as well, which a kernel must mask
ACTIVE_HIGH_LEVEL = 0x0D
EVERY_PROCESSOR = 0xFF
LINT1 = 1


def acpi_tables(base: int, platform: Platform) -> bytes:
    """All tables, as they go to guest-physical `base` (a multiple of 64). The RSDP comes first."""
    parts = bytearray(64)  # the RSDP has 36 bytes, and is written when the rest has its place

    def add(table: bytes) -> int:
        parts.extend(bytes(-len(parts) % 64))  # the FACS needs 64; the others don't mind
        parts.extend(table)
        return base + len(parts) - len(table)

    facs_at, dsdt_at = add(_facs()), add(_dsdt(platform))
    tables = [add(fadt(facs_at, dsdt_at, keyboard=platform.keyboard))]
    if platform.apics:
        tables.append(add(_madt(platform)))
    xsdt_at = add(sdt("XSDT", 1, struct.pack(f"<{len(tables)}Q", *tables)))
    parts[:36] = _rsdp(xsdt_at)
    return bytes(parts)


def _rsdp(xsdt: int) -> bytes:
    """Root System Description Pointer: its first checksum covers what ACPI 1.0 knew, the other all 36 bytes."""
    old = with_checksum(struct.pack("<8sB6sBI", b"RSD PTR ", 0, b"MINVMM", 2, 0), 8)
    return with_checksum(old + struct.pack("<IQB3x", 36, xsdt, 0), 32)


def _facs() -> bytes:
    """Firmware ACPI Control Structure: a waking address and a lock that nobody here will use. It has no checksum."""
    return struct.pack("<4sIIIIIQB31x", b"FACS", 64, 0, 0, 0, 0, 0, 2)


def _madt(platform: Platform) -> bytes:
    """Multiple APIC Description Table: the same processors and IOAPIC as the MP table's."""
    entries = [struct.pack("<BBBBI", 0, 8, cpu, cpu, ENABLED) for cpu in range(platform.cpus)]
    entries.append(struct.pack("<BBBxII", 1, 12, platform.cpus, layout.IOAPIC, 0))
    # Interrupt n is pin n, but for how the one of ACPI itself is triggered, that needs no override.
    sci = acpi_pm.SCI_IRQ
    entries.append(struct.pack("<BBBBIH", 2, 10, 0, sci, sci, ACTIVE_HIGH_LEVEL))
    entries.append(struct.pack("<BBBHB", 4, 6, EVERY_PROCESSOR, 0, LINT1))  # NMI
    return sdt("APIC", 4, struct.pack("<II", layout.LOCAL_APIC, PCAT_COMPAT) + b"".join(entries))


def _dsdt(platform: Platform) -> bytes:
    """Differentiated System Description Table: how to power off, and the devices that can't be found by looking."""
    # \\_S5 tells what to write into SLP_TYP of the PM1a and the PM1b control register; there is no PM1b.
    soft_off = aml.name("\\_S5", aml.package(*map(aml.integer, (acpi_pm.S5_TYPE, 0, 0, 0))))
    devices = [
        _isa("COM1", "PNP0501", aml.ports(0x3F8, 8), aml.irq(4)),
        _isa("RTC", "PNP0B00", aml.ports(0x70, 2), aml.irq(8)),
    ]
    if platform.keyboard:
        devices.append(_isa("PS2K", "PNP0303", aml.ports(0x60, 1), aml.ports(0x64, 1), aml.irq(1)))
    devices += [_virtio(number, device) for number, device in enumerate(platform.devices)]
    return sdt("DSDT", 2, soft_off + aml.scope("\\_SB", *devices))


def _isa(path: str, identity: str, *resources: bytes) -> bytes:
    hid = aml.name("_HID", aml.eisa_id(identity))
    return aml.device(path, hid, aml.name("_CRS", aml.resources(*resources)))


def _virtio(number: int, device: MmioDevice) -> bytes:
    """LNRO0005 is the ID that Linux's virtio_mmio driver answers to; _CCA says that its DMA is cache-coherent."""
    return aml.device(
        f"VR{number:02X}",
        aml.name("_HID", aml.string("LNRO0005")),
        aml.name("_UID", aml.integer(number)),
        aml.name("_CCA", aml.integer(1)),
        aml.name(
            "_CRS",
            aml.resources(aml.memory32(device.address, device.size), aml.interrupt(device.gsi, level=device.level)),
        ),
    )
