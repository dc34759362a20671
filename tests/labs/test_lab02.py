"""What is special about lab 02: its guests are right, and its states are sound."""

from __future__ import annotations

import pytest

from autograder.nonces import Nonces
from autograder.registry import installed
from autograder.stages import lab02_descriptors as descriptors
from autograder.stages import models
from minivmm import guests
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine
from minivmm.x86.descriptors import Descriptor

LAB = installed().lab("02")


def test_the_lab_is_worth_twenty_points_on_many_guests():
    assert LAB.max_score == 20
    assert sum(bool(check.guests) for check in LAB.checks) >= 8
    used = {name for check in LAB.checks for name in check.guests}
    assert len(used) >= 4


@pytest.mark.parametrize("seed", range(5))
def test_the_judges_and_the_library_agree_on_descriptors(seed):
    for case in descriptors.quads(Nonces(seed, "02", "02.3")):
        for (base, limit, _, flags), raw in zip(case.inputs["fields"], case.expected, strict=True):
            found = Descriptor.decode(raw)
            assert (found.base, found.g) == (base, flags >> 3)
            assert found.limit == (limit << 12 | 0xFFF if flags & 8 else limit)
            assert found.encode() == raw
            assert {name: getattr(found, name) for name in descriptors.SCATTERED} == descriptors.unpack(raw)


@pytest.mark.parametrize(("name", "option", "limit", "refused"), [
    ("data", 0x10, 0xFFFF_FFFF, ""),
    ("beyond the table", 0x80, 0, "#GP"),
    ("code is readable too", 0x08, 0xFFFF_FFFF, ""),
])  # fmt: skip
def test_segment_load_says_what_the_model_says(backend: Backend, name, option, limit, refused):
    parameters = {"nonce": 0x1234_5678_9ABC_DEF0, "option": option, "address": 0x20000}
    values = [0x1111, 0x2222, 0x3333, 0x4444]
    with Machine(backend=backend) as machine:
        machine.memory.write(0x20000, b"".join(value.to_bytes(4, "little") for value in values))
        machine.load_guest(guests.load("segment-load"), **parameters)
        assert machine.run(5.0).reason == "halted"
        assert machine.console == models.expected_console(
            "segment-load", parameters, values=values, limit=limit, refused=refused
        )


def test_checksum_long_says_what_the_model_says(backend: Backend):
    parameters = {"nonce": 0x1234_5678_9ABC_DEF0, "address": 0x30001, "size": 99}
    data = bytes(range(1, 100))
    with Machine(backend=backend) as machine:
        machine.memory.write(0x30001, data)
        machine.load_guest(guests.load("checksum-long"), **parameters)
        assert machine.run(5.0).reason == "halted"
        assert machine.console == models.expected_console("checksum-long", parameters, data=data)
