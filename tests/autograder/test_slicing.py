"""Which parts of a notebook run for a check, whatever an editor or a student has done to it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import toy_stage
from toy_lab import RIGHT, TASKS, answers, by_id, cell

from autograder import notebook
from autograder.model import Report
from autograder.python_cells import parse, without_magics
from autograder.slicing import Slice, Slicer

Graded = Callable[..., Report]


@pytest.fixture
def slicer(hand_in: Callable[..., Path]) -> Callable[..., Slicer]:
    return lambda *cells: Slicer(notebook.read(hand_in(*cells)), toy_stage.LAB)


def lines(part: Slice) -> list[str]:
    """The first line of each statement that the slice keeps."""
    kept = []
    for chunk in part.chunks:
        body = parse(notebook.Cell(chunk["cell"], chunk["source"], frozenset())).statements
        kept += [chunk["source"].splitlines()[body[index].node.lineno - 1] for index in chunk["keep"]]
    return kept


def test_only_what_the_exercise_needs_is_taken(slicer: Callable[..., Slicer]) -> None:
    part = slicer(
        cell("from toy import *\nimport os, sys\nBASE = 1\nTABLE = {}\nTABLE[1] = BASE\nunused = sys.exit()"),
        cell("def helper(x):\n    return TABLE[x]\nprint(helper(1))\nfor n in range(9): print(n)"),
        cell("def root(n):\n    local = helper(n)\n    return local", "lab70-root", "70.4"),
        cell("local = sys.exit()\nroot(4)"),
    ).slice("root")
    assert lines(part) == [
        "from toy import *",
        "BASE = 1",
        "TABLE = {}",
        "TABLE[1] = BASE",
        "def helper(x):",
        "def root(n):",
    ]


def test_every_kind_of_binding_is_followed(slicer: Callable[..., Slicer]) -> None:
    source = """
import math as m
a, (b, *c) = 1, (2, 3)
if a: d = 1
else: d = 2
try: e = 1
except OSError: e = 2
with open("x") as f: g = 1
(h := 3)
i: int = 4
a += 1
def decorate(fn): return fn
class Base: pass
Base.extra = 5
@decorate
class Derived(Base):
    z = i
