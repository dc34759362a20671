"""The ACPI tables, found as a kernel finds them, and read by Intel's own compiler."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivmm.boot.acpi import acpi_tables
from minivmm.boot.platform import MmioDevice, Platform
from minivmm.devices import acpi_pm

BASE = 0xE0000
DEVICES = tuple(MmioDevice(0xD000_0000 + 0x1000 * n, 16 + n, level=n == 2) for n in range(3))


def walk(image: bytes, base: int = BASE) -> dict[str, bytes]:
    """Every table by its signature, from the RSDP on, each checksum held (ACPI 6.3, 5.2.5 to 5.2.8)."""

    def table(at: int) -> bytes:
        found = image[at - base :]
        found = found[: struct.unpack_from("<I", found, 4)[0]]
        assert found[:4] == b"FACS" or sum(found) % 256 == 0
        return found

    assert image[:8] == b"RSD PTR "
    assert sum(image[:20]) % 256 == sum(image[:36]) % 256 == 0
    assert image[15] == 2
    assert struct.unpack_from("<I", image, 20) == (36,)
    xsdt = table(struct.unpack_from("<Q", image, 24)[0])
    assert xsdt[:4] == b"XSDT"
    listed = [table(at) for (at,) in struct.iter_unpack("<Q", xsdt[36:])]
    tables = {each[:4].decode(): each for each in listed}
    fadt = tables["FACP"]
    facs, dsdt = struct.unpack_from("<II", fadt, 36)
    assert facs % 64 == 0
    assert struct.unpack_from("<Q", fadt, 140)[0] == dsdt
    return tables | {"XSDT": xsdt, "FACS": table(facs), "DSDT": table(dsdt)}


def madt_entries(madt: bytes) -> list[bytes]:
    entries, at = [], 44
    while at < len(madt):
        entries.append(madt[at : at + madt[at + 1]])
        at += madt[at + 1]
    return entries


def test_all_tables_are_there() -> None:
    tables = walk(acpi_tables(BASE, Platform(devices=DEVICES)))
    assert set(tables) == {"XSDT", "FACP", "FACS", "DSDT", "APIC"}


@given(st.integers(1, 8), st.lists(st.tuples(st.integers(0, 0xFFFF_F000), st.integers(0, 23)), max_size=40))
@settings(max_examples=50, deadline=None)
def test_any_platform_has_sound_tables(cpus: int, devices: list[tuple[int, int]]) -> None:
    platform = Platform(cpus, tuple(MmioDevice(address, gsi) for address, gsi in devices))
    tables = walk(acpi_tables(BASE, platform))
    assert tables["DSDT"].count(b"LNRO0005") == len(devices)


@pytest.mark.parametrize("cpus", [1, 2, 8])
def test_the_madt_lists_processors_and_the_ioapic(cpus: int) -> None:
    madt = walk(acpi_tables(BASE, Platform(cpus=cpus)))["APIC"]
    assert struct.unpack_from("<II", madt, 36) == (0xFEE0_0000, 1)
    entries = madt_entries(madt)
    assert [(entry[3], entry[4]) for entry in entries if entry[0] == 0] == [(cpu, 1) for cpu in range(cpus)]
    assert [struct.unpack("<BBBBII", entry)[2:] for entry in entries if entry[0] == 1] == [(cpus, 0, 0xFEC0_0000, 0)]


def test_only_the_interrupt_of_acpi_itself_is_overridden() -> None:
    entries = madt_entries(walk(acpi_tables(BASE, Platform()))["APIC"])
    assert [struct.unpack("<BBBBIH", entry)[2:] for entry in entries if entry[0] == 2] == [(0, 9, 9, 0x0D)]
    assert [struct.unpack("<BBBHB", entry)[2:] for entry in entries if entry[0] == 4] == [(0xFF, 0, 1)]


def test_without_apics_no_madt() -> None:
    assert "APIC" not in walk(acpi_tables(BASE, Platform(apics=False)))


def test_the_fadt_gives_the_ports_of_the_device() -> None:
    fadt = walk(acpi_tables(BASE, Platform()))["FACP"]
    assert len(fadt) == 276
    assert struct.unpack_from("<H", fadt, 46) == (acpi_pm.SCI_IRQ,)
    assert struct.unpack_from("<I4B", fadt, 48) == (0, 0, 0, 0, 0)  # no SMI_CMD: in ACPI mode from the start
    assert struct.unpack_from("<IIIIIIII", fadt, 56) == (
        acpi_pm.PM1A_EVT, 0, acpi_pm.PM1A_CNT, 0, 0, acpi_pm.PM_TMR, acpi_pm.GPE0, 0,
    )  # fmt: skip
    for at, port, length in ((148, 0x600, 4), (172, 0x604, 2), (208, 0x608, 4), (220, 0x620, acpi_pm.GPE0_LEN)):
        space, bits, _, _, address = struct.unpack_from("<BBBBQ", fadt, at)
        assert (space, bits, address) == (1, 8 * length, port)
    assert struct.unpack_from("<BBBBQB", fadt, 116) == (1, 8, 0, 1, 0xCF9, 6)


def test_the_fadt_says_whether_there_is_a_keyboard() -> None:
    def has_8042(platform: Platform) -> bool:
        tables = walk(acpi_tables(BASE, platform))
        flag = bool(struct.unpack_from("<H", tables["FACP"], 109)[0] & 2)
        assert flag == (b"PS2K" in tables["DSDT"])
        return flag

    assert has_8042(Platform())
    assert not has_8042(Platform(keyboard=False))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tables as iasl disassembles them."""
    if not shutil.which("iasl") and "MINIVMM_NO_SKIP" not in os.environ:
        pytest.skip("iasl is not here: apt install acpica-tools")
    folder: Path = tmp_path_factory.mktemp("acpi")
    sources = {}
    for name, table in walk(acpi_tables(BASE, Platform(cpus=2, devices=DEVICES))).items():
        (folder / f"{name}.aml").write_bytes(table)
        done = subprocess.run(["iasl", "-d", f"{name}.aml"], cwd=folder, capture_output=True, text=True, check=True)
        assert not re.search(r"(?i)warning|error|invalid", done.stdout + done.stderr)
        sources[name] = (folder / f"{name}.dsl").read_text()
    compiled = subprocess.run(["iasl", "DSDT.dsl"], cwd=folder, capture_output=True, text=True, check=False)
    assert "0 Errors, 0 Warnings" in compiled.stdout
    return sources


