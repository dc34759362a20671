"""Our reader of py:percent finds what jupytext finds."""

from __future__ import annotations

from pathlib import Path

import jupytext
import pytest

from autograder import percent

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "solutions").glob("lab??.py"))
ODD = '''# ---
# jupyter:
#   minivmm:
#     lab: "70"
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # A title
#
# text with `# %%` inside
#     indented

# %% A cell with a title
x = 1


# %% exercise="70.1" points=2
def f():
    """# %% not a marker"""
    return "%"

# %% [raw]
# raw text

# %%
# a comment
y = """
# not markdown
"""
'''


@pytest.mark.parametrize(
    "text", [ODD, *(path.read_text() for path in SOURCES)], ids=["odd", *(p.stem for p in SOURCES)]
)
def test_as_jupytext_reads_it(text: str) -> None:
    ours, theirs = percent.read(text), jupytext.reads(text, fmt="py:percent")
    assert len(ours["cells"]) == len(theirs.cells)
    for mine, other in zip(ours["cells"], theirs.cells, strict=True):
        assert (mine["cell_type"], mine["source"]) == (other.cell_type, other.source)
        for name in ("exercise", "check"):
            assert str(mine["metadata"].get(name, "")) == str(other.metadata.get(name, ""))
    assert ours["metadata"].get("minivmm") == theirs.metadata.get("minivmm")


def test_a_file_without_cells() -> None:
    assert percent.read("") == {"cells": [], "metadata": {}}
    assert [cell["source"] for cell in percent.read("x = 1\n")["cells"]] == ["x = 1"]
