"""Split virtqueues: virtio 1.2, 2.7. First the driver that behaves, then the one that doesn't."""

from __future__ import annotations

import mmap
import struct
from types import SimpleNamespace

import driver as d
import pytest
from driver import Driver
from guest import HIGH, PAGE, RAM, ROM, Guest

from minivmm.virtio.chain import Chain, walk
from minivmm.virtio.device import VirtioDevice
from minivmm.virtio.errors import DriverError
from minivmm.virtio.mmio import VirtioMmio


class Echo(VirtioDevice):
    """Answers with what it was asked, and keeps the shape of each chain."""

    name = "echo"
    device_id = 42
    queue_sizes = (64,)

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[list[int], list[int]]] = []

    def serve(self, queue: int, chain: Chain) -> int:
        self.shapes.append(([len(v) for v in chain.readable], [len(v) for v in chain.writable]))
        asked, done = b"".join(chain.readable), 0
        for view in chain.writable:
            piece = asked[done : done + len(view)]
            view[: len(piece)] = piece
            done += len(piece)
        return done


@pytest.fixture
def echo(guest: Guest) -> Driver:
    return Driver(VirtioMmio(Echo(), guest, d.BASE, lambda level: None), guest)


# ---- a driver that behaves ----


@pytest.mark.parametrize("indirect", [False, True])
def test_bytes_go_in_and_come_out(echo: Driver, indirect: bool) -> None:
    echo.start()
    assert echo.request(b"hello ", b"world", 4, 16, indirect=indirect) == (11, b"hello world" + bytes(9))
    assert echo.device.device.shapes == [([6, 5], [4, 16])]


def test_an_indirect_descriptor_may_follow_others(echo: Driver) -> None:
    # 2.7.5.3.2: "zero or more normal chained descriptors followed by a single descriptor with" INDIRECT.
    (queue,) = echo.start()
    guest = echo.guest
    first, second, answer = guest.allocate(4), guest.allocate(4), guest.allocate(8)
    guest.write(first, b"1234")
    guest.write(second, b"5678")
    table = guest.allocate(32, 16)
    queue.describe(table, 0, second, 4, d.D_NEXT, 1)
    queue.describe(table, 1, answer, 8, d.D_WRITE)
    queue.describe(queue.descriptors, 0, first, 4, d.D_NEXT, 1)
    queue.describe(queue.descriptors, 1, table, 32, d.D_INDIRECT | d.D_WRITE)  # WRITE is to be ignored here
    queue.offer(0)
    echo.notify()
    assert queue.used_index == 1
    assert guest.read(answer, 8) == b"12345678"


def test_an_indirect_table_and_a_buffer_may_run_over_two_slots(echo: Driver) -> None:
    (queue,) = echo.start()
    guest = echo.guest
    answer, table = HIGH - 6, HIGH - 6 - 40
    queue.describe(table, 0, table, 16, d.D_NEXT, 1)  # any readable bytes will do
    queue.describe(table, 1, answer, 16, d.D_WRITE)
    queue.describe(queue.descriptors, 0, table, 32, d.D_INDIRECT)
    asked = guest.read(table, 16)
    queue.offer(0)
    echo.notify()
    assert guest.read(answer, 16) == asked
    straddling = HIGH - 24
    queue.describe(straddling, 0, RAM, 16, d.D_NEXT, 1)
    queue.describe(straddling, 1, RAM + 64, 16, d.D_WRITE)
    queue.describe(queue.descriptors, 0, straddling, 32, d.D_INDIRECT)
    queue.offer(0)
    echo.notify()
    assert queue.used_index == 2
    assert not echo.broken