def squeezed(text: str) -> str:
    return re.sub(r"\s+|//.*", "", re.sub(r"/\*.*?\*/", "", text, flags=re.S))


def test_iasl_reads_how_to_power_off(sources: dict[str, str]) -> None:
    assert r"Name(\_S5,Package(0x04){0x05,Zero,Zero,Zero})" in squeezed(sources["DSDT"])


def test_iasl_reads_the_devices(sources: dict[str, str]) -> None:
    dsdt = squeezed(sources["DSDT"])
    assert re.findall(r"Device\((\w+)\)", dsdt) == ["COM1", "RTC", "PS2K", "VR00", "VR01", "VR02"]
    assert dsdt.count('Name(_HID,"LNRO0005")') == 3
    assert "Memory32Fixed(ReadWrite,0xD0001000,0x00000200,)" in dsdt
    assert "Interrupt(ResourceConsumer,Edge,ActiveHigh,Exclusive,,,){0x00000011,}" in dsdt
    assert "Interrupt(ResourceConsumer,Level,ActiveHigh,Exclusive,,,){0x00000012,}" in dsdt
    assert "IO(Decode16,0x03F8,0x03F8,0x01,0x08,)IRQNoFlags(){4}" in dsdt


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("FACP", "Hardware Reduced (V5) : 0"),
        ("FACP", "32-bit PM Timer (V1) : 1"),
        ("FACP", "Control Method Power Button (V1) : 0"),
        ("FACP", "Reset Register Supported (V2) : 1"),
        ("FACP", "CMOS RTC Not Present (V5) : 0"),
        ("FACP", "8042 Present on ports 60/64 (V2) : 1"),
        ("APIC", "PC-AT Compatibility : 1"),
        ("XSDT", 'Signature : "XSDT"'),
        ("FACS", "Version : 02"),
    ],
)
def test_iasl_reads_the_fields(sources: dict[str, str], table: str, line: str) -> None:
    assert line in sources[table]
