"""check() inside a real Jupyter kernel: threads, sockets and all."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

CELLS = (
    f"import sys; sys.path.append({str(Path(__file__).parent / 'toy')!r})\n"
    "from autograder import live\nfrom autograder.registry import Registry\n"
    "check = lambda *args: live.check(*args, registry=Registry({'70': 'toy_stage'}))",
    "def add(a, b):\n    return a + b\n\n\ncheck('70.1', add)",
    "def add(a, b):\n    # YOUR CODE HERE\n    raise NotImplementedError('task 70.1')\n\n\ncheck('70.1', add)",
    "def add(a, b):\n    print('hello')\n    while True:\n        pass\n\n\ncheck('70.1', add)",
    "def add(a, b):\n    import os\n    os._exit(0)\n\n\ncheck('70.1', add)",
    "def helper(a, b):\n    return a / 0\ndef add(a, b):\n    return helper(a, b)\n\n\ncheck('70.1', add)",
    "class Counter:\n    def total(self):\n        raise NotImplementedError('task 70.3')\ncheck('70.3', Counter)",
    "6 * 7",
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_check_in_a_kernel() -> None:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    NotebookClient(book, timeout=60, kernel_name="python3").execute()
    shown = [[output.get("data", {}).get("text/plain") for output in cell.outputs] for cell in book.cells]
    assert shown[1] == ["✓ 70.1 add works"]
    assert shown[2] == ["… `add` isn't written yet."]
    assert "still running after 1 s" in shown[3][0]
    assert "  hello" in shown[3][0]
    assert "exit status 0" in shown[4][0]
    assert "line 2 of the cell that defines `helper`: ZeroDivisionError" in shown[5][0]
    assert shown[6] == ["… `Counter.total` isn't written yet."]
    assert shown[7] == ["42"]
    html = book.cells[4].outputs[0]["data"]["text/html"]
    assert "70.1" in html
