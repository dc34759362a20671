"""The house itself: imports point down and never in a circle, answers stay out of the sandbox, the VMM stays small."""

from __future__ import annotations

import ast
import graphlib
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for package in ("minivmm", "autograder")
    for file in (ROOT / package).rglob("*.py")
}

# From the bottom up. A part of minivmm that is named here imports from the rows above its own only; what is not named
# is at the top: commands, labs, the grader.
LAYERS = (
    ("kvm", "x86", "bus", "line", "timers", "watch", "resources", "parameters", "stdin", "notebook"),
    ("exits", "memory", "devices", "virtio", "manifest", "accel"),
    ("vcpu", "soft", "trace", "guests", "terminal"),
    ("vm", "boot"),
    ("irqchip", "debug"),
    ("machine", "monitor"),
)
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}

# The VMM that students read once they have written their own.
CORE = ("accel", "bus", "exits", "line", "memory", "resources", "timers", "vcpu", "vm", "watch", "machine", "irqchip")
VMM = (*CORE, "devices", "boot", "virtio")


def imports(tree: ast.Module) -> Iterator[str]:
    """The modules that are imported with this one: not those that a function, or only the type checker, imports."""
    todo: list[ast.stmt] = list(tree.body)
    while todo:
        match todo.pop():
            case ast.Import(names=names):
                yield from (each.name for each in names)
            case ast.ImportFrom(module=str(module), names=names):
                whole = [f"{module}.{each.name}" for each in names]  # modules of a package, or else what one defines
                yield from ((name if name in FILES else module) for name in whole)
            case ast.If(test=test, orelse=orelse) if "TYPE_CHECKING" in ast.unparse(test):
                todo += orelse
            case ast.If() | ast.Try() | ast.With() as block:
                todo += [each for each in ast.iter_child_nodes(block) if isinstance(each, ast.stmt)]


IMPORTS = {
    name: {each for each in imports(ast.parse(file.read_text(encoding="utf-8"))) if each in FILES} - {name}
    for name, file in FILES.items()
}


def part(module: str) -> str:
    """The part of minivmm that a module belongs to: "devices" for minivmm.devices.uart."""
    return module.split(".")[1] if "." in module else ""


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert list(graphlib.TopologicalSorter(IMPORTS).static_order())  # raises CycleError, with the circle


@pytest.mark.parametrize("name", LAYER)
def test_imports_point_down(name: str) -> None:
    wrong = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        if module.startswith("minivmm.") and part(module) == name
        for other in others
        if part(other) not in ("", name) and LAYER.get(part(other), len(LAYERS)) >= LAYER[name]
    ]
    assert wrong == []


def test_minivmm_does_not_know_the_grader() -> None:
    assert not [name for name, others in IMPORTS.items() if name.startswith("minivmm") and {*others} & GRADER]


GRADER = {name for name in FILES if name.split(".")[0] == "autograder"}


def test_nothing_in_the_sandbox_knows_the_answers() -> None:
    todo = [name for name in FILES if name.startswith(("autograder.drivers", "autograder.sandbox"))]
    inside = set(todo)
    while todo:
        new = IMPORTS[todo.pop()] - inside
        inside |= new
        todo += new
    assert "minivmm.machine" in inside
    assert not [name for name in inside if name.startswith("autograder.stages")]


def code_lines(text: str) -> int:
    """How many lines are code: not blank, no comment, no docstring."""
    lines = {n for n, line in enumerate(text.splitlines(), 1) if line.strip() and not line.strip().startswith("#")}
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def test_the_vmm_can_be_read() -> None:
    texts = [file.read_text(encoding="utf-8") for name, file in FILES.items() if part(name) in VMM]
    lengths = [len(text.splitlines()) for text in texts]
    assert sum(map(code_lines, texts)) < 6000
    assert statistics.median(lengths) < 150
    assert max(lengths) < 450
