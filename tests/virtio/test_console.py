"""The console device: virtio 1.2, 5.3."""

from __future__ import annotations

import driver as d
import pytest
from driver import Driver
from guest import Guest

from minivmm.virtio.console import AT_ONCE, RECEIVE, TRANSMIT, VirtioConsole
from minivmm.virtio.mmio import VirtioMmio


@pytest.fixture
def printed() -> bytearray:
    return bytearray()


@pytest.fixture
def console(guest: Guest, printed: bytearray) -> Driver:
    device = VirtioConsole(printed.extend, columns=132, rows=43)
    return Driver(VirtioMmio(device, guest, d.BASE, lambda level: None), guest)


def test_what_the_guest_prints_comes_out(console: Driver, printed: bytearray) -> None:
    console.start()
    assert console.request(b"hello, ", b"world\n", queue=TRANSMIT) == (0, b"")
    assert printed == b"hello, world\n"


def test_what_is_typed_goes_to_the_waiting_buffer(console: Driver) -> None:
    receive, _ = console.start()
    receive.add(4)
    receive.add(8)
    console.notify(RECEIVE)
    assert receive.collect() == []  # the buffers wait for input
    console.device.device.feed(b"ls\n")
    assert receive.collect() == [(3, b"ls\n\0")]
    console.device.device.feed(b"a long line\n")
    assert receive.collect() == [(8, b"a long l")]
    assert console.edges == 1  # used_event is 0: the first only


def test_what_is_typed_waits_for_a_buffer(console: Driver) -> None:
    console.device.device.feed(b"early ")
    receive, _ = console.start()
    console.device.device.feed(b"bird")
    receive.add(3, 3)
    receive.add(16)
    console.notify(RECEIVE)
    assert receive.collect() == [(6, b"early "), (4, b"bird" + bytes(12))]


def test_patient_input_waits_until_the_guest_has_printed(guest: Guest, printed: bytearray) -> None:
    device = VirtioConsole(printed.extend, patient=True)
    console = Driver(VirtioMmio(device, guest, d.BASE, lambda level: None), guest)
    device.feed(b"early ")
    receive, _ = console.start()
    receive.add(16)
    console.notify(RECEIVE)
    device.feed(b"bird")
    console.notify(TRANSMIT)  # there is nothing in it
    assert receive.collect() == []
    assert device.backlog == 10
    assert console.request(b"login: ", queue=TRANSMIT) == (0, b"")
    assert receive.collect() == [(10, b"early bird" + bytes(6))]
    assert (printed, device.backlog) == (b"login: ", 0)
    other = VirtioConsole(printed.extend, patient=True)
    other.load(device.save())
    other.feed(b"x")
    assert other.wants(RECEIVE)  # it remembers that the guest has printed


def test_input_survives_a_reset_of_the_device(console: Driver) -> None:
    console.start()
    console.device.device.feed(b"kept")
    console.write(d.STATUS, 0)
    receive, _ = console.start()
    receive.add(8)
    console.notify(RECEIVE)
    assert receive.collect() == [(4, b"kept" + bytes(4))]


def test_size_and_one_port(console: Driver) -> None:
    assert console.device.read(d.CONFIG, 2) == 132
    assert console.device.read(d.CONFIG + 2, 2) == 43
    assert console.device.read(d.CONFIG + 4, 4) == 1
    assert console.offered & 0b111 == 0b101  # SIZE and EMERG_WRITE, not MULTIPORT


def test_a_new_size_is_told(console: Driver) -> None:
    console.start()
    generation = console.read(d.CONFIG_GENERATION)
    console.device.device.resize(100, 50)
    assert console.read(d.CONFIG_GENERATION) == generation + 1
    assert (console.read(d.INTERRUPT_STATUS), console.edges) == (2, 1)
    assert console.device.read(d.CONFIG, 4) == 50 << 16 | 100


def test_emergency_write_needs_no_driver(console: Driver, printed: bytearray) -> None:
    for character in b"oops":
        console.device.write(d.CONFIG + 8, 4, 0xFFFF_FF00 | character)
    console.device.write(d.CONFIG + 4, 4, 0x41)
    console.device.write(d.CONFIG + 9, 1, 0x41)
    assert printed == b"oops"


def test_a_huge_request_comes_in_pieces(guest: Guest) -> None:
    pieces: list[int] = []
    console = Driver(
        VirtioMmio(VirtioConsole(lambda data: pieces.append(len(data))), guest, d.BASE, lambda level: None), guest
    )
    console.start()
    console.request(b"x" * (2 * AT_ONCE + 1), queue=TRANSMIT)
    assert pieces == [AT_ONCE, AT_ONCE, 1]


def test_a_closed_pipe_does_not_stop_the_guest(guest: Guest) -> None:
    def closed(data: bytes) -> None:
        raise BrokenPipeError

    console = Driver(VirtioMmio(VirtioConsole(closed), guest, d.BASE, lambda level: None), guest)
    console.start()
    assert console.request(b"lost", queue=TRANSMIT) == (0, b"")
    assert not console.broken


def test_buffers_in_the_wrong_direction_break_it(console: Driver, printed: bytearray) -> None:
    _, transmit = console.start()
    transmit.add(b"half", 4)
    console.notify(TRANSMIT)
    assert console.broken
    assert printed == b""
    receive, _ = console.start()
    console.device.device.feed(b"x")
    receive.add(b"half", 4)
    console.notify(RECEIVE)
    assert console.broken
