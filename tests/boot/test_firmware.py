"""What firmware leaves behind: tables where kernels look for them, and caches that are on."""

from __future__ import annotations

import pytest

from minivmm.boot import firmware
from minivmm.boot.errors import BadImageError
from minivmm.boot.platform import MmioDevice, Platform
from minivmm.kvm.errors import KvmError
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine


def test_tables_are_where_kernels_look(place) -> None:
    firmware.install(place.memory, Platform(cpus=2))
    assert place.memory.read(0x9FC00, 4) == b"_MP_"
    assert place.unpack("<H", 0x40E) == (0x9FC0,)  # the segment of the EBDA
    assert place.unpack("<H", 0x413) == (639,)  # KiB of base memory
    assert place.memory.read(0xE0000, 8) == b"RSD PTR "


def test_no_mp_table_without_apics(place) -> None:
    firmware.install(place.memory, Platform(apics=False))
    assert place.memory.read(0x9FC00, 4) == bytes(4)


def test_too_little_memory(make_place) -> None:
    with pytest.raises(BadImageError, match="The ACPI data needs memory up to 0xe"):
        firmware.install(make_place(0xA0000).memory, Platform())


def test_more_devices_than_the_tables_have_room_for(place) -> None:
    devices = tuple(MmioDevice(0xD000_0000, 16) for _ in range(3000))
    with pytest.raises(BadImageError, match="of 3000 devices don't fit below 1 MiB"):
        firmware.install(place.memory, Platform(devices=devices))


def test_caches_are_on_where_there_are_any(backend: Backend) -> None:
    with Machine(1 << 20, backend) as machine:
        firmware.set_up_processor(machine.vcpu)
        assert machine.vcpu.get_msr(0x2FF) == 0x806


def test_a_backend_without_caches() -> None:
    class NoMtrrs:
        def set_msr(self, index: int, value: int) -> None:
            raise KvmError("KVM_SET_MSRS", 22, "no such MSR")

    firmware.set_up_processor(NoMtrrs())  # type: ignore[arg-type]
