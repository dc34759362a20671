"""The registers, as a driver finds them: virtio 1.2, 4.2.2, and the initialization of 3.1.1."""

from __future__ import annotations

import driver as d
import pytest
from driver import Driver
from guest import ROM, Guest

from minivmm.bus import Bus
from minivmm.virtio.console import VirtioConsole
from minivmm.virtio.mmio import VirtioMmio
from minivmm.virtio.rng import VirtioRng


@pytest.fixture
def rng(guest: Guest) -> Driver:
    return Driver(VirtioMmio(VirtioRng(bytes), guest, d.BASE, lambda level: None), guest)


@pytest.fixture
def console(guest: Guest) -> Driver:
    return Driver(VirtioMmio(VirtioConsole(lambda data: None), guest, d.BASE, lambda level: None), guest)


def test_it_says_what_it_is(rng: Driver) -> None:
    assert rng.read(d.MAGIC).to_bytes(4, "little") == b"virt"
    assert (rng.read(d.VERSION), rng.read(d.DEVICE_ID)) == (2, 4)
    assert rng.device.claim == range(d.BASE, d.BASE + 0x200)


def test_it_sits_on_a_bus(rng: Driver) -> None:
    bus = Bus("address")
    bus.attach(rng.device)
    assert bus.read(d.BASE + d.DEVICE_ID, 4) == 4
    bus.write(d.BASE + d.STATUS, 4, 3)
    assert bus.read(d.BASE + d.STATUS, 4) == 3


def test_registers_take_aligned_words_only(rng: Driver) -> None:
    assert rng.device.read(d.MAGIC, 1) == rng.device.read(d.MAGIC, 2) == rng.device.read(d.MAGIC, 8) == 0
    assert rng.device.read(d.MAGIC + 2, 4) == 0
    rng.device.write(d.STATUS, 1, 1)
    rng.device.write(d.STATUS, 8, 1)
    assert rng.status == 0


def test_write_only_registers_and_holes_read_as_zero(rng: Driver) -> None:
    known = {d.MAGIC, d.VERSION, d.DEVICE_ID, 0x00C, d.DEVICE_FEATURES, d.QUEUE_NUM_MAX}
    shared_memory = {0x0B0, 0x0B4, 0x0B8, 0x0BC}
    for register in range(0, 0x100, 4):
        if register in shared_memory:
            assert rng.read(register) == 0xFFFF_FFFF  # -1: there is no such region
        elif register not in known:
            assert rng.read(register) == 0, hex(register)


def test_read_only_registers_are_not_written(rng: Driver) -> None:
    before = [rng.read(register) for register in (d.MAGIC, d.VERSION, d.DEVICE_ID, d.QUEUE_NUM_MAX, d.INTERRUPT_STATUS)]
    for register in (d.MAGIC, d.VERSION, d.DEVICE_ID, d.QUEUE_NUM_MAX, d.INTERRUPT_STATUS, d.CONFIG_GENERATION):
        rng.write(register, 0xFFFF_FFFF)
    assert before == [
        rng.read(register) for register in (d.MAGIC, d.VERSION, d.DEVICE_ID, d.QUEUE_NUM_MAX, d.INTERRUPT_STATUS)
    ]
    assert rng.read(d.CONFIG_GENERATION) == 0


def test_it_offers_version_1_and_the_ring_features(rng: Driver) -> None:
    assert rng.offered == d.VERSION_1 | d.INDIRECT_DESC | d.EVENT_IDX
    rng.write(d.DEVICE_FEATURES_SEL, 2)
    assert rng.read(d.DEVICE_FEATURES) == 0
    rng.write(d.DEVICE_FEATURES_SEL, 0xFFFF_FFFF)
    assert rng.read(d.DEVICE_FEATURES) == 0


def test_ring_features_can_be_kept_back(guest: Guest) -> None:
    device = VirtioMmio(VirtioRng(), guest, d.BASE, lambda level: None, ring_features=0)
    assert Driver(device, guest).offered == d.VERSION_1


# ---- negotiation ----


@pytest.mark.parametrize(
    ("features", "accepted"),
    [
        (d.VERSION_1, True),
        (d.VERSION_1 | d.EVENT_IDX, True),
        (d.VERSION_1 | d.INDIRECT_DESC | d.EVENT_IDX, True),
        (0, False),  # the legacy interface
        (d.EVENT_IDX, False),
        (d.VERSION_1 | 1, False),  # never offered
        (d.VERSION_1 | 1 << 63, False),
    ],
)
def test_features_ok_is_granted_for_a_subset_of_what_was_offered(rng: Driver, features: int, accepted: bool) -> None:
    assert rng.negotiate(features) is accepted
    rng.add_status(d.S_DRIVER_OK)
    assert bool(rng.status & d.S_DRIVER_OK) is accepted
    assert rng.device.device.negotiated == (features if accepted else 0)


