"""The tracer: what it writes for each exit, what it measures, and that it never stops a machine."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from minivmm import guests
from minivmm.bus import Bus
from minivmm.devices.uart import Uart
from minivmm.exits import Exit, Halted, Interrupted, MmioRead, PortIn, PortOut
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine
from minivmm.trace import TraceFilter, Tracer


class Clock:
    """A clock that goes where it is told, in ns."""

    def __init__(self) -> None:
        self.now = 1_000

    def __call__(self) -> int:
        return self.now


class Script:
    """A vCPU that has these exits, each after the guest ran for 2 µs."""

    def __init__(self, clock: Clock, *exits: Exit, index: int = 0) -> None:
        self.index = index
        self._clock, self._exits = clock, iter(exits)

    def run(self) -> Exit:
        self._clock.now += 2_000
        return next(self._exits)


def lines(file: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.getvalue().splitlines()]


@pytest.fixture
def ports() -> Bus:
    bus = Bus("port")
    bus.attach(Uart(lambda data: None))
    return bus


def test_a_line_has_the_exit_its_answer_and_its_times(ports: Bus) -> None:
    clock, file, answer = Clock(), io.StringIO(), bytearray(1)
    vcpu = Script(clock, PortIn(0x3FD, 1, 1, memoryview(answer)), PortOut(0x80, 1, 1, b"\xaa"), Halted())
    with Tracer(file, ports=ports, clock=clock) as tracer:
        run = tracer.wrap(vcpu)
        run()
        answer[0] = 0x60  # the device answers while the exit is served
        clock.now += 5_000
        run()
        run()
    status, post, halt, summary = lines(file)
    assert status == {
        "seconds": 0.000002,
        "exit": "KVM_EXIT_IO",
        "text": "in8 port 0x3fd",
        "cpu": 0,
        "kind": "in",
        "device": "16550 UART",
        "port": 0x3FD,
        "size": 1,
        "count": 1,
        "data": "60",
        "guest_us": 2.0,
        "service_us": 5.0,
    }
    assert (post["device"], post["data"], post["service_us"]) == ("", "aa", 0.0)
    assert (halt["kind"], halt["guest_us"], halt["service_us"]) == ("hlt", 2.0, None)
    assert summary["summary"]["exits"] == summary["summary"]["written"] == 3


def test_the_summary_counts_what_the_filter_leaves_out(ports: Bus) -> None:
    clock, file = Clock(), io.StringIO()
    vcpu = Script(clock, *[PortOut(0x3F8, 1, 1, b"x")] * 3, Interrupted(), MmioRead(0x10, 4, memoryview(bytes(4))))
    with Tracer(file, TraceFilter("mmio"), ports=ports, mmio=Bus("address"), clock=clock) as tracer:
        run = tracer.wrap(vcpu)
        for _ in range(5):
            clock.now += 1_000
            run()
    read, summary = lines(file)
    assert (read["kind"], read["address"]) == ("read", 0x10)
    rows = {(row["kind"], row["device"]): row for row in summary["summary"]["rows"]}
    assert {key: row["count"] for key, row in rows.items()} == {
        ("out", "16550 UART"): 3,
        ("kick", ""): 1,
        ("read", ""): 1,
    }
    assert rows["out", "16550 UART"]["service_us"] == {"p50": 1.0, "p90": 1.0, "p99": 1.0, "max": 1.0}
    assert rows["out", "16550 UART"]["guest_us"]["max"] == 2.0
    assert summary["summary"]["guest_seconds"] == pytest.approx(10e-6)
    assert summary["summary"]["service_seconds"] == pytest.approx(4e-6)  # the last one was never served
    assert summary["summary"]["written"] == 1


def test_several_vcpus_share_a_summary() -> None:
    clock, file = Clock(), io.StringIO()
    with Tracer(file, TraceFilter("cpu=1"), clock=clock) as tracer:
        for index in range(2):
            run = tracer.wrap(Script(clock, Halted(), index=index))
            run()
        assert tracer.statistics().count == 0  # neither has been served yet
    assert [line.get("cpu") for line in lines(file)] == [1, None]
    assert tracer.statistics().count == 2


def test_the_table_for_a_person(ports: Bus) -> None:
    clock = Clock()
    tracer = Tracer(ports=ports, clock=clock)
    assert tracer.statistics().text() == "No exits yet."
    run = tracer.wrap(Script(clock, *[PortOut(0x3F8, 1, 1, b"x")] * 2, Halted()))
    for _ in range(3):
        run()
        clock.now += 7_000
    tracer.close()
    text = tracer.statistics().text().splitlines()
    assert text[1].split() == ["exit", "device", "count", *("p50", "p90", "p99", "max"), "p50", "max"]
    assert text[2].split() == ["out", "16550", "UART", "2", *["7.0"] * 4, "2.0", "2.0"]
    assert text[3].split() == ["hlt", "-", "1", *["-"] * 4, "2.0", "2.0"]
    assert text[4].split() == ["all", "3"]


class Full(io.StringIO):
    """A file on a disk that is full."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_the_tracers_own_time_counts_for_nobody() -> None:
    clock = Clock()

    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            clock.now += 100_000
            return super().write(text)

    tracer = Tracer(Slow(), clock=clock)
    run = tracer.wrap(Script(clock, *[PortOut(0x80, 1, 1, b"x")] * 3))
    for _ in range(3):
        run()
        clock.now += 1_000
    row = tracer.statistics().rows["out", ""]
    assert (row.guest.largest, row.service.largest) == (2_000, 1_000)


