"""What is special about lab 00: what its text promises is so, and each mistake shows."""

from __future__ import annotations

import pytest

from autograder.nonces import Nonces
from autograder.registry import installed
from autograder.stages import lab00_hosts as hosts
from autograder.stages import lab00_machine as machine
from autograder.stages import lab00_toys as toys
from minivmm import guests
from minivmm.machine import Machine

LAB = installed().lab("00")


def test_the_lab_is_worth_twenty_points_on_many_guests() -> None:
    assert LAB.max_score == 20
    assert sum(bool(check.guests) for check in LAB.checks) >= 8
    used = {name for check in LAB.checks for name in check.guests}
    assert len(used) >= 4


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("mistake", toys.LOOP_MISTAKES)
def test_every_mistake_in_the_loop_shows(mistake: str, seed: int) -> None:
    cases = [*toys.loops(Nonces(seed, "00", "00.2")), *toys.culprits(Nonces(seed, "00", "00.2b"))]
    assert any(machine.trace(case.inputs, mistake) != case.expected for case in cases)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("mistake", toys.MONITOR_MISTAKES)
def test_every_mistake_in_the_monitor_shows(mistake: str, seed: int) -> None:
    cases = [*toys.owned_ports(Nonces(seed, "00", "00.3")), *toys.floating_ports(Nonces(seed, "00", "00.3b"))]
    assert any(machine.serve(case.inputs, mistake) != case.expected for case in cases)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("mistake", ["writes-only", "reads-only", "both", "brackets", "traps", "harmless"])
def test_every_mistake_about_holes_shows(mistake: str, seed: int) -> None:
    cases = hosts.instruction_sets(Nonces(seed, "00", "00.6"))
    assert any(hosts.hole_names(case.inputs["rows"], mistake) != case.expected for case in cases)


def test_made_up_instructions_have_names_of_their_own() -> None:
    for seed in range(200):
        for case in hosts.instruction_sets(Nonces(seed, "00", "00.6")):
            names = [row[0] for row in case.inputs["rows"]]
            assert len(set(names)) == len(names)


def test_a_guest_entered_at_zero_slides_to_its_image() -> None:
    """The second stretch problem: zeros decode as `add [bx+si], al`, which changes nothing while AL is 0."""
    with Machine() as box:
        box.load(0x1000, guests.load("hello").patched(nonce=7))
        box.enter("real", 0)
        assert box.run(timeout=1.0).reason == "halted"
        assert bytes(box.console) == b"Hello, 0000000000000007\n"


def test_the_64_bit_guest_halts_in_real_mode_without_a_word() -> None:
    """The last break-it cell and the first stretch problem: a HLT alone proves little."""
    with Machine() as box:
        box.load(0x1000, guests.load("long-hello").image)
        box.enter("real", 0x1000)
        assert box.run(timeout=1.0).reason == "halted"
        assert not box.console