def root(n): return m, a, b, c, d, e, f, g, h, Derived
"""
    kept = lines(slicer(cell(source + "unused = 1")).slice("root"))
    assert kept == [
        "import math as m",
        "a, (b, *c) = 1, (2, 3)",
        "if a: d = 1",
        "try: e = 1",
        'with open("x") as f: g = 1',
        "(h := 3)",
        "i: int = 4",
        "a += 1",
        "def decorate(fn): return fn",
        "class Base: pass",
        "Base.extra = 5",
        "class Derived(Base):",  # a decorated definition begins at its own line; the decorator goes with it
        "def root(n): return m, a, b, c, d, e, f, g, h, Derived",
    ]


def test_line_numbers_are_those_of_the_cell(graded: Graded) -> None:
    source = "# a comment\nx = 1; print('no')\n\n%matplotlib inline\ndef root(n):\n    return x / 0"
    assert by_id(graded(*answers(root=source)))["70.4b"].message.startswith("line 6 of cell 70.4: ZeroDivisionError")


def test_a_cell_that_hangs_costs_only_itself(graded: Graded) -> None:
    assert graded(cell("while True:\n    pass"), *answers(), cell("import time\ntime.sleep(1000)")).score == 10


def test_magics_and_shell_lines_are_dropped(graded: Graded) -> None:
    source = "%load_ext autoreload\n!ls\nfiles = !ls\nx = %time 3\nmath?\n?math\n" + RIGHT["root"]
    assert graded(*answers(root=source)).score == 10
    assert graded(cell("%%bash\nfor x in"), cell("%%html\n<b>"), *answers(root="%%time\n" + RIGHT["root"])).score == 10


def test_a_percent_sign_in_python_is_no_magic() -> None:
    source = "text = '''\n%s !\n'''\nx = 7 % 4"
    assert parse(notebook.Cell("cell 1", source, frozenset())).source == source
    assert without_magics("if x:\n    !ls\n    %cd ..\ny = 7 % 4") == "if x:\n    pass\n    pass\ny = 7 % 4"


def test_a_cell_that_does_not_parse_costs_only_what_lives_in_it(graded: Graded) -> None:
    results = by_id(graded(cell("for x in"), *answers(flip="def flip(data):\nreturn data")))
    assert results["70.2"].verdict == "crash"
    assert results["70.2"].message.startswith(
        "`flip` can't be read: cell 70.2 does not parse: line 2: expected an indent"
    )
    assert [results[id].verdict for id in ("70.1", "70.3", "70.4", "70.4b")] == ["ok"] * 4


def test_a_name_lost_in_a_broken_cell_is_explained(graded: Graded) -> None:
    results = by_id(graded(cell("def helper(n:\n    return 7"), *answers(root="def root(n):\n    return helper(n)")))
    assert "NameError: name 'helper' is not defined\n(cell 1 does not parse: line 1:" in results["70.4b"].message


def test_a_deleted_cell_is_named(graded: Graded) -> None:
    results = by_id(graded(*answers()[1:]))
    assert results["70.1"].verdict == "missing"
    assert "`add` isn't in the notebook: was its cell deleted, or the name changed?" in results["70.1"].message
    assert results["70.3"].verdict == "missing"  # it needs `add`
    assert results["70.2"].verdict == "ok"


def test_a_cell_that_lost_its_id_is_found_by_name(graded: Graded) -> None:
    assert graded(*[cell(source) for source in RIGHT.values()]).score == 10


def test_a_duplicated_cell(graded: Graded) -> None:
    report = graded(*answers(), cell(RIGHT["root"], "lab70-root", "70.4"))
    assert report.score == 10
    broken_copy = cell("def root(n):\n    return 8", "lab70-root", "70.4")
    report = graded(*answers(), broken_copy)
    assert by_id(report)["70.4b"].message == "the sum: 8 where 7 is expected"
    assert report.labs[0].notes == (
        "`root` is defined in cell 70.4 (copy 2) and in cell 70.4; the one in cell 70.4 (copy 2) counts.",
    )


def test_a_scratch_cell_does_not_shadow_the_exercise(graded: Graded) -> None:
    report = graded(*answers(), cell("def root(n):\n    return None"))
    assert report.score == 10
    assert "`root` is defined in cell 70.4 and in cell 5; the one in cell 70.4 counts." in report.labs[0].notes


def test_an_answer_written_beside_the_stub_counts(graded: Graded) -> None:
    stub = "def root(n):\n    # YOUR CODE HERE\n    raise NotImplementedError('task 70.4')"
    assert graded(*answers(root=stub), cell(RIGHT["root"])).score == 10


def test_a_split_cell(graded: Graded) -> None:
    cells = [*answers(root="import math\n\nSCALE = 1"), cell("def root(n):\n    return math.isqrt(n) * SCALE")]
    assert graded(*cells).score == 10


def test_an_exercise_turned_into_markdown(graded: Graded) -> None:
    cells = [*answers(), cell(RIGHT["root"], "lab70-root", "70.4", kind="markdown")]
    del cells[3]
    report = graded(*cells)
    assert report.score == 10
    assert report.labs[0].notes == ("cell 70.4 is a markdown cell now; it was read as code.",)


def test_prose_turned_into_code(graded: Graded) -> None:
    assert graded(cell("# A title\nThis is prose, isn't it?"), *answers()).score == 10


def test_a_class_half_written_is_missing_until_it_passes(graded: Graded) -> None:
    half = RIGHT["Counter"].replace("return self.sum", "raise NotImplementedError('task 70.3')")
    result = by_id(graded(*answers(Counter=half)))["70.3"]
    assert (result.verdict, result.message) == ("missing", "`Counter.total` isn't written yet.")
    spare = RIGHT["Counter"] + "\n\n    def spare(self):\n        raise NotImplementedError"
    assert by_id(graded(*answers(Counter=spare)))["70.3"].verdict == "ok"


def test_an_untouched_lab_is_missing_and_no_error(graded: Graded) -> None:
    stubs = {name: source.split(":")[0] + ":\n    raise NotImplementedError" for name, source in RIGHT.items()}
    stubs["root"] = "def root(n):\n    raise NotImplementedError('task 70.4')"
    report = graded(*answers(**stubs))
    assert report.score == 0
    assert {check.verdict for lab in report.labs for check in lab.checks} == {"missing"}
    assert by_id(report)["70.1"].message == "`add` isn't written yet."


HARD_TO_PARSE = {
    "parentheses": "(" * 5000,
    "a long sum": "x = " + "1+" * 50_000 + "1",
    "attributes": "x" + ".a" * 50_000,
    "a zero byte": "x = '\0'",
    "half a character": "x = '\ud800'",
    "minus signs": "x = " + "-" * 50_000 + "1",
    "a future": "from __future__ import braces",
    "await": "await x",
    "length": "x = 1\n" * 50_000,
}


@pytest.mark.parametrize("name", HARD_TO_PARSE)
def test_a_cell_that_hurts_the_parser(name: str, graded: Graded) -> None:
    assert graded(cell(HARD_TO_PARSE[name]), *answers()).score == 10


def test_ids_of_exercises_come_from_the_stage() -> None:
    assert {check.exercise: check.task for check in toy_stage.LAB.checks} == TASKS
    assert sys.modules["toy_stage"].LAB.check_for("70.4") == toy_stage.LAB.checks[3:]
