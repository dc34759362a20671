"""Runs a reference guest in a Machine with one extra device, on the port that the guest is told to use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from minivmm import guests
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine, Stop

PORT = 0x500


@dataclass
class Scripted:
    """A port that answers from a list, then with all ones, and keeps what is written to it."""

    answers: Iterator[int]
    name: str = "scripted"
    claim: range = range(PORT, PORT + 4)
    written: list[tuple[int, int]] = field(default_factory=list)

    def read(self, offset: int, size: int) -> int:
        return next(self.answers, (1 << 8 * size) - 1)

    def write(self, offset: int, size: int, value: int) -> None:
        self.written.append((size, value))

    def save(self) -> dict[str, Any]:
        return {}

    def load(self, state: dict[str, Any]) -> None:
        pass

    @property
    def data(self) -> bytes:
        return b"".join(value.to_bytes(size, "little") for size, value in self.written)


@dataclass
class Run:
    """A run that has ended, its machine still open."""

    stop: Stop
    device: Scripted
    machine: Machine

    @property
    def printed(self) -> bytes:
        return self.device.data


@pytest.fixture
def run_guest(backend: Backend) -> Iterator[Callable[..., Run]]:
    """run_guest(name, answers=(), prepare=…, memory=…, timeout=…, **parameters) -> Run."""
    machines: list[Machine] = []

    def run(
        name: str,
        *,
        answers: Any = (),
        memory: int = 1 << 20,
        before: Callable[[Machine], object] = lambda machine: None,
        prepare: Callable[[Machine], object] = lambda machine: None,
        timeout: float = 10,
        **parameters: int,
    ) -> Run:
        device = Scripted(iter(answers))
        machine = Machine(memory, backend, devices=[device])
        machines.append(machine)
        before(machine)
        machine.vcpu.set_cpuid(machine.vm.supported_cpuid())  # or CPUID is all zeros, and LME can't be set
        machine.load_guest(guests.load(name), **parameters)
        prepare(machine)
        return Run(machine.run(timeout), device, machine)

    yield run
    for machine in machines:
        machine.close()
