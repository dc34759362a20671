"""Takes from a notebook what one exercise needs, and nothing else.

A notebook is not run from top to bottom: a cell that hangs in one task would cost the marks of all others. For the
names that a check wants, the statements that bind them are taken, then those that bind what these use, and so on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from autograder.model import Lab, Verdict
from autograder.notebook import Notebook
from autograder.python_cells import PythonCell, Statement, parse

Place = tuple[int, int]  # cell, statement in it


@dataclass(frozen=True)
class Slice:
    """The part of a notebook that runs for one check: chunks for the sandbox, in the order of the notebook.

    Where there is nothing to run, `verdict` and `message` say why. `stubs` names what is still unwritten in it;
    `remarks` is for the feedback should it fail.
    """

    chunks: list[dict[str, Any]] = field(default_factory=list)
    verdict: Verdict = "ok"
    message: str = ""
    stubs: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


class Slicer:
    """One notebook, parsed once, for all checks of its lab."""

    def __init__(self, notebook: Notebook, lab: Lab) -> None:
        self.ids = exercise_ids(lab)
        known = frozenset().union(*self.ids.values()) if self.ids else frozenset()
        self.notes: list[str] = []
        self.cells: list[PythonCell] = []
        for cell in notebook.cells:
            if cell.kind == "code":
                self.cells.append(parse(cell))
            elif cell.ids & known and (python := parse(cell)).statements:
                # An exercise turned into markdown by a slip of the keyboard (M, in command mode) still counts.
                self.cells.append(python)
                self.notes.append(f"{cell.label} is a {cell.kind} cell now; it was read as code.")
        self.binders: dict[str, list[Place]] = {}
        self.changers: dict[str, list[Place]] = {}
        for number, python in enumerate(self.cells):
            for index, statement in enumerate(python.statements):
                for name in statement.binds:
                    self.binders.setdefault(name, []).append((number, index))
                for name in statement.changes:
                    self.changers.setdefault(name, []).append((number, index))
        self.chosen = {name: self._choose(name, ids) for name, ids in self.ids.items()}
        self.broken = [
            (cell, f"{cell.cell.label} does not parse: {cell.problem}") for cell in self.cells if cell.problem
        ]
        at_home = frozenset(name for ids in self.ids.values() for name in ids)
        self.notes += [f"{text}." for cell, text in self.broken if cell.cell.ids & at_home]

    def slice(self, exercise: str, needs: Iterable[str] = ()) -> Slice:
        """What has to run so that `exercise`, and the names in `needs`, exist."""
        for name in (exercise, *needs):
            missing = self._missing(name)
            if missing is not None:
                return missing
        taken: set[Place] = {
            (number, index)
            for number, cell in enumerate(self.cells)
            for index, statement in enumerate(cell.statements)
            if statement.imports_all
        }
        wanted, seen = [exercise, *needs], set()
        while wanted:
            name = wanted.pop()
            if name in seen:
                continue
            seen.add(name)
            for place in self._places(name):
                if place not in taken:
                    taken.add(place)
                    wanted += self._at(place).uses
        stubs = tuple(stub for name in (exercise, *needs) for stub in self._stubs(name))
        if exercise in stubs:
            return Slice(verdict="missing", message=f"`{exercise}` isn't written yet.", stubs=stubs)
        return Slice(self._chunks(taken), stubs=stubs, remarks=tuple(text for _, text in self.broken))

    def _places(self, name: str) -> list[Place]:
        """Where a name gets its value: one place for an exercise, every place for anything else."""
        chosen = self.chosen.get(name)
        if not chosen:
            return self.binders.get(name, []) + self.changers.get(name, [])
        return chosen + [place for place in self.changers.get(name, []) if place > chosen[-1]]

    def _choose(self, name: str, ids: frozenset[str]) -> list[Place]:
        """The definition that counts: the one in the exercise's own cell, unless that is still the stub and another
        cell has a finished one; else the last in the notebook."""
        places = self.binders.get(name, [])
        if not places:
            return []
        home = [place for place in places if self.cells[place[0]].cell.ids & ids]
        last = (home or places)[-1]
        others = [place for place in places if place[0] != last[0] and not self._at(place).stubs()]
        if home and others and self._at(last).stubs():
            last = others[-1]
        elsewhere = sorted({self.cells[place[0]].cell.label for place in places if place[0] != last[0]})
        if elsewhere:
            label = self.cells[last[0]].cell.label
            self.notes.append(
                f"`{name}` is defined in {label} and in {', '.join(elsewhere)}; the one in {label} counts."
            )
        # A value may be built in several statements of its cell; a definition stands alone.
        same_cell = [place for place in places if place[0] == last[0]]
        return [last] if self._at(last).is_definition else same_cell

    def _missing(self, name: str) -> Slice | None:
        if self.chosen.get(name) or self.binders.get(name):
            return None
        ids = self.ids.get(name, frozenset())
        home = [cell for cell in self.cells if cell.cell.ids & ids]
        definition = re.compile(rf"^\s*(def|class)\s+{name}\b|^{name}\s*=", re.MULTILINE)
        for cell, text in self.broken:
            if cell in home or definition.search(cell.cell.source):
                return Slice(verdict="crash", message=f"`{name}` can't be read: {text}.")
        if home:
            return Slice(verdict="missing", message=f"`{name}` isn't written yet.")
        return Slice(
            verdict="missing", message=f"`{name}` isn't in the notebook: was its cell deleted, or the name changed?"
        )

    def _stubs(self, name: str) -> list[str]:
        return [stub for place in self.chosen.get(name, []) for stub in self._at(place).stubs()]

    def _at(self, place: Place) -> Statement:
        return self.cells[place[0]].statements[place[1]]

    def _chunks(self, taken: set[Place]) -> list[dict[str, Any]]:
        by_cell: dict[int, list[int]] = {}
        for number, index in sorted(taken):
            by_cell.setdefault(number, []).append(index)
        return [
            {"cell": self.cells[number].cell.label, "source": self.cells[number].source, "keep": keep}
            for number, keep in by_cell.items()
        ]


def exercise_ids(lab: Lab) -> Mapping[str, frozenset[str]]:
    """The names that each exercise's own cell may go by: the task's number and the id that `release` gives it."""
    ids: dict[str, set[str]] = {}
    for check in lab.checks:
        ids.setdefault(check.exercise, {f"lab{lab.id}-{check.exercise}"}).add(check.task)
    return {name: frozenset(found) for name, found in ids.items()}
