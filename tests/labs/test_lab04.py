"""What is special about lab 04: its oracle agrees with the library and with every processor here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from autograder.drivers.lab04_machine import RAM, plant, run, start
from autograder.drivers.lab04_shadow import POOL, ShadowTables
from autograder.drivers.lab04_tables import Pager
from autograder.drivers.machines import a_machine
from autograder.nonces import Nonces
from autograder.registry import installed
from autograder.stages.common import guest
from autograder.stages.lab04_common import ACCESSES, LIST, access_list, frames, low
from autograder.stages.lab04_edits import windows
from autograder.stages.lab04_faults import beyond_the_heap
from autograder.stages.lab04_harvest import rounds_of_use
from autograder.stages.lab04_models import table_editor_edits
from autograder.stages.lab04_refusals import guarded
from autograder.stages.lab04_spaces import an_address_space
from autograder.stages.lab04_tables import NX, PAGE, USER, WRITABLE, Tables
from autograder.stages.lab04_walk import four_levels
from autograder.stages.models import expected_console
from minivmm.kvm import calls
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine
from minivmm.x86.paging import walk

LAB = installed().lab("04")
each_seed = pytest.mark.parametrize("seed", range(5))


# ---- checks ----


def test_the_lab_is_worth_twenty_points_on_many_guests():
    assert LAB.max_score == 20
    used = {name for check in LAB.checks for name in check.guests}
    assert len(used) >= 5
    stretch = [check for check in LAB.checks if not check.points]
    assert len(stretch) >= 3


# ---- the oracle ----


class Planted:
    """Memory that holds the tables and nothing else; what isn't planted reads as zero."""

    def __init__(self, tables: Tables) -> None:
        self._pages = dict(tables.plant())

    def read(self, gpa: int, size: int, /) -> bytes:
        at = gpa & 0xFFF
        return self._pages.get(gpa & ~0xFFF, bytes(PAGE))[at : at + size]

    def write(self, gpa: int, data: bytes, /) -> None:
        raise AssertionError("a walk only reads")