def test_without_kicks_the_guests_time_goes_on_through_them() -> None:
    clock, file = Clock(), io.StringIO()
    vcpu = Script(clock, Interrupted(), Interrupted(), PortOut(0x80, 1, 1, b"x"), Interrupted(), Halted())
    with Tracer(file, TraceFilter("out,hlt,kick"), clock=clock, kicks=False) as tracer:
        run = tracer.wrap(vcpu)
        seen = [run() for _ in range(5)]
    assert [type(exit) for exit in seen].count(Interrupted) == 3  # whoever runs the vCPU gets them
    *written, last = lines(file)
    assert [(line["kind"], line["guest_us"]) for line in written] == [("out", 6.0), ("hlt", 4.0)]
    assert (last["summary"]["exits"], last["summary"]["guest_seconds"]) == (2, 10e-6)


class FullAtLast(io.StringIO):
    """A file that keeps what is written in a buffer, and finds out too late."""

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


def test_a_disk_that_is_full_at_the_end() -> None:
    with Tracer(FullAtLast()) as tracer:
        tracer.wrap(Script(Clock(), Halted()))()
    assert tracer.problem == "The trace is incomplete: No space left on device."


def test_a_full_disk_ends_the_trace_and_not_the_machine() -> None:
    tracer = Tracer(Full())
    run = tracer.wrap(Script(Clock(), Halted(), Halted()))
    assert isinstance(run(), Halted)
    assert isinstance(run(), Halted)
    tracer.close()
    assert tracer.problem == "The trace is incomplete: No space left on device."
    assert tracer.statistics().count == 2


def test_a_real_guest(backend: Backend) -> None:
    file = io.StringIO()
    with Machine(1 << 20, backend) as machine, Tracer(file, ports=machine.ports, mmio=machine.mmio) as tracer:
        machine.load_guest(guests.load("hello"), nonce=1)
        setattr(machine.vcpu, "run", tracer.wrap(machine.vcpu))  # noqa: B010
        assert machine.run(10).reason == "halted"
    *exits, summary = lines(file)
    assert bytes.fromhex("".join(line["data"] for line in exits[:-1])) == b"Hello, 0000000000000001\n"
    assert {line["device"] for line in exits} == {"16550 UART", ""}
    assert sorted(line["seconds"] for line in exits) == [line["seconds"] for line in exits]
    assert summary["summary"]["exits"] >= 25
