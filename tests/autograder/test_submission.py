"""What may be handed in, and the sentence for what may not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toy_lab import answers, notebook

from autograder.submission import SubmissionError, find

LABS = ["69", "70"]


def write(path: Path, lab: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook(*answers(), lab=lab)))
    return path


def test_a_lab_is_recognised_by_its_metadata_then_by_its_name(tmp_path: Path) -> None:
    write(tmp_path / "my homework.ipynb", lab="70")
    write(tmp_path / "Lab 69 (final).ipynb")
    write(tmp_path / "holiday.ipynb")
    assert sorted(find(tmp_path, LABS).notebooks) == ["69", "70"]


def test_folders_are_searched_but_not_checkpoints(tmp_path: Path) -> None:
    write(tmp_path / "week1" / "lab70.ipynb")
    write(tmp_path / "week1" / ".ipynb_checkpoints" / "lab70-checkpoint.ipynb")
    write(tmp_path / "__MACOSX" / "lab70.ipynb")
    write(tmp_path / "._lab70.ipynb")
    assert find(tmp_path, LABS).notebooks["70"].path == tmp_path / "week1" / "lab70.ipynb"


def test_one_notebook_alone(tmp_path: Path) -> None:
    assert list(find(write(tmp_path / "lab70.ipynb"), LABS).notebooks) == ["70"]


def test_a_py_percent_source(tmp_path: Path) -> None:
    source = tmp_path / "lab70.py"
    source.write_text('# %% [markdown]\n# # A title\n\n# %% exercise="70.1"\ndef add(a, b):\n    return a + b\n')
    (tmp_path / "helper.py").write_text("raise SystemExit")
    book = find(tmp_path, LABS).notebooks["70"]
    assert [cell.label for cell in book.cells] == ["cell 0", "cell 70.1"]
    assert "70.1" in book.cells[1].ids


def test_of_several_the_one_with_the_plain_name_counts(tmp_path: Path) -> None:
    write(tmp_path / "lab70-Copy1.ipynb")
    write(tmp_path / "lab70.ipynb")
    submission = find(tmp_path, LABS)
    assert submission.notebooks["70"].path.name == "lab70.ipynb"
    assert submission.notes["70"] == ["lab70.ipynb was graded; lab70-Copy1.ipynb was left out."]


def test_where_nothing_tells_which_it_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "lab70-Copy1.ipynb")
    write(tmp_path / "lab70-Copy2.ipynb")
    with pytest.raises(
        SubmissionError, match=r"lab 70 is there more than once .*: name the one that counts lab70.ipynb"
    ):
        find(tmp_path, LABS)


def test_what_can_not_be_graded_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    files = {"lab70.ipynb": "{", "a/lab70.ipynb": "[1]", "b/lab70.ipynb": '{"cells": 3}', "c/lab70.ipynb": "[" * 99_999}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "lab70.ipynb").write_bytes(b"\xff\xfe")
    (tmp_path / "notes.txt").write_text("hello")
    write(tmp_path / "e" / "other.ipynb")
    (tmp_path / "big.ipynb").write_text(" " * (33 << 20))
    for name, words in {
        "nowhere": "doesn't exist",
        "empty": "holds no notebook",
        "lab70.ipynb": "is not JSON",
        "a": "has no list of cells",
        "b": "has no list of cells",
        "c": "is not JSON",
        "d": "not text in UTF-8",
        "e": "no lab was recognised",
        "notes.txt": "is not a notebook",
        "big.ipynb": "more than 32 MiB",
    }.items():
        with pytest.raises(SubmissionError, match=words) as caught:
            find(tmp_path / name, LABS)
        assert "\n" not in str(caught.value)


def test_odd_but_readable_notebooks(tmp_path: Path) -> None:
    """Notebooks that other tools have mangled: whatever is no cell is skipped."""
    cells = [None, 3, {}, {"cell_type": "code"}, {"cell_type": "code", "source": ["x = 1\n", "y = 2"], "metadata": []}]
    (tmp_path / "lab70.ipynb").write_text(json.dumps({"cells": cells, "metadata": {"minivmm": {"lab": 70}}}))
    book = find(tmp_path, LABS).notebooks["70"]
    assert [cell.source for cell in book.cells] == ["", "", "x = 1\ny = 2"]