def test_a_bit_beyond_the_sixty_fourth_is_not_offered_either(rng: Driver) -> None:
    rng.write(d.STATUS, d.S_ACKNOWLEDGE | d.S_DRIVER)
    for word, value in ((1, 1), (3, 1)):
        rng.write(d.DRIVER_FEATURES_SEL, word)
        rng.write(d.DRIVER_FEATURES, value)
    rng.add_status(d.S_FEATURES_OK)
    assert not rng.status & d.S_FEATURES_OK


def test_features_are_fixed_once_they_are_ok(rng: Driver) -> None:
    assert rng.negotiate(d.VERSION_1)
    rng.write(d.DRIVER_FEATURES_SEL, 0)
    rng.write(d.DRIVER_FEATURES, d.EVENT_IDX)
    assert rng.device.accepted == d.VERSION_1


def test_a_refused_driver_may_try_again(rng: Driver) -> None:
    assert not rng.negotiate(d.VERSION_1 | 1)
    assert rng.negotiate(d.VERSION_1)


def test_status_bits_are_only_cleared_by_a_reset(rng: Driver) -> None:
    rng.write(d.STATUS, d.S_ACKNOWLEDGE | d.S_DRIVER)
    rng.write(d.STATUS, d.S_ACKNOWLEDGE)
    assert rng.status == d.S_ACKNOWLEDGE | d.S_DRIVER
    rng.write(d.STATUS, d.S_FAILED)
    assert rng.status & d.S_FAILED
    rng.write(d.STATUS, 0)
    assert rng.status == 0


def test_the_driver_cannot_set_needs_reset(rng: Driver) -> None:
    rng.write(d.STATUS, 0xFF)
    assert not rng.broken


# ---- queues ----


def test_queues_exist_as_many_as_the_device_has(console: Driver) -> None:
    sizes = []
    for index in (0, 1, 2, 0xFFFF_FFFF):
        console.write(d.QUEUE_SEL, index)
        sizes.append(console.read(d.QUEUE_NUM_MAX))
        console.write(d.QUEUE_NUM, 4)
        console.write(d.QUEUE_READY, 1)
    assert sizes == [64, 64, 0, 0]


def test_a_ready_queue_keeps_its_size_and_place(rng: Driver) -> None:
    rng.start()
    before = rng.device.save()
    rng.write(d.QUEUE_NUM, 4)
    for register in (d.DESC, d.DRIVER, d.DEVICE):
        rng.write(register, 0xDEAD_0000)
        rng.write(register + 4, 1)
    rng.write(d.QUEUE_READY, 1)
    assert rng.device.save() == before
    for _ in range(10):
        assert rng.request(16) == (16, bytes(16))


def test_a_queue_is_not_ready_before_features_ok(rng: Driver) -> None:
    rng.set_up_queue(0)
    assert rng.read(d.QUEUE_READY) == 0
    assert not rng.broken


def test_a_queue_that_is_made_unready_is_left_alone_and_starts_anew(rng: Driver) -> None:
    (queue,) = rng.start()
    rng.request(8)
    rng.write(d.QUEUE_READY, 0)
    assert rng.read(d.QUEUE_READY) == 0
    queue.add(8)
    rng.notify()
    assert queue.collect() == []
    rng.queues = [rng.set_up_queue(0, event_idx=True)]
    assert rng.request(8) == (8, bytes(8))


@pytest.mark.parametrize("size", [0, 3, 5, 65, 128, 0x1_0000, 0xFFFF_FFFF])
def test_an_impossible_queue_size_breaks_the_device(rng: Driver, size: int) -> None:
    rng.negotiate(rng.offered)
    queue = d.Queue(rng.guest, 8)
    rng.write(d.QUEUE_NUM, size)
    for register, address in ((d.DESC, queue.descriptors), (d.DRIVER, queue.available), (d.DEVICE, queue.used)):
        rng.write(register, address)
    rng.write(d.QUEUE_READY, 1)
    assert rng.read(d.QUEUE_READY) == 0
    assert rng.broken
    assert "power of two" in rng.device.error


@pytest.mark.parametrize("register", [d.DESC, d.DRIVER, d.DEVICE])
@pytest.mark.parametrize(
    ("address", "why"),
    [
        (0x10_1001, "aligned"),
        (0, "not guest memory"),
        (0xFFFF_FFFF_FFFF_FFF0, "not guest memory"),  # wraps around the end of the address space
        (0x18_0000 - 16, "within one memory slot"),  # runs from one slot into the next
        (0x18_1000 - 16, "not guest memory"),  # runs off the end of the last slot
    ],
)
def test_a_ring_in_an_impossible_place_breaks_the_device(rng: Driver, register: int, address: int, why: str) -> None:
    rng.negotiate(rng.offered)
    queue = d.Queue(rng.guest, 8)
    rng.write(d.QUEUE_NUM, 8)
    places = {d.DESC: queue.descriptors, d.DRIVER: queue.available, d.DEVICE: queue.used} | {register: address}
    for low, place in places.items():
        rng.write(low, place & 0xFFFF_FFFF)
        rng.write(low + 4, place >> 32)
    rng.write(d.QUEUE_READY, 1)
    assert rng.read(d.QUEUE_READY) == 0
    assert rng.broken
    assert why in rng.device.error
    assert rng.edges == 0  # "if DRIVER_OK is set": it isn't yet
    rng.guest.assert_borders_intact()


