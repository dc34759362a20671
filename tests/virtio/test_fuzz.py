"""Hostile guests, made up by hypothesis: registers, then the contents of every queue.

What must hold, whatever they do: no exception leaves a device, nothing outside guest memory is touched (`guest.Watched`
asserts it at every access, the canaries afterwards), the work done is bounded by what was asked for, the disk keeps its
size, and after a reset the device works.

    MINIVMM_FUZZ=200000 pytest tests/virtio/test_fuzz.py        # that many operations on each device and each queue
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import driver as d
import pytest
from driver import Driver
from guest import HIGH, PAGE, RAM, ROM, Guest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from minivmm.virtio.block import VirtioBlock
from minivmm.virtio.blockfile import BlockFile
from minivmm.virtio.chain import Chain
from minivmm.virtio.console import VirtioConsole
from minivmm.virtio.device import VirtioDevice
from minivmm.virtio.mmio import VirtioMmio
from minivmm.virtio.rng import VirtioRng
from minivmm.virtio.worker import Worker

OPERATIONS = int(os.environ.get("MINIVMM_FUZZ", "1500"))
A_RUN = 50  # operations in one example
SECTORS = 16


@dataclass
class Machine:
    """A device with a guest that can be driven mad, and the count of what was done."""

    device: VirtioDevice
    guest: Guest = field(default_factory=Guest)
    served: int = 0
    printed: int = 0

    def __post_init__(self) -> None:
        self.driver = Driver(VirtioMmio(self.device, self.guest, d.BASE, lambda level: None), self.guest)
        serve = self.device.serve

        def counted(queue: int, chain: Chain) -> int:
            self.served += 1
            assert len(chain.readable) + len(chain.writable) <= 2 * max(self.device.queue_sizes)  # a slot border each
            written = serve(queue, chain)
            assert 0 <= written <= sum(map(len, chain.writable))
            return written

        self.device.serve = counted  # type: ignore[method-assign]


def rng() -> Iterator[Machine]:
    yield Machine(VirtioRng(lambda n: b"\x5a" * n))


def console() -> Iterator[Machine]:
    machine = Machine(VirtioConsole(lambda data: setattr(machine, "printed", machine.printed + len(data))))
    yield machine


def block(read_only: bool = False) -> Iterator[Machine]:
    with tempfile.NamedTemporaryFile() as file:
        content = os.urandom(SECTORS * 512)
        file.write(content)
        file.flush()
        with BlockFile(file.name, read_only=read_only) as image:
            yield Machine(VirtioBlock(image))
        file.seek(0)
        after = file.read()
        assert len(after) == SECTORS * 512
        assert not read_only or after == content


DEVICES: dict[str, Callable[[], Iterator[Machine]]] = {
    "rng": rng,
    "console": console,
    "block": block,
    "read-only block": lambda: block(read_only=True),
}


def fuzz(make: Callable[[], Iterator[Machine]], operations: st.SearchStrategy[Any], run: Any) -> None:
    """Runs `run(machine, operations)` on fresh machines until OPERATIONS were done."""
    done = 0

    @settings(
        max_examples=OPERATIONS // A_RUN + 1,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(st.lists(operations, min_size=A_RUN, max_size=A_RUN))
    def one(chosen: list[Any]) -> None:
        nonlocal done
        for machine in make():
            run(machine, chosen)
            machine.guest.assert_borders_intact()
            _still_works(machine)
        done += len(chosen)

    one()
    assert done >= OPERATIONS


def _still_works(machine: Machine) -> None:
    """After a reset, an ordinary request gets its ordinary answer. The used memory is given back to the test first."""
    guest, driver = machine.guest, machine.driver
    guest._free = RAM
    driver.start()
    kind = machine.device.device_id
    if kind == 4:
        assert driver.request(8) == (8, b"\x5a" * 8)
    elif kind == 3:
        before = machine.printed
        assert driver.request(b"alive", queue=1) == (0, b"")
        assert machine.printed == before + 5
    else:
        assert driver.request(bytes(16), 512, 1)[0] == 513
    assert not driver.broken


# ---- registers ----

KNOWN = [0x000, 0x008, 0x010, 0x014, 0x020, 0x024, 0x030, 0x034, 0x038, 0x044, 0x050, 0x060, 0x064, 0x070]
KNOWN += [0x080, 0x084, 0x090, 0x094, 0x0A0, 0x0A4, 0x0AC, 0x0B0, 0x0C0, 0x0FC, 0x100, 0x108]
values = st.one_of(
    st.integers(0, 3),
    st.sampled_from([0x0F, 8, 64, 0x1000_0000, 0x2000_0000, RAM, RAM + 0x1000, HIGH - 16, 0xFFFF_FFFF, 1 << 31]),
    st.integers(0, 0xFFFF_FFFF),
)
register_operations = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(KNOWN), st.just(4), values),
    st.tuples(st.just("write"), st.integers(0, 0x1FF), st.sampled_from([1, 2, 4, 8]), st.integers(0, (1 << 64) - 1)),
    st.tuples(st.just("read"), st.integers(0, 0x1FF), st.sampled_from([1, 2, 4, 8]), st.just(0)),
    st.tuples(st.just("start"), st.just(0), st.just(0), st.sampled_from([0, d.EVENT_IDX, d.INDIRECT_DESC])),
    st.tuples(st.just("memory"), st.integers(0, 0x400), st.just(0), st.integers(0, 255)),
    st.tuples(st.just("feed"), st.just(0), st.just(0), st.just(0)),
)


@pytest.mark.parametrize("name", DEVICES)
def test_registers(name: str) -> None:
    def run(machine: Machine, operations: list[tuple[str, int, int, int]]) -> None:
        device, guest = machine.driver.device, machine.guest
        for what, offset, size, value in operations:
            match what:
                case "write":
                    device.write(offset, size, value & (1 << 8 * size) - 1)
                case "read":
                    assert 0 <= device.read(offset, size) < 1 << 8 * size
                case "start":
                    guest._free = RAM
                    machine.driver.start(value & device.offered)
                case "memory":
                    guest.write(RAM + offset, bytes([value]))
                case "feed" if isinstance(machine.device, VirtioConsole):
                    machine.device.feed(b"x" * 10)
        # A notification serves a queue at most; a status write or a feed serves each of them.
        assert machine.served <= len(operations) * sum(machine.device.queue_sizes)
        state = json.loads(json.dumps(device.save()))
        device.load(state)
        assert device.save() == state

    fuzz(DEVICES[name], register_operations, run)


# ---- queues ----

PLACES = [RAM + 0x4000 + 0x200 * i for i in range(8)]
addresses = st.one_of(
    st.sampled_from([*PLACES, HIGH - 8, HIGH - 512, HIGH + PAGE - 16, HIGH + PAGE, ROM, ROM + PAGE - 1]),
    st.sampled_from([0, RAM - 1, RAM, 1 << 32, (1 << 64) - 1, (1 << 64) - 16]),
    st.integers(RAM, HIGH + 2 * PAGE),
)
lengths = st.one_of(
    st.sampled_from([0, 1, 15, 16, 17, 20, 32, 48, 64, 128, 511, 512, 513, 1024, 1025, 0x1000, 0x8_0000, 0xFFFF_FFFF]),
    st.integers(0, 0xFFFF_FFFF),
)
flags = st.one_of(st.sampled_from([0, 1, 1, 2, 2, 3, 4]), st.integers(0, 0xFFFF))
following = st.one_of(st.integers(0, 8), st.sampled_from([63, 0xFFFF]))
queue_operations = st.one_of(
    st.tuples(st.just("descriptor"), st.integers(0, 7), addresses, lengths, flags, following),
    st.tuples(st.just("table"), st.integers(0, 7), addresses, lengths, flags, following),
    st.tuples(
        st.just("header"),
        st.integers(0, 7),
        st.sampled_from([0, 1, 4, 8, 11, 13, 13, 99]),
        st.one_of(st.integers(0, SECTORS), st.sampled_from([(1 << 55) - 1, (1 << 64) - 1])),
        st.integers(0, 40),
        st.integers(0, 2),
    ),
    st.tuples(st.just("offer"), st.one_of(st.integers(0, 8), st.integers(0, 0xFFFF))),
    st.tuples(st.just("well-formed"), st.integers(0, 7), st.sampled_from(PLACES), lengths, st.booleans()),
    st.tuples(st.just("index"), st.integers(0, 0xFFFF)),
    st.tuples(st.just("scribble"), st.integers(0, 0x3FF), st.integers(0, 255)),
    st.tuples(st.just("feed"), st.sampled_from([1, 64, 5000])),
    st.tuples(st.just("restart"), st.sampled_from([d.EVENT_IDX, d.INDIRECT_DESC, d.INDIRECT_DESC | d.EVENT_IDX])),
)


def _act(machine: Machine, queue_index: int, operation: tuple[Any, ...]) -> None:
    guest, driver = machine.guest, machine.driver
    queue = driver.queues[queue_index]
    match operation:
        case ("descriptor", index, address, length, flag, after):
            queue.describe(queue.descriptors, index, address, length, flag, after)
        case ("table", index, address, length, flag, after):  # where an indirect descriptor may well point to
            d.describe(guest, PLACES[0], index, address, length, flag, after)
        case ("header", place, kind, sector, count, flag):
            guest.write(PLACES[place], kind.to_bytes(8, "little") + sector.to_bytes(8, "little"))
            guest.write(PLACES[place] + 16, sector.to_bytes(8, "little") + count.to_bytes(4, "little") + bytes([flag]))
        case ("offer", head):
            queue.offer(head)
        case ("well-formed", index, address, length, indirect):
            # Header, data, status: near enough to a request that the device looks at what it asks for.
            table, first = (PLACES[0], 0) if indirect else (queue.descriptors, index % 6)
            reading = guest.get(address, 4) in (0, 8)
            sizes = (16, length % 0x2000 or 1, 1)
            for i, size in enumerate(sizes):
                writable = i == 2 or (i == 1 and reading)
                d.describe(guest, table, first + i, address + 16 * i, size, (i < 2) | 2 * writable, first + i + 1)
            if indirect:
                queue.describe(queue.descriptors, index, table, 48, d.D_INDIRECT)
            queue.offer(index if indirect else first)
        case ("index", index):
            queue.added = index
            guest.put(queue.available + 2, 2, index)
        case ("scribble", offset, value):
            guest.write(queue.descriptors + offset, bytes([value]))
        case ("feed", size) if isinstance(machine.device, VirtioConsole):
            machine.device.feed(b"y" * size)
        case ("restart", features):
            _restart(machine, features)


def _restart(machine: Machine, features: int) -> None:
    machine.guest._free = RAM
    machine.driver.start(features | machine.device.features)


QUEUES = [(name, index) for name, make in DEVICES.items() for index in range(2 if name == "console" else 1)]


@pytest.mark.parametrize(("name", "index"), QUEUES)
def test_queues(name: str, index: int) -> None:
    served = 0

    def run(machine: Machine, operations: list[tuple[Any, ...]]) -> None:
        nonlocal served
        _restart(machine, d.INDIRECT_DESC | d.EVENT_IDX)
        for operation in operations:
            _act(machine, index, operation)
            machine.driver.notify(index)
            if machine.driver.broken:
                assert machine.driver.device.error
                assert machine.driver.read(d.INTERRUPT_STATUS) & 2
                _restart(machine, d.INDIRECT_DESC)
        assert machine.served <= 2 * len(operations) * sum(machine.device.queue_sizes)
        served += machine.served

    fuzz(DEVICES[name], queue_operations, run)
    assert served > OPERATIONS // 100, "the guests were so mad that hardly a request came through: a useless test"


def test_a_guest_that_changes_its_mind(monkeypatch: pytest.MonkeyPatch) -> None:
    """One vCPU scribbles over descriptors and rings while the device's own thread reads them."""
    failures: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    for machine in block():
        driver, guest = machine.driver, machine.guest
        with Worker(driver.device):
            for round_ in range(max(20, OPERATIONS // 500)):
                guest._free = RAM
                (queue,) = driver.start()
                for i in range(50):
                    for index, (address, length, flag) in enumerate(
                        [(PLACES[1], 16, 1), (PLACES[2], 512 * (i % 3), 3), (PLACES[3], i % 2, 2)]
                    ):
                        queue.describe(queue.descriptors, index, address, length, flag, index + 1)
                    queue.offer(0)
                    driver.notify()
                    queue.describe(queue.descriptors, i % 3, (1 << 64) - 1 - i, 0xFFFF_FFFF, (round_ + i) % 8, i)
                    guest.put(PLACES[1] + 8, 8, i * round_)
                driver.write(d.STATUS, 0)
        guest.assert_borders_intact()
        _still_works(machine)
    assert not failures
