"""What a kernel is told about its machine: how many processors, and the devices that it can't find by probing.

The loaders take it as data, and write it down twice: as ACPI tables and as an MP table. Whoever builds the machine sees
to it that it is true.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_CPUS = 8  # the IOAPIC's 4-bit ID comes behind theirs


@dataclass(frozen=True)
class MmioDevice:
    """A virtio device over MMIO: `size` bytes of registers at guest-physical `address`, and its global interrupt.

    Edge-triggered and active high, or `level`-triggered; active high either way.
    """

    address: int
    gsi: int
    size: int = 0x200
    level: bool = False


@dataclass(frozen=True)
class Platform:
    """`cpus` processors with APIC IDs from 0; `devices`, which only a table can tell of.

    `apics`: each processor has a local APIC, and there is an IOAPIC; else only a pair of 8259s, and one processor.
    `keyboard`: there is an i8042. Raises ValueError where the numbers make no sense.
    """

    cpus: int = 1
    devices: tuple[MmioDevice, ...] = ()
    apics: bool = True
    keyboard: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.cpus <= MOST_CPUS:
            raise ValueError(f"A machine has 1 to {MOST_CPUS} processors, not {self.cpus}.")
        if self.cpus > 1 and not self.apics:
            raise ValueError("Without local APICs, processors can't start each other: use 1.")
        pins = 24 if self.apics else 16
        for device in self.devices:
            if not 0 <= device.gsi < pins:
                raise ValueError(f"The device at {device.address:#x} has interrupt {device.gsi}; there are {pins}.")