def test_neighbouring_buffers_are_one_run_of_bytes(echo: Driver) -> None:
    # A page cache hands out pages side by side, 4 KiB each; a system call with 32 pieces costs more than with one.
    (queue,) = echo.start()
    at = echo.guest.allocate(32)
    echo.guest.write(at, b"neighbours")
    for i, (offset, size, flags) in enumerate([(0, 4, 1), (4, 6, 1), (12, 2, 3), (14, 8, 3), (24, 8, 2)]):
        queue.describe(queue.descriptors, i, at + offset, size, flags, i + 1)
    queue.offer(0)
    echo.notify()
    assert echo.device.device.shapes == [([10], [10, 8])]
    assert echo.guest.read(at + 12, 10) == b"neighbours"


def test_a_full_queue_is_served_in_order(echo: Driver) -> None:
    (queue,) = echo.start(size=8)
    for i in range(8):
        queue.add(bytes([i]) * 4, 4, indirect=True)
    echo.notify()
    assert [answer for _, answer in queue.collect()] == [bytes([i]) * 4 for i in range(8)]


@pytest.mark.parametrize("features", [0, d.EVENT_IDX])
def test_indices_run_over_65535(echo: Driver, features: int) -> None:
    (queue,) = echo.start(features, size=4)
    state = echo.device.save()
    state["queues"][0] |= {"next": 65530, "done": 65530}  # as if it had run for long
    queue.added = queue.seen = 65530
    echo.guest.put(queue.available + 2, 2, 65530)
    queue.set_used_event(0)
    echo.device.load(state)
    answers = [echo.request(bytes([i]), 1) for i in range(16)]
    assert answers == [(1, bytes([i])) for i in range(16)]
    assert (queue.used_index, queue.added, echo.broken) == (10, 10, False)
    assert echo.edges == 1  # once: the status bit stays set, or used_event 0 comes up once


# ---- when to interrupt, when to notify ----


def test_without_the_event_index_a_flag_turns_interrupts_off(echo: Driver) -> None:
    (queue,) = echo.start(0)
    queue.set_flags(1)
    echo.request(b"x")
    assert (echo.edges, echo.read(d.INTERRUPT_STATUS)) == (0, 0)
    queue.set_flags(0)
    queue.set_used_event(500)  # "the device MUST ignore the used_event value"
    echo.request(b"x")
    assert echo.edges == 1


def test_with_the_event_index_the_driver_names_the_entry(echo: Driver) -> None:
    (queue,) = echo.start(d.EVENT_IDX)
    queue.set_flags(1)  # "the device MUST ignore the lower bit of flags"
    queue.set_used_event(2)
    edges = []
    for _ in range(4):
        echo.request(b"x")
        echo.write(d.INTERRUPT_ACK, 1)
        edges.append(echo.edges)
    assert edges == [0, 0, 1, 1]


def test_without_the_event_index_we_ask_for_every_notification_when_idle(echo: Driver) -> None:
    (queue,) = echo.start(0)
    seen: list[int] = []
    echo.device.device.serve = lambda index, chain: seen.append(queue.device_flags) or 0  # type: ignore[method-assign]
    echo.request(b"x")
    assert seen == [1]  # VIRTQ_USED_F_NO_NOTIFY while at work
    assert queue.device_flags == 0


def test_with_the_event_index_we_name_the_next_entry(echo: Driver) -> None:
    (queue,) = echo.start(d.EVENT_IDX)
    assert queue.avail_event == 0
    echo.request(b"x")
    assert (queue.avail_event, queue.device_flags) == (1, 0)
    queue.add(b"y")
    queue.add(b"z")
    echo.notify()
    assert queue.avail_event == 3


@pytest.mark.parametrize("features", [0, d.EVENT_IDX])
def test_what_comes_in_as_we_fall_asleep_is_not_missed(echo: Driver, features: int) -> None:
    # The driver adds a buffer after the device found none and before it asked for notifications: none is sent.
    (queue,) = echo.start(features)
    ours = echo.device.queues[0]
    listen, late = ours.listen, [b"late"]

    def meanwhile() -> bool:
        if late:
            queue.add(late.pop())
        return listen()

    ours.listen = meanwhile  # type: ignore[method-assign]
    echo.notify()
    assert len(queue.collect()) == 1


# ---- a driver that doesn't ----


