"""Drivers of lab 05: claims, cycles, exits and rings under the student's hands. Sandbox side: no answers."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

from autograder.drivers.base import Student, attempt, recording
from autograder.drivers.lab05_guests import chain_of_parts, letters, letters_by_hand, mixed, strings, walked
from autograder.drivers.lab05_parts import PARTS, Bus, alone, serve_port
from autograder.drivers.lab05_rig import Claim, Items, Listed, Observed, a_page, as_lists, bus_of, on_the_bench, who
from autograder.drivers.lab05_stretch import aliases_of, ring_filled, routes, rung
from minivmm.lab05 import empty_ring

__all__ = [
    "aliases_of", "called_with", "chain_of_parts", "claims_attached", "cut", "found", "letters", "letters_by_hand",
    "memory_exits", "mixed", "port_exits", "reads", "ring_drained", "ring_filled", "routes", "rung", "writes",
]  # fmt: skip


def called_with(student: Student, inputs: Observed) -> Observed:
    """What the student's function answers to each list of arguments, and whether it left them as they were."""
    values, kept = [], []
    for arguments in inputs["calls"]:
        given = deepcopy(arguments)
        values.append(alone(student.target)(*given))
        kept.append(given == arguments)
    return {"values": values, "kept": kept}


# ---- claims ----


def claims_attached(student: Student, inputs: Observed) -> Observed:
    """Attaches one device after the other; the names on the bus come after each."""
    bus = Bus()
    steps = []
    for name, first, count in inputs["claims"]:
        outcome = attempt(student.target, bus, Claim(name, first, count))
        names = [getattr(each, "name", None) for each in bus.devices] if isinstance(bus.devices, list) else None
        steps.append({"raised": outcome.get("raised", ""), "said": outcome.get("said", ""), "names": names})
    return {"steps": steps}


def found(student: Student, inputs: Observed) -> Observed:
    """Who is at each address, and how many claims were looked at."""
    function, bus = alone(student.target), Bus([Claim(*each) for each in inputs["claims"]])
    names, looks = [], []
    for address in inputs["addresses"]:
        before = Claim.looks
        device = function(bus, address)
        looks.append(Claim.looks - before)
        names.append(who(device))
    return {"names": names, "looks": looks}


# ---- cycles ----


def cut(student: Student, inputs: Observed) -> Observed:
    """The cycles of each access, [address, size]."""
    function = alone(student.target)
    bus, _ = bus_of(inputs["devices"])
    values = [function(bus, address, size) for address, size in inputs["accesses"]]
    return {"values": [as_lists(value) for value in values]}


def reads(student: Student, inputs: Observed) -> Observed:
    """What the student reads: [address, size] each; or a guest that reads and writes, with the student's `read`."""
    function = alone(student.target)
    if "guest" in inputs:
        return probed(inputs, read=function)
    bus, log = bus_of(inputs["devices"])
    values = [function(bus, address, size) for address, size in inputs["accesses"]]
    return {"values": values, "log": log, "unclaimed": counted(bus)}


def writes(student: Student, inputs: Observed) -> Observed:
    """What the student writes: [address, size, value] each; or a guest, with the student's `write`."""
    function = alone(student.target)
    if "guest" in inputs:
        return probed(inputs, write=function)
    bus, log = bus_of(inputs["devices"])
    for access in inputs["accesses"]:
        function(bus, *access)
    return {"log": log, "unclaimed": counted(bus)}


def probed(inputs: Observed, **theirs: Any) -> Observed:
    """bus-prober on a bus whose one half is the student's."""
    log: list[Any] = []
    devices = [Listed(log, *each) for each in inputs["devices"]]
    with recording() as rec:
        parts = PARTS | {"serve_port": partial(serve_port, **theirs)}
        bench = on_the_bench(rec, parts, inputs, ports=devices)
        return {"console": bench.play().encode(), "log": log, "unclaimed": counted(bench.ports)}


def counted(bus: Any) -> list[list[Any]]:
    """What the bus has counted, in the order of the addresses."""
    unclaimed = dict(bus.unclaimed)
    return [[at, unclaimed[at]] for at in sorted(unclaimed)]


# ---- exits ----


def port_exits(student: Student, inputs: Observed) -> Observed:
    """Exits made up, by a kernel that puts whole strings into one: the data area and the cycles come after each."""
    if "guest" in inputs:
        return strings(student, inputs)
    function, page = alone(student.target), a_page()
    bus, log = bus_of(inputs["devices"])
    first, count, width, text = inputs["tape"]
    PARTS["attach"](bus, Items("tape", range(first, first + count), width, text))
    areas, logs = [], []
    for direction, size, port, count, offset, data in inputs["exits"]:
        page.page[4096:] = inputs["canary"] * (len(page.page) - 4096)
        page.exit_reason = 2
        io = page.io
        io.direction, io.size, io.port, io.count, io.data_offset = direction, size, port, count, offset
        page.page[offset : offset + len(data)] = data
        start = len(log)
        function(bus, page)
        logs.append(log[start:])
        areas.append(bytes(page.page[offset - 8 : offset + size * count + 8]))
    return {"areas": areas, "logs": logs}


def memory_exits(student: Student, inputs: Observed) -> Observed:
    """MMIO exits made up: [is_write, address, length, data]. What the page holds and the cycles come after each."""
    if "guest" in inputs:
        return walked(student, inputs)
    function, page = alone(student.target), a_page()
    bus, log = bus_of(inputs["devices"])
    answers, logs = [], []
    for is_write, address, length, data in inputs["exits"]:
        page.exit_reason = 6
        mmio = page.mmio
        mmio.is_write, mmio.phys_addr, mmio.len, mmio.data = is_write, address, length, list(data)
        start = len(log)
        function(bus, page)
        logs.append(log[start:])
        answers.append(bytes(mmio.data))
    return {"answers": answers, "logs": logs}


def ring_drained(student: Student, inputs: Observed) -> Observed:
    """Rings made up: [first, entries] each, one after the other; an entry is [pio, address, data]."""
    function, ring = alone(student.target), empty_ring()
    log: list[Any] = []
    ports, mmio = Bus(), Bus()
    for bus, devices in ((ports, inputs["ports"]), (mmio, inputs["mmio"])):
        bus.devices = [Listed(log, *each) for each in devices]
    places = []
    for first, entries in inputs["rings"]:
        ring.first = ring.last = first
        for pio, address, data in entries:
            entry = ring.coalesced_mmio[ring.last]
            entry.phys_addr, entry.len, entry.pio = address, len(data), pio
            entry.data = list(data.ljust(8, b"\xaa"))
            ring.last = (ring.last + 1) % inputs["slots"]
        function(ring, ports, mmio)
        places.append([ring.first, ring.last])
    return {"log": log, "places": places}
