"""What drivers share that give a guest to a whole Machine: making it, serving its MMIO, running it to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from autograder.drivers.base import recording
from minivmm.exits import Exit, PortOut
from minivmm.kvm import KvmError
from minivmm.kvm.run_page import RunPage
from minivmm.machine import Machine

UART = 0x3F8


class Served:
    """In place of the bus of addresses: every MMIO exit goes to `serve`, as the run page that KVM filled."""

    def __init__(self, machine: Machine, serve: Callable[[RunPage], object]) -> None:
        self._machine = machine
        self._serve = serve

    def write_from(self, address: int, size: int, data: object) -> None:
        self._serve(self._machine.vcpu.run_page)

    read_into = write_from


@contextmanager
def a_machine(memory: int) -> Iterator[Machine]:
    """A machine of `memory` bytes whose calls, and the student's, go through a recorder that closes what stays open."""
    with recording() as rec, Machine(memory, backend=rec) as machine:
        yield machine


def run_to_end(machine: Machine, seconds: float, console: int, exits: int) -> dict[str, Any]:
    """Runs the guest, `seconds` at the most, and tells its end, its console, and its exits but for those that print.

    `console` and `exits`: how many bytes of the one and how many of the last of the others go back.
    """
    seen: list[str] = []

    def note(exit: Exit) -> None:
        if not (isinstance(exit, PortOut) and exit.port == UART):
            seen.append(str(exit))
            del seen[:-exits]

    machine.on_exit = note
    try:
        stop = machine.run(seconds)
    except KvmError as error:  # a vCPU without any memory can't even start
        end = {"stop": "died", "why": str(error)}
    else:
        end = {"stop": stop.reason, "why": str(stop.explanation or stop.exit or "").partition("\n")[0]}
    return {"console": bytes(machine.console[:console]), "exits": seen, **end}
