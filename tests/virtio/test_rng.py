"""The entropy device: virtio 1.2, 5.4."""

from __future__ import annotations

import random
import struct

import driver as d
import pytest
from driver import Driver
from guest import Guest

from minivmm.memory import GuestMemory
from minivmm.virtio.mmio import VirtioMmio
from minivmm.virtio.rng import MOST, VirtioRng


def rng(guest: Guest, *source: object) -> Driver:
    driver = Driver(VirtioMmio(VirtioRng(*source), guest, d.BASE, lambda level: None), guest)  # type: ignore[arg-type]
    driver.start()
    return driver


def test_the_host_s_randomness_by_default(guest: Guest) -> None:
    written, data = rng(guest).request(32)
    assert written == 32
    assert len(set(data)) > 4  # 32 bytes of four values or fewer: once in 10^50 runs


def test_a_stream_that_can_be_replayed(guest: Guest) -> None:
    answers = [rng(guest, random.Random(7).randbytes).request(16, 16) for _ in range(2)]
    assert answers[0] == answers[1] == (32, random.Random(7).randbytes(32))


def test_a_huge_buffer_is_filled_in_part(guest: Guest) -> None:
    asked: list[int] = []

    def source(n: int) -> bytes:
        asked.append(n)
        return b"\xff" * n

    written, data = rng(guest, source).request(MOST - 1, 0x8000)
    assert (written, asked) == (MOST, [MOST])
    assert data == b"\xff" * MOST + bytes(0x8000 - 1)


def test_a_readable_buffer_breaks_it(guest: Guest) -> None:
    driver = rng(guest)
    driver.queues[0].add(b"seed", 16)
    driver.notify()
    assert driver.broken
    assert "device-readable" in driver.device.error


@pytest.mark.parametrize("offset", [0x100, 0x101, 0x1FC])
def test_it_has_no_configuration(guest: Guest, offset: int) -> None:
    driver = rng(guest)
    driver.device.write(offset, 1, 0xFF)
    assert driver.device.read(offset, 1) == 0


def test_it_works_on_the_machine_s_own_guest_memory() -> None:
    backing = bytearray(0x4000)
    memory = GuestMemory(None, -1)  # type: ignore[arg-type]  # no VM is needed to look into a slot
    memory.adopt(0, 0x8000, backing)
    device = VirtioMmio(VirtioRng(lambda n: b"\x5a" * n), memory, d.BASE, lambda level: None)
    driver = Driver(device, Guest())
    assert driver.negotiate(d.VERSION_1)
    driver.write(d.QUEUE_NUM, 2)
    for register, address in ((d.DESC, 0x8000), (d.DRIVER, 0x8100), (d.DEVICE, 0x8200)):
        driver.write(register, address)
    driver.write(d.QUEUE_READY, 1)
    driver.add_status(d.S_DRIVER_OK)
    memory.write(0x8000, struct.pack("<QIHH", 0xB000, 0x1000, 2, 0))
    memory.write(0x8100, struct.pack("<HHH", 0, 1, 0))
    driver.notify()
    assert memory.read(0x8200, 12) == struct.pack("<HHII", 0, 1, 0, 0x1000)
    assert memory.read(0xB000, 0x1000) == b"\x5a" * 0x1000
    assert not driver.broken
