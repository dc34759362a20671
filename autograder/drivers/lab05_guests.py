"""Drivers of lab 05 that give a guest to the student's parts. Sandbox side: no answers."""

from __future__ import annotations

from typing import Any

from autograder.drivers.base import Student, attempt, recording
from autograder.drivers.lab05_parts import PARTS, alone
from autograder.drivers.lab05_rig import PAGE, Bounded, Listed, Observed, a_page, on_the_bench
from minivmm.kvm import KVM_EXIT_HLT, KVM_EXIT_IO, KVM_EXIT_MMIO
from minivmm.lab05 import Mixer, Registers, Tape, empty_ring
from minivmm.soft.coalesced import put

NAMES = ("Bus", "attach", "find", "cycles", "read", "write", "serve_port", "serve_mmio", "drain", "work")
CONSOLE = 8192  # bytes that go back


def report(bench: Bounded, rec: Any) -> Observed:
    return {"console": bench.console.encode()[:CONSOLE], "exits": rec.exits[-12:]}


def strings(student: Student, inputs: Observed) -> Observed:
    """string-echo on a tape."""
    where = inputs["parameters"]
    tape = Tape("tape", range(where["port"], where["port"] + 16), where["width"], inputs["contents"])
    with recording() as rec:
        bench = on_the_bench(rec, PARTS | {"serve_port": alone(student.target)}, inputs, ports=[tape])
        bench.play()
        return report(bench, rec) | {"console": bytes(tape.written[:CONSOLE])}


def walked(student: Student, inputs: Observed) -> Observed:
    """mmio-walker over devices of ours, its exits served by the student; the devices' bytes at the end come too."""
    devices = [Listed([], *each) for each in inputs["devices"]]
    with recording() as rec:
        bench = on_the_bench(rec, PARTS | {"serve_mmio": alone(student.target)}, inputs, mmio=devices)
        bench.play()
        return report(bench, rec) | {"bytes": {each.name: bytes(each.bytes) for each in devices}}


def mixed(student: Student, inputs: Observed) -> Observed:
    """mixer in the student's run loop, its writes in the ring, among parts of ours; or exits made up, in a script; or
    one that nobody knows."""
    if "steps" in inputs:
        return scripted(alone(student.target), inputs)
    if "reason" in inputs:
        page, exits = a_page(), Exits(1)

        def go() -> None:
            next(exits)
            page.exit_reason = inputs["reason"]

        return attempt(alone(student.target), go, page, empty_ring(), PARTS["Bus"](), PARTS["Bus"]())
    return _mixed(inputs, PARTS | {"work": alone(student.target)})


class WentOnError(RuntimeError):
    """The loop wants another exit where there is none."""


class Exits:
    """Counts exits, up to the last."""

    def __init__(self, count: int) -> None:
        self._places = iter(range(count))

    def __next__(self) -> int:
        for place in self._places:
            return place
        raise WentOnError("the guest has come to its end, and the loop goes on")


def scripted(loop: Any, inputs: Observed) -> Observed:
    """Exits made up: [entries that wait, kind, address, data] each, with [pio, address, data] for an entry."""
    log: list[Any] = []
    page, ring, exits = a_page(), empty_ring(), Exits(len(inputs["steps"]))
    ports, mmio = (PARTS["Bus"]([Listed(log, *each) for each in inputs[bus]]) for bus in ("ports", "mmio"))

    def go() -> None:
        entries, kind, *where = inputs["steps"][next(exits)]
        for pio, address, data in entries:
            put(ring, pio, address, data)
        if kind == "hlt":
            page.exit_reason = KVM_EXIT_HLT
        elif kind in ("in", "out"):
            page.exit_reason, io = KVM_EXIT_IO, page.io
            io.direction, io.size, io.port, io.count = int(kind == "out"), 4, where[0], 1
            io.data_offset = PAGE
            page.page[PAGE : PAGE + 4] = where[1]
        else:
            page.exit_reason, mmio_exit = KVM_EXIT_MMIO, page.mmio
            mmio_exit.phys_addr, mmio_exit.len, mmio_exit.is_write = where[0], 4, kind == "write"
            mmio_exit.data = where[1].ljust(8, b"\xaa")

    loop(go, page, ring, ports, mmio)
    return {"log": log}


def chain_of_parts(student: Student, inputs: Observed) -> Observed:
    """The same with every part the student's own."""
    return _mixed(inputs, {name: student.get(name) for name in NAMES})


def _mixed(inputs: Observed, parts: dict[str, Any]) -> Observed:
    where = inputs["parameters"]
    mixer = Mixer(where["address"], where["value"])
    ports = [Registers(f"card {at:#x}", range(at, at + 8)) for at in inputs["cards"]]
    ports.insert(1, mixer.port)  # neither the first nor the last
    with recording() as rec:
        bench = on_the_bench(
            rec, parts, inputs, ports=ports, mmio=[mixer.memory_mapped], native=inputs["native"],
            zones=[range(where["address"], where["address"] + 4)], port_zones=[mixer.port.claim],
        )  # fmt: skip
        bench.work()
        seen = {"taken": mixer.taken, "total": mixer.total, "left": bench.ring.first != bench.ring.last}
        return report(bench, rec) | seen | {"halted": bench.exits["KVM_EXIT_HLT"]}


class BoxOfTheirs:
    """The student's postbox on a bus: a read that gives no number of 4 bytes is noted, and reads as 0."""

    def __init__(self, box: Any) -> None:
        self.name, self.claim, self.width, self.write = box.name, box.claim, box.width, box.write
        self._read = box.read
        self.odd: list[Any] = []

    def read(self, offset: int, size: int) -> int:
        value = self._read(offset, size)
        if type(value) is int and 0 <= value < 1 << 8 * size:
            return value
        self.odd.append(value)
        return 0


class Sent:
    """Where letters go, with a limit."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def __call__(self, data: Any) -> None:
        if len(self.pieces) < CONSOLE:
            self.pieces.append(bytes(data)[:CONSOLE])


def letters(student: Student, inputs: Observed) -> Observed:
    """postman twice: without a postbox, and with the student's. What came, and how many exits it took."""
    seen: Observed = {}
    for theirs in (False, True):
        sent = Sent()
        with recording() as rec:
            bench = on_the_bench(rec, PARTS, inputs)
            if theirs:
                box = BoxOfTheirs(student.target(inputs["parameters"]["option"], bench.memory, sent))
                PARTS["attach"](bench.ports, box)
                seen["odd"] = box.odd
            bench.play()
            del seen.get("odd", [])[1:]
            name = "with" if theirs else "without"
            text = bench.console.encode() + b"".join(sent.pieces)
            seen |= {name: [text[:CONSOLE], bench.exits.total()], "exits": rec.exits[-12:]}
    return seen


def letters_by_hand(student: Student, inputs: Observed) -> Observed:
    """A guest that lies, by hand: ["write", offset, size, value] or ["read", offset, size] on the student's postbox."""
    memory = bytearray(inputs["memory"])
    for at, data in inputs["letters"]:
        memory[at : at + len(data)] = data
    sent = Sent()
    box = student.target(inputs["port"], memory, sent)
    answers = []
    for kind, *arguments in inputs["script"]:
        before = len(sent.pieces)
        value = getattr(box, kind)(*arguments)
        answers.append([value if kind == "read" else None, b"".join(sent.pieces[before:])])
    claim = box.claim
    return {"answers": answers, "claim": [claim.start, claim.stop] if isinstance(claim, range) else claim,
            "length": len(memory)}  # fmt: skip