def hostile(echo: Driver, *descriptors: tuple[int, int, int, int], head: int = 0, features: int | None = None) -> str:
    """Offers descriptors (address, length, flags, next) as they are. Returns what the device says of them."""
    (queue,) = echo.start(features)
    for index, (address, length, flags, following) in enumerate(descriptors):
        queue.describe(queue.descriptors, index, address, length, flags, following)
    queue.offer(head)
    echo.notify()
    assert echo.broken
    assert queue.used_index == 0
    assert echo.device.device.shapes == []
    # 2.1.2: the driver is told by a configuration change, and nothing is served until the reset.
    assert (echo.read(d.INTERRUPT_STATUS), echo.edges) == (2, 1)
    echo.notify()
    assert queue.used_index == 0
    echo.guest.assert_borders_intact()
    error = echo.device.error
    echo.write(d.INTERRUPT_ACK, 2)
    echo.edges = 0
    echo.start()
    assert echo.device.error == ""
    assert echo.request(b"alive", 5) == (5, b"alive")
    echo.device.device.shapes.clear()
    echo.edges = 0
    return error


SOME = RAM + 0x7000


@pytest.mark.parametrize("address", [0, RAM - 1, 0x19_0000, 1 << 32, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("flags", [0, d.D_WRITE, d.D_INDIRECT])
def test_an_address_outside_memory(echo: Driver, address: int, flags: int) -> None:
    assert "not guest memory" in hostile(echo, (address, 16, flags, 0))


@pytest.mark.parametrize("flags", [0, d.D_WRITE])
def test_a_buffer_that_runs_out_of_memory(echo: Driver, flags: int) -> None:
    assert "not guest memory" in hostile(echo, (HIGH + PAGE - 8, 16, flags, 0))


def test_a_buffer_to_be_written_in_rom(echo: Driver) -> None:
    assert "read-only" in hostile(echo, (ROM, 16, d.D_WRITE, 0))


def test_a_buffer_to_be_read_in_rom_is_fine(echo: Driver) -> None:
    (queue,) = echo.start()
    queue.describe(queue.descriptors, 0, ROM, 16, 0)
    queue.offer(0)
    echo.notify()
    assert queue.used_index == 1


def test_an_empty_buffer(echo: Driver) -> None:
    assert "0 bytes" in hostile(echo, (SOME, 0, 0, 0))


def test_a_huge_buffer(echo: Driver) -> None:
    assert "not guest memory" in hostile(echo, (RAM, 0xFFFF_FFFF, 0, 0))


def test_more_than_four_gigabytes_in_all() -> None:
    # 2.7.5.2. Memory that nobody touches costs nothing: the same half gigabyte, eight times and a byte.
    room = mmap.mmap(-1, 1 << 29, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory = SimpleNamespace(slot_at=lambda gpa: SimpleNamespace(gpa=0, end=len(room), read_only=False, data=data))
    with memoryview(room) as data:
        table = b"".join(struct.pack("<QIHH", 0, 1 << 29, d.D_NEXT, i + 1) for i in range(8))
        fine = memoryview(table[:-4] + bytes(4))
        assert len(walk(memory, fine, 0, longest=16, indirect=False).readable) == 8
        too_much = memoryview(table + struct.pack("<QIHH", 0, 1, 0, 0))
        with pytest.raises(DriverError, match=r"2\^32"):
            walk(memory, too_much, 0, longest=16, indirect=False)


def test_a_loop(echo: Driver) -> None:
    assert "loop" in hostile(echo, (SOME, 4, d.D_NEXT, 1), (SOME, 4, d.D_NEXT, 0))
    assert "loop" in hostile(echo, (SOME, 4, d.D_NEXT, 0))
    assert "loop" in hostile(echo, (SOME, 4, d.D_NEXT, 0), features=0)


def test_a_loop_in_an_indirect_table(echo: Driver) -> None:
    table = RAM + 0x8000
    d.describe(echo.guest, table, 0, SOME, 4, d.D_NEXT, 0)
    assert "loop" in hostile(echo, (table, 16, d.D_INDIRECT, 0))


def test_a_chain_longer_than_the_queue(echo: Driver) -> None:
    table = RAM + 0x8000
    for i in range(65):
        d.describe(echo.guest, table, i, SOME, 4, d.D_NEXT * (i < 64), i + 1)
    assert "longer than 64" in hostile(echo, (table, 16 * 65, d.D_INDIRECT, 0))
    d.describe(echo.guest, table, 63, SOME, 4, 0)
    (queue,) = echo.start()
    queue.describe(queue.descriptors, 0, table, 16 * 64, d.D_INDIRECT)
    queue.offer(0)
    echo.notify()
    assert echo.device.device.shapes[-1] == ([4] * 64, [])  # one less is fine


def test_a_readable_buffer_after_a_writable_one(echo: Driver) -> None:
    assert "after a device-writable" in hostile(echo, (SOME, 4, d.D_WRITE | d.D_NEXT, 1), (SOME, 4, 0, 0))


@pytest.mark.parametrize("head", [8, 9, 0x7FFF, 0xFFFF])
def test_a_head_outside_the_table(echo: Driver, head: int) -> None:
    assert f"descriptor {head} is beyond the table of 8" in hostile(echo, head=head)


def test_a_next_outside_the_table(echo: Driver) -> None:
    assert "descriptor 8 is beyond" in hostile(echo, (SOME, 4, d.D_NEXT, 8))
    table = RAM + 0x8000
    d.describe(echo.guest, table, 0, SOME, 4, d.D_NEXT, 1)
    assert "descriptor 1 is beyond" in hostile(echo, (table, 16, d.D_INDIRECT, 0))


@pytest.mark.parametrize("length", [0, 1, 15, 17, 0xFFFF_FFFF])
def test_an_indirect_table_that_is_not_made_of_descriptors(echo: Driver, length: int) -> None:
    assert f"{length} bytes" in hostile(echo, (SOME, length, d.D_INDIRECT, 0))


def test_an_indirect_table_in_an_indirect_table(echo: Driver) -> None:
    table = RAM + 0x8000
    d.describe(echo.guest, table, 0, table + 16, 16, d.D_INDIRECT)
    d.describe(echo.guest, table, 1, SOME, 4, 0)
    assert "another indirect" in hostile(echo, (table, 16, d.D_INDIRECT, 0))


def test_an_indirect_descriptor_with_a_next(echo: Driver) -> None:
    assert "VIRTQ_DESC_F_NEXT" in hostile(echo, (SOME, 16, d.D_INDIRECT | d.D_NEXT, 1))


def test_an_indirect_descriptor_that_was_not_negotiated(echo: Driver) -> None:
    assert "not negotiated" in hostile(echo, (SOME, 16, d.D_INDIRECT, 0), features=d.EVENT_IDX)


@pytest.mark.parametrize("jump", [9, 100, 0x8000, 0xFFFF])
def test_an_available_index_that_jumps(echo: Driver, jump: int) -> None:
    (queue,) = echo.start(size=8)
    echo.guest.put(queue.available + 2, 2, jump)
    echo.notify()
    assert echo.broken
    assert f"{jump} ahead in a queue of 8" in echo.device.error


def test_a_device_cannot_write_what_it_may_only_read(echo: Driver) -> None:
    (queue,) = echo.start()

    def scribble(index: int, chain: Chain) -> int:
        with pytest.raises(TypeError, match="read-only"):
            chain.readable[0][0] = 1
        return 0

    echo.device.device.serve = scribble  # type: ignore[method-assign]
    queue.add(b"data")
    echo.notify()
    assert queue.used_index == 1


def test_the_driver_cannot_move_our_used_index(echo: Driver) -> None:
    (queue,) = echo.start()
    echo.guest.put(queue.used + 2, 2, 77)
    queue.add(b"x")
    echo.notify()
    assert queue.used_index == 1
