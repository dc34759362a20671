"""A device on a thread of its own. What may happen at once is made to happen, with events instead of waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import driver as d
import pytest
from driver import Driver
from guest import Guest

from minivmm.virtio.chain import Chain
from minivmm.virtio.console import RECEIVE, VirtioConsole
from minivmm.virtio.device import VirtioDevice
from minivmm.virtio.doorbell import Doorbell
from minivmm.virtio.errors import DriverError
from minivmm.virtio.mmio import VirtioMmio
from minivmm.virtio.worker import Worker

PATIENCE = 30  # seconds until a test gives up; nothing here takes a measurable part of it


class Slow(VirtioDevice):
    """Works on a request until it is told to finish it."""

    name = "slow"
    device_id = 42
    queue_sizes = (8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.started = threading.Event()
        self.finish = threading.Event()
        self.threads: list[str] = []
        self.fail = False

    def serve(self, queue: int, chain: Chain) -> int:
        self.threads.append(threading.current_thread().name)
        self.started.set()
        assert self.finish.wait(PATIENCE)
        if self.fail:
            raise DriverError("as the test wants")
        for view in chain.writable:
            view[:] = b"!" * len(view)
        return sum(map(len, chain.writable))


class Machine:
    def __init__(self, guest: Guest) -> None:
        self.slow = Slow()
        self.driver = Driver(VirtioMmio(self.slow, guest, d.BASE, lambda level: None), guest)
        self.interrupted = threading.Semaphore(0)
        self.driver.device.status.pulse = self.interrupted.release
        self.worker = Worker(self.driver.device)

    def wait_for_interrupt(self) -> None:
        assert self.interrupted.acquire(timeout=PATIENCE)


@pytest.fixture
def machine(guest: Guest) -> Iterator[Machine]:
    machine = Machine(guest)
    with machine.worker:
        yield machine
        machine.slow.finish.set()


def test_the_vcpu_runs_on_while_the_device_works(machine: Machine) -> None:
    queue = machine.driver.start(0)[0]
    queue.add(4)
    machine.driver.notify()  # returns at once
    assert machine.slow.started.wait(PATIENCE)
    assert queue.collect() == []
    assert machine.driver.read(d.INTERRUPT_STATUS) == 0  # registers answer meanwhile
    machine.slow.finish.set()
    machine.wait_for_interrupt()
    assert queue.collect() == [(4, b"!!!!")]
    assert machine.slow.threads == ["virtio slow"]


def in_thread(call: object) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread


@pytest.mark.parametrize(("register", "what"), [(d.STATUS, "reset"), (d.QUEUE_READY, "stop")])
def test_reset_and_queue_stop_wait_for_the_request_in_hand(machine: Machine, register: int, what: str) -> None:
    queue = machine.driver.start(0)[0]
    machine.driver.write(d.QUEUE_SEL, 0)
    queue.add(4)
    queue.add(4)
    machine.driver.notify()
    assert machine.slow.started.wait(PATIENCE)
    vcpu = in_thread(lambda: machine.driver.write(register, 0))
    vcpu.join(0.2)
    assert vcpu.is_alive(), f"the {what} didn't wait: the device may write to memory that the driver has back"
    machine.slow.finish.set()
    vcpu.join(PATIENCE)
    assert not vcpu.is_alive()
    assert queue.used_index == 1  # and the second request was never begun
    assert len(machine.slow.threads) == 1


def test_a_request_that_fails_after_the_reset_leaves_the_device_clean(machine: Machine) -> None:
    queue = machine.driver.start(0)[0]
    queue.add(4)
    machine.driver.notify()
    assert machine.slow.started.wait(PATIENCE)
    machine.slow.fail = True
    vcpu = in_thread(lambda: machine.driver.write(d.STATUS, 0))
    vcpu.join(0.2)
    machine.slow.finish.set()
    vcpu.join(PATIENCE)
    assert (machine.driver.status, machine.driver.read(d.INTERRUPT_STATUS)) == (0, 0)
    assert machine.driver.device.error == ""


def test_saving_waits_for_the_request_in_hand(machine: Machine) -> None:
    queue = machine.driver.start(0)[0]
    queue.add(4)
    machine.driver.notify()
    assert machine.slow.started.wait(PATIENCE)
    states: list[dict[str, object]] = []
    saver = in_thread(lambda: states.append(machine.driver.device.save()))
    saver.join(0.2)
    assert states == []
    machine.slow.finish.set()
    saver.join(PATIENCE)
    assert states[0]["queues"][0]["done"] == 1  # type: ignore[index]


def test_the_line_is_driven_with_no_lock_held(machine: Machine) -> None:
    # An interrupt controller has a lock of its own, and a vCPU that holds it may be writing a register of ours.
    driver, done = machine.driver, threading.Event()

    def pulse() -> None:
        other = in_thread(lambda: (driver.write(d.INTERRUPT_ACK, 3), driver.device.save()))
        other.join(PATIENCE)
        if not other.is_alive():
            done.set()

    driver.device.status.pulse = pulse
    machine.slow.finish.set()
    driver.start(0)[0].add(4)
    driver.notify()
    assert done.wait(PATIENCE)
    done.clear()
    driver.queues[0].offer(99)  # a broken driver's interrupt, too
    driver.notify()
    assert done.wait(PATIENCE)
    done.clear()
    driver.write(d.STATUS, 0)
    driver.start(0)
    driver.device.device.config_changed()
    assert done.wait(PATIENCE)


def test_a_busy_queue_does_not_starve_the_other(machine: Machine) -> None:
    driver, slow = machine.driver, machine.slow
    first, second = driver.start(0, size=8)
    for queue in (first, second):
        queue.set_flags(1)
    served: list[int] = []
    enough = threading.Event()

    def serve(index: int, chain: Chain) -> int:
        served.append(index)
        if index == 0:
            first.offer(0)  # a driver on another vCPU that never lets queue 0 run dry
            first.seen += 1
        else:
            enough.set()
        return 0

    slow.serve = serve  # type: ignore[method-assign]
    first.describe(first.descriptors, 0, driver.guest.allocate(4), 4, 0)
    first.offer(0)
    second.add(4)
    driver.notify(0)
    driver.notify(1)
    assert enough.wait(PATIENCE)


def test_a_worker_goes_on_with_what_it_finds(guest: Guest) -> None:
    machine = Machine(guest)
    machine.driver.device.kick = lambda index: None  # a notification that was lost with another process
    queue = machine.driver.start(0)[0]
    queue.add(4)
    machine.driver.notify()
    machine.slow.finish.set()
    with machine.worker:
        machine.wait_for_interrupt()
        assert queue.collect() == [(4, b"!!!!")]


def test_more_than_a_queue_holds_is_served_on_one_notification(machine: Machine) -> None:
    driver, done = machine.driver, threading.Event()
    (queue, _), left = driver.start(0, size=8), [100]

    def serve(index: int, chain: Chain) -> int:
        left[0] -= 1
        if left[0]:
            queue.offer(0)  # the driver sees that we are at it, and doesn't notify again
        else:
            done.set()
        return 0

    machine.slow.serve = serve  # type: ignore[method-assign]
    queue.describe(queue.descriptors, 0, driver.guest.allocate(4), 4, 0)
    queue.offer(0)
    driver.notify()
    assert done.wait(PATIENCE)


def test_input_reaches_a_waiting_guest_through_the_worker(guest: Guest) -> None:
    console = VirtioConsole(lambda data: None)
    driver = Driver(VirtioMmio(console, guest, d.BASE, lambda level: None), guest)
    arrived = threading.Event()
    driver.device.status.pulse = arrived.set
    with Worker(driver.device):
        receive, _ = driver.start(0)
        receive.add(8)
        driver.notify(RECEIVE)
        console.feed(b"typed")
        assert arrived.wait(PATIENCE)
        assert receive.collect() == [(5, b"typed\0\0\0")]
    receive.add(8)
    console.feed(b"later")  # nobody's thread any more: it is done on the spot
    assert receive.collect() == [(5, b"later\0\0\0")]


def test_closing_twice_and_closing_what_never_started(guest: Guest) -> None:
    never = Worker(VirtioMmio(Slow(), guest, d.BASE, lambda level: None))
    never.close()
    never.close()
    never.doorbells[0].ring()  # a late kick hits nothing
    started = Worker(VirtioMmio(Slow(), guest, d.BASE, lambda level: None)).start()
    started.close()
    started.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "virtio slow"]


@pytest.mark.parametrize("eventfds", [True, False])
def test_a_doorbell(eventfds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not eventfds:
        monkeypatch.delattr("os.eventfd")
    bell = Doorbell()
    assert bell.is_eventfd is eventfds
    assert bell.clear() is False
    for _ in range(3):
        bell.ring()
    assert bell.clear() is True
    assert bell.clear() is False
    bell.close()
    assert bell.fileno() == -1
    bell.ring()
    bell.close()


def test_the_worker_runs_without_eventfds_too(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.eventfd")
    machine = Machine(guest)
    machine.slow.finish.set()
    with machine.worker:
        queue = machine.driver.start(0)[1]
        queue.add(2)
        machine.driver.notify(1)
        machine.wait_for_interrupt()
        assert queue.collect() == [(2, b"!!")]
