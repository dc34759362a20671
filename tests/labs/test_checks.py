"""What every check of every lab must be: its judge reads any observation, and its cases follow the seed.

A lab may say more here: the fields of its observations (KEYS), what makes an odd one look like an honest one, so that
a judge reads on (HONEST), and which odd one happens to be right (RIGHT). What is special about a lab is in its file.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from autograder.model import Case, Check, Lab
from autograder.nonces import Nonces
from autograder.observation import IllTypedError, Observation
from autograder.odd import Odd
from autograder.registry import installed
from minivmm import guests

Observed = dict[str, Any]

LABS = installed()
EVERY = [pytest.param(LABS.lab(lab), check, id=check.id) for lab in LABS.ids for check in LABS.lab(lab).checks]
every_check = pytest.mark.parametrize(("lab", "check"), EVERY)

STRANGE: list[Any] = [
    None, True, -1, 1.5, 2.5, 2**70, Odd("a Bus"),
    "", "text", "ended", "halted", "asleep", "returned", "raised", "stray", "odd", "endless",
    b"", b"\xff\n", b"\xff" * 4096, b"\xff" * 9000, b"\xff" * 12288,
    {}, {"a": 1}, {"l": []}, {"isr": None}, {1: 2}, {4096: None},
    [], [None], [None, None], [1, 2], [2**70], [{}], [{"irr": "x"}], [{"stop": "halted"}],
    [[]], [[1]], [[7, 2]], [["a", "b"]], [[None, None]], [[None, None, None]], [[[], None]], [[[[1, 2]], 3]],
    [[1, 2, 3]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], [[1, 2, True, True, 5]], [["A", 1, False]],
    [["A", None, None, True]], [[0, 1, b""]], [[0, True, 3, "a", False]], [[2**70, b"x"]],
]  # fmt: skip

HALTED: Observed = {"stop": "halted", "console": b"", "exits": []}
KEYS = {
    "00": "value stack seen log calls order exits",
    "01": "value how said console exits calls registers memory",
    "02": "value console stop exits refused raised found outside misaligned tables raw cs ds es fs gs ss gdt cr0 cr3 "
    "cr4 efer calls given",
    "03": "value console stop why exits refused regions points found bytes registers log answers writes ends",
    "04": "value found bytes console stop why exits taken outside built rounds faults edges left maps answers rebuilt "
    "guest_tables others unharmed",
    "05": "answers areas bytes claim console exits halted held left length log logs looks names odd places raised said "
    "steps taken total unclaimed values with without",
    "06": "value values states table console stop why vector exits windows early idle told screen left answers counts "
    "master slave reads hand steps misserved raised",
    "07": "values reads odd console exits fired writes versions log vms consoles early stuck answers vectors entered",
    "08": "value values states console screen stop why ends exits runs boots raised",
}
HONEST: dict[str, list[Observed]] = {
    "03": [HALTED],
    "04": [HALTED | {"why": "", "outside": []}],
    "05": [{"halted": 1, "console": b"", "exits": []}, {"log": [], "logs": [], "odd": []}],
    "06": [HALTED | {"stop": stop, "early": 0, "idle": 0, "left": 0} for stop in ("ended", "halted")],
    "07": [{"exits": [], "console": b"A 1\n"}, {"early": None, "odd": [], "stuck": []}],
    "08": [HALTED | {"stop": stop, "screen": "", "runs": 1, "states": [{}]} for stop in ("halted", "off", "returned")],
}
ONE_OF_A_KIND = {"01.2"}  # its case is always the same: there is one version of the API that is right
GIVEN_AND_WANTED = {"03.4b"}  # registers that nobody may change are as they were

Rightly = Callable[[Check, Case, Observed], bool]
RIGHT: dict[str, Rightly] = {
    # A case whose right answer is nothing: the others of its check catch who always says so.
    "00": lambda check, case, seen: bool(seen) and case.expected in ([], b""),
    # In no slot, `find` gives None.
    "03": lambda check, case, seen: check.id == "03.3" and case.expected is None and seen.get("found") == [None],
    # A walk that leads nowhere, from an address that can't be.
    "04": lambda check, case, seen: (
        (isinstance(case.expected, dict) and case.expected.get("gpas") == [None] and seen.get("found") == [[[], None]])
        or (case.expected == [None, "present"] and seen.get("value") == [None])
    ),
    # It rings; test_lab05 has who always says so.
    "05": lambda check, case, seen: check.id == "05.17" and isinstance(seen.get("values"), list),
    # A loop that meets a dead guest raises RuntimeError.
    "06": lambda check, case, seen: (
        isinstance(case.expected, dict) and bool(case.expected.get("raises")) and seen.get("stop") == "raised"
    ),
    # An output that never rises again.
    "07": lambda check, case, seen: check.id == "07.3" and case.expected is None and seen.get("values") == [None],
    # A write that asks for nothing.
    "08": lambda check, case, seen: (
        isinstance(case.expected, dict) and set(case.expected.get("values", "?")) == {None} == set(seen["values"])
    ),
}


def observations(lab: str) -> Iterator[Observed]:
    keys, honest = KEYS[lab].split(), HONEST.get(lab, [])
    for strange in ({}, *(dict.fromkeys(keys, value) for value in STRANGE)):
        yield strange
        for more in honest:
            yield strange | more
            yield {key: value for key, value in strange.items() if key != "refused"} | more


@pytest.mark.parametrize(("lab", "check"), [each for each in EVERY if each.values[0].id in KEYS])
def test_no_observation_makes_a_judge_raise_or_pass(lab: Lab, check: Check) -> None:
    rightly = RIGHT.get(lab.id, lambda *_: False)
    for case in check.cases(Nonces(1, lab.id, check.id)):
        for observed in observations(lab.id):
            try:
                finding = check.judge(case, Observation(observed, check.exercise))
            except IllTypedError:
                continue
            assert not finding.ok or rightly(check, case, observed), observed
            assert not finding.hint or check.hint_text(finding.hint), finding


@every_check
def test_cases_depend_on_the_seed_and_hold_no_answer(lab: Lab, check: Check) -> None:
    one, again, other = (check.cases(Nonces(seed, lab.id, check.id)) for seed in (1, 1, 2))
    assert one == again
    assert check.id in ONE_OF_A_KIND or [case.inputs for case in one] != [case.inputs for case in other]
    for case in one if check.id not in GIVEN_AND_WANTED else ():
        expected = case.expected.values() if isinstance(case.expected, dict) else [case.expected]
        secrets = [value for value in expected if isinstance(value, bytes) and value]
        assert not [secret for secret in secrets if secret in case.inputs.values()]


@every_check
def test_its_driver_is_there(lab: Lab, check: Check) -> None:
    assert callable(getattr(importlib.import_module(lab.driver_module), check.driver))


@pytest.mark.parametrize("lab", LABS.ids)
def test_the_guests_know_that_this_lab_uses_them(lab: str) -> None:
    used = {name for check in LABS.lab(lab).checks for name in check.guests}
    assert all(lab in guests.load(name).labs for name in used)