def test_a_queue_that_comes_late_and_wrong_is_told_by_an_interrupt(rng: Driver) -> None:
    # 2.1.2: "If DRIVER_OK is set, after it sets DEVICE_NEEDS_RESET", and here it is.
    rng.negotiate(rng.offered)
    rng.add_status(d.S_DRIVER_OK)
    rng.write(d.QUEUE_NUM, 8)
    rng.write(d.QUEUE_READY, 1)
    assert rng.broken
    assert (rng.read(d.INTERRUPT_STATUS), rng.edges) == (2, 1)


def test_a_used_ring_in_rom_breaks_the_device(rng: Driver) -> None:
    rng.negotiate(rng.offered)
    queue = d.Queue(rng.guest, 8)
    rng.write(d.QUEUE_NUM, 8)
    for low, place in ((d.DESC, queue.descriptors), (d.DRIVER, queue.available), (d.DEVICE, ROM)):
        rng.write(low, place)
    rng.write(d.QUEUE_READY, 1)
    assert rng.broken
    assert "read-only" in rng.device.error


def test_notifying_a_queue_that_is_not_there_does_nothing(rng: Driver) -> None:
    rng.start()
    for index in (1, 64, 0xFFFF_FFFF):
        rng.notify(index)
    assert not rng.broken


def test_nothing_is_served_before_driver_ok_and_all_of_it_then(rng: Driver) -> None:
    rng.negotiate(rng.offered)
    queue = rng.set_up_queue(0)
    queue.add(8)
    rng.notify()
    assert queue.collect() == []
    rng.add_status(d.S_DRIVER_OK)  # the notification above counted for nothing: this makes the device look
    assert len(queue.collect()) == 1


# ---- interrupts ----


def test_a_used_buffer_interrupts_until_acknowledged(rng: Driver) -> None:
    rng.start(0)
    rng.request(8)
    assert (rng.read(d.INTERRUPT_STATUS), rng.edges) == (1, 1)
    rng.request(8)
    assert (rng.read(d.INTERRUPT_STATUS), rng.edges) == (1, 1)  # the bit is set still: no second edge
    rng.write(d.INTERRUPT_ACK, 1)
    assert rng.read(d.INTERRUPT_STATUS) == 0
    rng.request(8)
    assert (rng.read(d.INTERRUPT_STATUS), rng.edges) == (1, 2)


def test_an_acknowledgement_that_leaves_a_bit_set_makes_an_edge(console: Driver) -> None:
    console.start(0)
    console.queues[1].add(b"hello")
    console.notify(1)
    console.device.device.config_changed()
    assert (console.read(d.INTERRUPT_STATUS), console.edges) == (3, 2)
    console.write(d.INTERRUPT_ACK, 1)
    assert (console.read(d.INTERRUPT_STATUS), console.edges) == (2, 3)
    console.write(d.INTERRUPT_ACK, 2)
    assert (console.read(d.INTERRUPT_STATUS), console.edges) == (0, 3)


def test_an_edge_is_a_line_up_and_down(guest: Guest) -> None:
    levels: list[bool] = []
    device = VirtioMmio(VirtioRng(), guest, d.BASE, levels.append)
    pulse = device.status.pulse
    driver = Driver(device, guest)
    device.status.pulse = pulse
    driver.start(0)
    driver.request(8)
    assert levels == [True, False]


def test_a_change_of_configuration_has_a_new_generation(console: Driver) -> None:
    console.start()
    before = console.read(d.CONFIG_GENERATION)
    console.device.device.config_changed()
    assert console.read(d.CONFIG_GENERATION) != before
    assert console.read(d.INTERRUPT_STATUS) == 2


def test_no_interrupt_before_driver_ok(console: Driver) -> None:
    console.device.device.config_changed()
    assert (console.read(d.INTERRUPT_STATUS), console.edges) == (0, 0)


def test_reset_clears_everything(rng: Driver) -> None:
    (queue,) = rng.start()
    rng.request(8)
    rng.write(d.STATUS, 0)
    assert (rng.status, rng.read(d.INTERRUPT_STATUS), rng.read(d.QUEUE_READY)) == (0, 0, 0)
    assert rng.device.accepted == rng.device.device.negotiated == 0
    queue.add(8)
    rng.notify()
    assert queue.collect() == []
    rng.start()
    assert rng.request(8) == (8, bytes(8))
