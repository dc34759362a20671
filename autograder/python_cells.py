"""The Python in a cell: magics taken out, statements found, the names that each binds and uses. Nothing is executed."""

from __future__ import annotations

import ast
import dis
import re
import types
import warnings
from dataclasses import dataclass, field
from functools import cached_property

from autograder.notebook import Cell

# What IPython takes and Python does not: %magic, !command, x = !command, name? and ?name.
MAGIC_LINE = re.compile(r"^(\s*)([%!?].*|[\w.\[\], ]+=\s*[%!].*|[\w.]+\?\??)\s*$")
# Cell magics whose cell is still Python.
PYTHON_MAGICS = ("%%time", "%%timeit", "%%capture", "%%prun")
LONGEST = 200_000  # characters of a cell; a long one of a lab has 2000
STORES = {"STORE_NAME", "DELETE_NAME"}
GLOBAL_STORES = {"STORE_GLOBAL", "DELETE_GLOBAL"}
LOADS = {"LOAD_NAME", "LOAD_GLOBAL", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_GLOBALS", *STORES, *GLOBAL_STORES}


@dataclass(frozen=True)
class Statement:
    """One top-level statement of a cell."""

    node: ast.stmt
    binds: frozenset[str]
    uses: frozenset[str]
    changes: frozenset[str] = frozenset()

    @property
    def is_definition(self) -> bool:
        return isinstance(self.node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))

    @property
    def imports_all(self) -> bool:
        """`from module import *`, or a future: they bind what can't be seen from here."""
        node = self.node
        return isinstance(node, ast.ImportFrom) and (node.module == "__future__" or node.names[0].name == "*")

    def stubs(self) -> list[str]:
        """What the student has yet to write in a definition: its own name, or its methods that end in the stub."""
        node = self.node
        if isinstance(node, ast.ClassDef):
            methods = (item for item in node.body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)))
            return [f"{node.name}.{method.name}" for method in methods if any(map(is_stub, method.body))]
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return [node.name] if any(map(is_stub, node.body)) else []
        return []


@dataclass(frozen=True)
class PythonCell:
    """A code cell. `problem` is "line 4: invalid syntax" where it does not parse; then it has no statements."""

    cell: Cell
    source: str
    problem: str = ""
    _tree: ast.Module = field(default_factory=lambda: ast.Module([], []))

    @cached_property
    def statements(self) -> list[Statement]:
        return [examine(node) for node in self._tree.body]


def parse(cell: Cell) -> PythonCell:
    """The cell as Python. Magics become blank lines, so that line numbers stay the student's."""
    if len(cell.source) > LONGEST:
        return PythonCell(cell, "", f"it has more than {LONGEST} characters")
    problem = ""
    for source in (cell.source, without_magics(cell.source)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an invalid "\d" is no business of the grader's terminal
                tree = ast.parse(source)
                compile(tree, cell.label, "exec", dont_inherit=True)
        except SyntaxError as error:
            problem = f"line {error.lineno}: {error.msg}"
        except (ValueError, RecursionError, MemoryError) as error:
            problem = f"Python can't read it ({type(error).__name__})"
        else:
            return PythonCell(cell, source, "", tree)
    return PythonCell(cell, "", problem)


def without_magics(source: str) -> str:
    lines = source.split("\n")
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith("%%"):
        if not first.startswith(PYTHON_MAGICS):
            return ""  # the cell is in another language
        lines = ["" if line.strip() == first else line for line in lines]
    # `pass` keeps a block that held nothing but a magic.
    return "\n".join(MAGIC_LINE.sub(r"\1pass", line) for line in lines)


def is_stub(node: ast.stmt) -> bool:
    """`raise NotImplementedError(…)`, as `autograder release` leaves it."""
    if not isinstance(node, ast.Raise) or node.exc is None:
        return False
    raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"


def examine(node: ast.stmt) -> Statement:
    """What a statement binds and uses at the top level: read from its byte code, where Python has settled which names
    are local to a function and which are the notebook's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = compile(ast.Module([node], []), "<cell>", "exec", dont_inherit=True)
    binds: set[str] = set()
    uses: set[str] = set()
    pending = [code]
    while pending:
        block = pending.pop()
        pending += [constant for constant in block.co_consts if isinstance(constant, types.CodeType)]
        for instruction in dis.get_instructions(block):
            if instruction.opname in LOADS:
                uses.add(instruction.argval)
            if instruction.opname in GLOBAL_STORES or (instruction.opname in STORES and block is code):
                binds.add(instruction.argval)
    return Statement(node, frozenset(binds), frozenset(uses), frozenset(_changes(node)))


def _changes(node: ast.stmt) -> set[str]:
    """Names whose object the statement changes: `table[3] = …`, `Bus.read = …`, `del table[3]`."""
    targets: list[ast.expr] = []
    match node:
        case ast.Assign() | ast.Delete():
            targets = list(node.targets)
        case ast.AugAssign() | ast.AnnAssign():
            targets = [node.target]
    changed = set()
    while targets:
        target = targets.pop()
        if isinstance(target, (ast.Tuple, ast.List)):
            targets += target.elts
        inside = False
        while isinstance(target, (ast.Attribute, ast.Subscript)):
            target, inside = target.value, True
        if inside and isinstance(target, ast.Name):
            changed.add(target.id)
    return changed