@each_seed
def test_the_oracle_and_the_library_walk_alike(seed):
    tables = an_address_space(Nonces(seed, "04", "oracle"), "space")
    memory, found = Planted(tables), tables.pages()
    assert found
    for va, gpa, size, _ in found:
        for at in (0, size // 2 + 5, size - 1):
            theirs = walk(memory, tables.cr3, va + at)
            assert tables.gpa(va + at) == theirs.physical == gpa + at
            assert [place for place, _ in tables.steps(va + at)] == [step.address for step in theirs.steps]
    for va in (0x1234_5678_9000, 1 << 47, (1 << 64) - 1):
        assert tables.gpa(va) == walk(memory, tables.cr3, va).physical


@each_seed
def test_the_oracle_and_the_library_refuse_alike(seed):
    nonces = Nonces(seed, "04", "codes")
    tables = Tables(nonces, region=range(0x10_0000, 0x20_0000))
    for va in guarded(nonces, tables, frames(nonces)):
        for write, user, fetch in ACCESSES:
            fault = walk(Planted(tables), tables.cr3, va, write=write, user=user, fetch=fetch).fault
            assert tables.code(va, write, user, fetch) == (fault.error_code if fault else None)


def test_rights_are_anded_and_no_execute_is_ored():
    tables = Tables(Nonces(1, "04", "rights"))
    tables.map(0x7000_0000, 0x20_0000, WRITABLE | USER | NX, upper=5)
    assert tables.pages() == [[0x7000_0000, 0x20_0000, PAGE, USER | NX]]


# ---- the guests, on every backend ----


@pytest.fixture
def machine(backend: Backend) -> Iterator[Machine]:
    previous = calls.use(backend)
    try:
        with a_machine(RAM) as box:
            yield box
    finally:
        calls.use(previous)


@each_seed
def test_far_writer_writes_where_the_oracle_says(machine, seed):
    case = four_levels(Nonces(seed, "04", "far"))[0]
    plant(machine, case.inputs)
    start(machine, case.inputs, case.inputs["cr3"])
    seen = run(machine)
    assert (seen["stop"], seen["console"]) == ("halted", case.expected["console"])
    assert [machine.memory.read(gpa, 4) for gpa in case.expected["gpas"]] == case.expected["values"]


@each_seed
def test_the_processor_refuses_what_the_oracle_refuses(machine, seed):
    nonces = Nonces(seed, "04", "probe")
    tables = low(Tables(nonces, region=range(0x10_0000, 0x20_0000)))
    pages = guarded(nonces, tables, frames(nonces))
    tried = [(va, way) for va in pages for way in ACCESSES]
    parameters = {"nonce": nonces.u64("nonce"), "address": LIST, "count": len(tried)}
    returns = [[gpa, b"\xc3"] for va in pages if (gpa := tables.gpa(va)) is not None]
    inputs = guest("rights-prober", **parameters)
    plant(machine, {"plant": [*tables.plant(), [LIST, access_list(tried)], *returns]})
    start(machine, inputs, tables.cr3)
    codes = [tables.code(va, *way) for va, way in tried]
    assert run(machine)["console"] == expected_console("rights-prober", parameters, codes=codes)


def test_page_user_leaves_its_marks(machine):
    (case,) = rounds_of_use(Nonces(3, "04", "marks"))
    plant(machine, case.inputs)
    parameters = case.inputs["rounds"][0]
    start(machine, {**case.inputs, "parameters": parameters}, case.inputs["cr3"])
    assert run(machine)["console"] == expected_console("page-user", parameters)
    entries = [machine.memory.read_int(place, 8) for place in case.inputs["places"]]
    marked = [
        [va for va, e in zip(case.expected["addresses"], entries, strict=True) if e & bit] for bit in (0x20, 0x40)
    ]
    assert set(case.expected["used"][0][0]) <= set(marked[0])
    assert case.expected["used"][0][1] == marked[1]


def test_demand_pager_lives_without_what_it_is_refused(machine):
    (case,) = beyond_the_heap(Nonces(3, "04", "refused"))
    parameters = case.inputs["parameters"]
    plant(machine, case.inputs)
    pager = Pager(lambda cr2, code: False)
    machine.ports.attach(pager)
    start(machine, case.inputs, case.inputs["cr3"])
    everything = dict.fromkeys(range(parameters["size"] // PAGE), (2, 0)) | {
        n: codes for n, codes in case.expected["refused"].items() if codes[0] & 1
    }
    assert run(machine)["console"] == expected_console("demand-pager", parameters, refused=everything)
    assert {code for _, code, _ in pager.faults} == {0, 2, 3}


@pytest.mark.parametrize("which", [0, 1], ids=["table-editor", "entry-tester"])
def test_nested_paging_gives_the_guest_what_its_tables_say(machine, which):
    """The same guests as in 04.9, on their own tables: no exit, and but for memory that it has not, the same text."""
    case = windows(Nonces(3, "04", "nested"))[which]
    plant(machine, case.inputs)
    start(machine, case.inputs, case.inputs["cr3"])
    seen = run(machine)
    wanted, found = case.expected["console"].splitlines(), seen["console"].splitlines()
    differ = [n for n, (want, got) in enumerate(zip(wanted, found, strict=True)) if want != got]
    assert differ == ([4] if which else [])  # the fifth entry leads beyond its RAM, which only a shadow forbids
    assert not [line for line in seen["exits"] if "write" in line or "read" in line]


def test_half_of_the_edits_write_half_an_entry():
    edits = table_editor_edits(3 << 32 | 5, 8, 40, 0x10_0000, 0x14_0000)
    assert {size for _, size, _ in edits} == {4, 8}


def test_the_drivers_shadow_is_one_that_the_library_walks():
    memory = bytearray(1 << 20)
    shadow = ShadowTables(memoryview(memory))
    shadow.map(0xFFFF_FFFF_8000_0000, 0x80_5000, USER | NX)

    class Low:
        def read(self, gpa: int, size: int, /) -> bytes:
            return bytes(memory[gpa : gpa + size])

        def write(self, gpa: int, data: bytes, /) -> None:
            raise AssertionError

    found = walk(Low(), shadow.root, 0xFFFF_FFFF_8000_0123, user=True)
    assert found.physical == 0x80_5123
    assert walk(Low(), shadow.root, 0xFFFF_FFFF_8000_0123, write=True).fault.error_code == 3
    shadow.clear()
    assert not any(memory[POOL.start : POOL.stop])
