"""A device saved, and carried on in another one over the same guest memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import driver as d
import pytest
from driver import Driver
from guest import Guest

from minivmm.virtio.block import VirtioBlock
from minivmm.virtio.blockfile import BlockFile
from minivmm.virtio.console import RECEIVE, TRANSMIT, VirtioConsole
from minivmm.virtio.device import VirtioDevice
from minivmm.virtio.mmio import VirtioMmio
from minivmm.virtio.rng import VirtioRng


def moved(old: Driver, device: VirtioDevice) -> Driver:
    """A driver that believes that nothing happened, on a device that took over the old one's state as JSON."""
    state = json.loads(json.dumps(old.device.save()))
    new = Driver(VirtioMmio(device, old.guest, d.BASE, lambda level: None), old.guest)
    new.device.load(state)
    new.queues = old.queues
    assert new.device.save() == state
    new.device.resume()
    return new


@pytest.mark.parametrize("features", [0, d.EVENT_IDX, d.EVENT_IDX | d.INDIRECT_DESC])
def test_a_queue_goes_on_where_it_was(guest: Guest, features: int) -> None:
    old = Driver(VirtioMmio(VirtioRng(lambda n: b"1" * n), guest, d.BASE, lambda level: None), guest)
    old.start(features)
    for _ in range(11):
        old.request(4)
    new = moved(old, VirtioRng(lambda n: b"2" * n))
    assert (new.status, new.read(d.INTERRUPT_STATUS)) == (old.status, 1)
    assert new.edges == 1  # the one that nobody acknowledged, once more: it may have been lost on the way
    assert new.request(4) == (4, b"2222")
    assert new.queues[0].used_index == 12


def test_a_notification_on_its_way_is_not_lost(guest: Guest) -> None:
    old = Driver(VirtioMmio(VirtioRng(bytes), guest, d.BASE, lambda level: None), guest)
    (queue,) = old.start()
    queue.add(4)  # the driver has notified, and the worker has not looked yet
    moved(old, VirtioRng(bytes))
    assert len(queue.collect()) == 1


@pytest.mark.parametrize("steps", range(5))
def test_a_device_in_the_middle_of_being_set_up(guest: Guest, steps: int) -> None:
    old = Driver(VirtioMmio(VirtioRng(bytes), guest, d.BASE, lambda level: None), guest)
    path: list[Callable[[Driver], object]] = [
        lambda driver: driver.add_status(d.S_ACKNOWLEDGE | d.S_DRIVER),
        lambda driver: [driver.write(r, v) for r, v in ((d.DRIVER_FEATURES_SEL, 1), (d.DRIVER_FEATURES, 1))],
        lambda driver: driver.add_status(d.S_FEATURES_OK),
        lambda driver: driver.queues.append(driver.set_up_queue(0)),
        lambda driver: driver.add_status(d.S_DRIVER_OK),
    ]
    for step in path[:steps]:
        step(old)
    new = moved(old, VirtioRng(bytes))
    for step in path[steps:]:
        step(new)
    assert new.request(4) == (4, bytes(4))


def test_a_broken_device_stays_broken(guest: Guest) -> None:
    old = Driver(VirtioMmio(VirtioRng(bytes), guest, d.BASE, lambda level: None), guest)
    old.start()[0].offer(99)
    old.notify()
    new = moved(old, VirtioRng(bytes))
    assert new.broken
    assert new.device.error == old.device.error != ""
    new.start()
    assert new.request(4) == (4, bytes(4))


def test_a_console_keeps_its_input_and_size(guest: Guest) -> None:
    old = Driver(VirtioMmio(VirtioConsole(lambda data: None, columns=90), guest, d.BASE, lambda level: None), guest)
    old.start()
    old.device.device.feed(b"typed \xff")
    printed = bytearray()
    new = moved(old, VirtioConsole(printed.extend))
    assert new.device.read(d.CONFIG, 2) == 90
    new.queues[RECEIVE].add(16)
    new.notify(RECEIVE)
    assert new.queues[RECEIVE].collect()[0][1][:7] == b"typed \xff"
    new.request(b"out", queue=TRANSMIT)
    assert printed == b"out"


def test_a_disk_keeps_what_was_negotiated(guest: Guest, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(b"x" * 1024)
    with BlockFile(path) as first, BlockFile(path) as second:
        old = Driver(VirtioMmio(VirtioBlock(first), guest, d.BASE, lambda level: None), guest)
        old.start()
        new = moved(old, VirtioBlock(second))
        assert new.device.device.negotiated == old.device.accepted
        assert new.request(bytes(8) + (1).to_bytes(8, "little"), 512, 1) == (513, b"x" * 512 + b"\0")
