"""What is special about lab 03: its judges read any observation, and its cases are what they claim to be."""

from __future__ import annotations

import io
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from autograder.drivers import lab03 as drivers
from autograder.nonces import Nonces
from autograder.observation import IllTypedError, Observation
from autograder.odd import Odd
from autograder.registry import installed
from autograder.stages import lab03_cases as cases
from minivmm import guests

LAB = installed().lab("03")
KEYS = (
    "value", "console", "stop", "why", "exits", "refused", "regions", "points", "found", "bytes", "registers", "log",
    "answers", "writes", "ends",
)  # fmt: skip
STRANGE: list[Any] = [
    None, True, -1, 2**70, 1.5, "", "halted", b"", b"\xff" * 9000, [], [None], [[]], [[1]], [[7, 2]], [1, 2], [{}], {},
    {"a": 1}, {4096: None}, [{"stop": "halted"}], [[None, None, None]], [["a", "b"]], Odd("a Bus"),
]  # fmt: skip


@pytest.mark.parametrize("check", LAB.checks, ids=lambda check: check.id)
def test_no_observation_makes_a_judge_raise_or_pass(check):
    for case in check.cases(Nonces(1, "03", check.id)):
        good_start = {"stop": "halted", "console": b"", "exits": []}
        for strange in ({}, *(dict.fromkeys(KEYS, value) for value in STRANGE)):
            for observed in (strange, {**strange, **good_start}, without(strange, "refused") | good_start):
                try:
                    finding = check.judge(case, Observation(observed, check.exercise))
                except IllTypedError:
                    continue
                assert passes_rightly(check.id, case, observed) or not finding.ok
                assert not finding.hint or check.hint_text(finding.hint)


def without(observed: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in observed.items() if name != key}


def passes_rightly(check: str, case: Any, observed: dict[str, Any]) -> bool:
    """The one right answer among the strange ones: in no slot, `find` gives None."""
    return check == "03.3" and case.expected is None and observed.get("found") == [None]


@pytest.mark.parametrize("check", LAB.checks, ids=lambda check: check.id)
def test_cases_depend_on_the_seed_and_hold_no_answer(check):
    one, again, other = (check.cases(Nonces(seed, "03", check.id)) for seed in (1, 1, 2))
    assert one == again
    assert [case.inputs for case in one] != [case.inputs for case in other]
    assert callable(getattr(drivers, check.driver))
    for case in one:
        if isinstance(case.expected, bytes):
            assert case.expected not in case.inputs.values()


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
    used = {name for check in LAB.checks for name in check.guests}
    assert all("03" in guests.load(name).labs for name in used)
    assert sum(bool(check.guests) for check in LAB.checks) >= 8
