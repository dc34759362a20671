"""Every device under a hostile guest: any access, in any order, at any moment.

No exception leaves a device, what is read fits its size, and a device that was saved and loaded half-way goes on
exactly like the one it was copied from. MINIVMM_FUZZ=200000 sets how many operations each device gets.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minivmm.bus import Device
from minivmm.devices.acpi_pm import AcpiPm
from minivmm.devices.boot_timer import BootTimer
from minivmm.devices.debug_exit import DebugExit
from minivmm.devices.i8042 import I8042
from minivmm.devices.post_code import PostCode
from minivmm.devices.rtc import Rtc
from minivmm.devices.uart import Uart
from minivmm.devices.vmware_backdoor import MAGIC, VmwareBackdoor

OPERATIONS = int(os.environ.get("MINIVMM_FUZZ", "3000"))  # by device
LENGTH = 60  # in a run
STEP = 8  # bytes of input for one operation


@dataclass
class Subject:
    """A device in its surroundings: its windows, the host's side of it, and what it said to the host."""

    now: int = 1_000
    heard: list[Any] = field(default_factory=list)
    windows: list[Device] = field(default_factory=list)
    host: list[Callable[[int], object]] = field(default_factory=list)  # what the host may do, with a byte of its choice

    def clock(self) -> int:
        return self.now

    def hear(self, what: Any = None) -> None:
        self.heard.append(what)

    def until(self, due: int | None) -> int | None:
        """How long until then: a copy lives at another time."""
        return None if due is None else due - self.now

    def save(self) -> str:
        """As it would be in a snapshot: plain data."""
        return json.dumps([window.save() for window in self.windows])

    def load(self, state: str) -> None:
        for window, part in zip(self.windows, json.loads(state), strict=True):
            window.load(part)

    def do(self, step: bytes) -> Any:
        """One operation; whatever can be seen of it."""
        kind, where, size, *value = step
        self.heard.clear()
        window = self.windows[where % len(self.windows)]
        offset = where // len(self.windows) % len(window.claim)
        size = min((1, 2, 4, 1)[size & 3], len(window.claim) - offset)  # the bus lets no more through
        seen: Any = None
        if kind < 110:
            seen = window.read(offset, size)
            assert 0 <= seen < 1 << 8 * size
        elif kind < 220:
            window.write(offset, size, int.from_bytes(value[:size], "little"))
        elif kind < 235:
            self.now += int.from_bytes(value[:4], "little") << value[4] % 24
        elif self.host:
            seen = self.host[where % len(self.host)](value[0])
        return seen, list(self.heard)


def uart() -> Subject:
    subject = Subject()
    device = Uart(subject.hear, set_line=subject.hear)
    subject.windows = [device]
    subject.host = [lambda byte: device.feed(bytes((byte,)) * (byte & 31)), lambda byte: device.feed_break()]
    return subject


def rtc() -> Subject:
    subject = Subject()
    device = Rtc(subject.hear, subject.clock, lambda: 951_868_799 * 10**9 + 5, low_memory=1 << 30)
    subject.windows = [device]
    subject.host = [
        lambda byte: device.advance(),
        lambda byte: subject.until(device.next_event()),
        lambda byte: device.write(0, 1, byte & 0x0F),  # chance alone finds the first 16 registers too seldom
    ]
    return subject


def acpi_pm() -> Subject:
    subject = Subject()
    device = AcpiPm(subject.hear, subject.clock, subject.hear, subject.hear)
    subject.windows = list(device.ports)
    subject.host = [
        lambda byte: device.advance(),
        lambda byte: subject.until(device.next_event()),
        lambda byte: device.press_power_button(),
        lambda byte: device.raise_gpe(byte & 7),
    ]
    return subject


def i8042() -> Subject:
    subject = Subject()
    device = I8042(subject.hear, subject.hear)
    subject.windows = list(device.ports)
    keys = ["a", "up", "f12", "kpenter"]
    subject.host = [
        lambda byte: device.type("Ab~\n"[byte & 3]),
        lambda byte: device.press(keys[byte & 3]),
        lambda byte: device.release(keys[byte & 3]),
    ]
    return subject


def backdoor() -> Subject:
    subject = Subject()
    regs = SimpleNamespace(rax=0, rcx=0)
    device = VmwareBackdoor(
        lambda: regs, lambda **fields: subject.hear(fields), lambda: 10**18, memory=5 << 30, tsc_hz=3 * 10**9
    )

    def call(byte: int) -> int:
        regs.rax, regs.rcx = (MAGIC, MAGIC, 0, 1 << 63 | MAGIC)[byte >> 6], byte & 0x3F
        answer = device.read(0, 4)
        regs.rax = regs.rcx = 0  # the caller's, and no state of the device
        assert 0 <= answer < 1 << 32
        return answer

    subject.windows, subject.host = [device], [call]
    return subject


def boot_timer() -> Subject:
    subject = Subject()
    subject.windows = [BootTimer(subject.clock, subject.hear)]
    return subject


def debug_exit() -> Subject:
    subject = Subject()
    subject.windows = [DebugExit(subject.hear)]
    return subject


def post_code() -> Subject:
    return Subject(windows=[PostCode()])


SUBJECTS = [uart, rtc, acpi_pm, i8042, backdoor, boot_timer, debug_exit, post_code]


@pytest.mark.parametrize("make", SUBJECTS, ids=lambda make: make.__name__)
def test_any_guest(make: Callable[[], Subject]) -> None:
    done = 0

    @settings(
        max_examples=-(-OPERATIONS // LENGTH),
        deadline=None,
        database=None,
        derandomize="MINIVMM_FUZZ" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.binary(min_size=LENGTH * STEP, max_size=LENGTH * STEP), st.integers(0, LENGTH - 1))
    def run(script: bytes, half: int) -> None:
        nonlocal done
        subject = make()
        for at in range(half):
            subject.do(script[at * STEP :][:STEP])
        copy = make()
        copy.now = subject.now + 987_654_321
        copy.load(subject.save())
        assert copy.save() == subject.save()
        for at in range(half, LENGTH):
            step = script[at * STEP :][:STEP]
            assert copy.do(step) == subject.do(step)
        assert copy.save() == subject.save()
        done += LENGTH

    run()
    assert done >= OPERATIONS
