"""Drivers of lab 05's stretch problems. Sandbox side: no answers."""

from __future__ import annotations

from typing import Any

from autograder.drivers.base import Student
from autograder.drivers.lab05_parts import Bus, alone
from autograder.drivers.lab05_rig import PAGE, Claim, Observed, as_lists, who
from minivmm.kvm import ffi, struct
from minivmm.lab05 import empty_ring


def routes(student: Student, inputs: Observed) -> Observed:
    """A script for the student's `Routes`: ["find", address], ["attach", claim], ["detach", name]."""
    bus = Bus([Claim(*each) for each in inputs["claims"]])
    alone(student.target.__init__)
    theirs = student.target(bus)
    names, looks = [], []
    for what, argument in inputs["script"]:
        if what == "attach":
            theirs.attach(Claim(*argument))
        elif what == "detach":
            theirs.detach(next(each for each in bus.devices if each.name == argument))
        else:
            before = Claim.looks
            device = theirs.find(argument)
            looks.append(Claim.looks - before)
            names.append(who(device))
    return {"names": names, "looks": looks, "left": [each.name for each in bus.devices]}


def ring_filled(student: Student, inputs: Observed) -> Observed:
    """The student puts entries into a ring; `taken` are made room for in between."""
    ring = empty_ring()
    ring.first = ring.last = inputs["first"]
    answers, still, page = [], [], ffi.buffer(ring, PAGE)
    for address, data, pio, taken in inputs["entries"]:
        ring.first = (ring.first + taken) % inputs["slots"]
        before = page[:]
        answers.append(student.target(ring, address, data, pio))
        still.append(page[:] == before)
    held: list[Any] = []
    at = ring.first
    while at != ring.last and len(held) <= inputs["slots"]:
        entry = ring.coalesced_mmio[at]
        held.append([entry.phys_addr, bytes(entry.data)[: min(entry.len, 8)], entry.pio])
        at = (at + 1) % inputs["slots"]
    return {"answers": answers, "still": still, "held": held, "places": [ring.first, ring.last]}


def aliases_of(student: Student, inputs: Observed) -> Observed:
    """The ranges that the student gives for a claim, as [first, last + 1]."""
    values = [student.target(range(first, first + count), lines) for first, count, lines in inputs["claims"]]
    return {"values": [[[each.start, each.stop] if isinstance(each, range) else each for each in value]
                       if isinstance(value, list) else value for value in map(as_lists, values)]}  # fmt: skip


def rung(student: Student, inputs: Observed) -> Observed:
    """Whether an access rings the bell: [bell's fields, pio, address, size, value] each."""
    values = []
    for fields, *access in inputs["calls"]:
        values.append(student.target(struct("kvm_ioeventfd", **fields), *access))
    return {"values": values}
