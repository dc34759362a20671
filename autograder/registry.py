"""Which labs there are, and the modules that hold their checks and drivers."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import autograder.stages
from autograder.model import Lab


@dataclass
class Registry:
    """Labs by id. `stages` maps an id to the module that defines `LAB`; `path` is added to the sandbox's `sys.path`
    (only where drivers live outside the installed packages)."""

    stages: dict[str, str]
    path: tuple[str, ...] = ()
    _loaded: dict[str, Lab] = field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        return sorted(self.stages)

    def lab(self, lab_id: str) -> Lab:
        """The lab, imported when first asked for. Raises KeyError with the ids that there are."""
        if lab_id not in self.stages:
            raise KeyError(f"there is no lab {lab_id!r}; the labs are {', '.join(self.ids) or '(none)'}")
        if lab_id not in self._loaded:
            lab = importlib.import_module(self.stages[lab_id]).LAB
            faults = problems(lab)
            if faults:
                raise ValueError(f"{self.stages[lab_id]} is not right: {'; '.join(faults)}")
            self._loaded[lab_id] = lab
        return self._loaded[lab_id]


def installed() -> Registry:
    """The labs of this installation: every module `autograder.stages.labNN`."""
    found = (re.fullmatch(r"lab(\d\d)", module.name) for module in pkgutil.iter_modules(autograder.stages.__path__))
    return Registry({match[1]: f"autograder.stages.{match[0]}" for match in found if match})


def problems(lab: Lab) -> Sequence[str]:
    """What an author got wrong in a stage, as sentences. Empty for a good lab."""
    faults = []
    ids = [check.id for check in lab.checks]
    faults += [f"two checks have the id {id!r}" for id in sorted({id for id in ids if ids.count(id) > 1})]
    for check in lab.checks:
        if not check.id.startswith(f"{lab.id}."):
            faults.append(f"check {check.id} does not begin with the lab's id {lab.id!r}")
        if not check.exercise.isidentifier():
            faults.append(f"check {check.id} names the exercise {check.exercise!r}, which is no Python name")
        if check.points < 0:
            faults.append(f"check {check.id} is worth {check.points} points")
        keys = [hint.key for hint in check.hints]
        if len(set(keys)) < len(keys):
            faults.append(f"check {check.id} has two hints with the same key")
        for hint in check.hints:
            try:
                re.compile(hint.when)
            except re.error as error:
                faults.append(f"check {check.id}, hint {hint.key!r}: `when` is no regular expression ({error})")
    return faults
