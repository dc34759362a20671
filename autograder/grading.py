"""From a path to a report: the one function behind `autograder grade`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from autograder.model import Check, CheckResult, Lab, LabResult, Report
from autograder.registry import Registry
from autograder.slicing import Slice, Slicer
from autograder.submission import Submission, find
from autograder.supervisor import Job, Supervisor
from autograder.zygotes import UsageError
from minivmm import manifest, resources

Progress = Callable[[Lab, CheckResult], None]
Start = Callable[[str, str, int], None]


def grade(
    path: Path,
    registry: Registry,
    *,
    seed: int,
    labs: Sequence[str] = (),
    accel: str = "auto",
    jobs: int = 0,
    on_start: Start = lambda backend, reason, checks: None,
    on_check: Progress = lambda lab, result: None,
) -> Report:
    """Grades the submission at `path`. `labs` are ids, () for those that are handed in; `jobs` are processes, 0 for one
    a processor. Raises SubmissionError, UsageError, InfrastructureError; each text is a sentence for people.
    """
    times = {"total": time.monotonic()}
    unknown = [lab for lab in labs if lab not in registry.stages]
    if unknown:
        raise UsageError(f"there is no lab {', '.join(unknown)}; the labs are {', '.join(registry.ids)}.")
    if not path.exists():
        find(path, registry.ids)  # says so, before anything is started
    wanted = [registry.lab(lab) for lab in (labs or registry.ids)]
    modules = [lab.driver_module for lab in wanted]
    count = jobs or os.cpu_count() or 1
    needs = guest_needs(lab.id for lab in wanted) if accel == "auto" else ()
    with Supervisor(accel, modules, registry.path, count, seed, needs) as supervisor:
        # The zygotes import while we read.
        submission = find(path, registry.ids)
        if not labs:
            wanted = [lab for lab in wanted if lab.id in submission.notebooks]
        slices = [slices_of(lab, submission) for lab in wanted]
        times["reading"] = time.monotonic() - times["total"]
        backend, reason = supervisor.wait_until_ready()
        times["ready"] = time.monotonic() - times["total"]
        todo = [
            Job((row, column), lab, check, slices[row][0][column])
            for row, lab in enumerate(wanted)
            for column, check in enumerate(lab.checks)
        ]
        on_start(backend, reason, len(todo))
        done = supervisor.run(todo, on_check)
        times["checks"] = time.monotonic() - times["total"] - times["ready"]
    results = tuple(
        LabResult(
            lab.id,
            lab.title,
            tuple(done[row, column] for column in range(len(lab.checks))),
            tuple(slices[row][1]),
        )
        for row, lab in enumerate(wanted)
    )
    times["total"] = time.monotonic() - times["total"]
    return Report(submission.name, seed, backend, results, reason, times)


def guest_needs(labs: Iterable[str]) -> tuple[str, ...]:
    """What the guests of these labs must find in a backend, by the names of the doctor's probes."""
    wanted = set(labs)
    folders = (file.parent for file in sorted(resources.folder("guests").glob("*/guest.toml")))
    manifests = [manifest.read(folder) for folder in folders]
    return tuple(sorted({need for each in manifests if wanted & set(each["labs"]) for need in each["needs"]}))


def slices_of(lab: Lab, submission: Submission) -> tuple[list[Slice], list[str]]:
    """What has to run for each check of a lab, and the notes on its notebook."""
    book = submission.notebooks.get(lab.id)
    if book is None:
        return [absent(lab, check) for check in lab.checks], [f"no notebook for lab {lab.id} was handed in."]
    slicer = Slicer(book, lab)
    slices = [slicer.slice(check.exercise, check.needs) for check in lab.checks]
    return slices, [*submission.notes.get(lab.id, []), *slicer.notes]


def absent(lab: Lab, check: Check) -> Slice:
    return Slice(verdict="missing", message=f"`{check.exercise}` is part of lab {lab.id}, which wasn't handed in.")
