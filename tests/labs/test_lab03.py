"""What is special about lab 03: its cases are what they claim to be."""

from __future__ import annotations

import io

import pytest
from elftools.elf.elffile import ELFFile

from autograder.nonces import Nonces
from autograder.registry import installed
from autograder.stages import lab03_cases as cases

LAB = installed().lab("03")


@pytest.mark.parametrize("seed", range(20))
def test_the_holes_leave_room_for_guest_and_stack(seed):
    for case in cases.hole_edges(Nonces(seed, "03", "03.1")):
        ram, start, end = (case.inputs[name] for name in ("ram", "hole_start", "hole_end"))
        assert 0x86000 <= start < end
        assert ram - start >= cases.PAGE


@pytest.mark.parametrize("seed", range(20))
def test_the_last_round_of_heat_can_see_every_page_of_the_upper_slot(seed):
    (case,) = cases.rounds_of_heat(Nonces(seed, "03", "03.9"))
    _, (start, end) = case.expected["regions"]
    assert case.inputs["ram"] - case.inputs["hole_start"] == end - start
    assert {start, end - cases.PAGE} <= set(case.expected["counts"])
    assert max(case.expected["counts"].values()) > 1


def test_the_made_up_elf_is_one_that_pyelftools_reads():
    _, case = cases.made_up_elf(Nonces(1, "03", "03.6c"))
    elf = ELFFile(io.BytesIO(case.inputs["image"]))
    assert elf["e_entry"] == case.expected["entry"]
    loads = [part for part in elf.iter_segments() if part["p_type"] == "PT_LOAD"]
    assert [[part["p_vaddr"], part["p_paddr"], part.data()] for part in loads] == case.expected["loads"]
    assert elf.num_segments() == len(loads) + 1
    assert elf["e_entry"] not in {part["p_paddr"] for part in loads}


def test_the_guests_know_that_this_lab_uses_them():
    assert sum(bool(check.guests) for check in LAB.checks) >= 8
