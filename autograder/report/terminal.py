"""The report in a terminal: progress while it runs, then a table a lab and what to do about each failure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import indent

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from autograder.model import CheckResult, Lab, LabResult, Report

COLOURS = {"ok": "green", "wrong": "red", "missing": "yellow", "infra": "magenta"}
WORDS = {
    "ok": "passed",
    "wrong": "wrong",
    "timeout": "too slow",
    "memory": "too much memory",
    "crash": "crashed",
    "missing": "not written",
    "infra": "could not run",
}


class Watcher:
    """Shows how far the grader is. Says nothing where nobody watches (output to a file)."""

    def __init__(self, progress: Progress, console: Console) -> None:
        self.progress, self.console = progress, console
        self.task = progress.add_task("starting", total=None)

    def start(self, backend: str, reason: str, checks: int) -> None:
        self.progress.update(self.task, total=checks, description=f"{checks} checks on {backend}")

    def check(self, lab: Lab, result: CheckResult) -> None:
        self.progress.update(self.task, advance=1, description=f"{result.id} {WORDS[result.verdict]}")


@contextmanager
def watching(console: Console) -> Iterator[Watcher]:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Watcher(progress, console)


def show(report: Report, console: Console) -> None:
    """The whole report. Text of the student's is never read as markup."""
    for lab in report.labs:
        console.print(table_of(lab))
        for note in lab.notes:
            console.print(Text(f"note: {note}", style="yellow"))
        for line in failures(lab):
            console.print(line)
        console.print()
    console.print(Text(f"score   {report.score} of {report.max_score}", style="bold"))
    console.print(Text(f"backend {report.backend}{report.reason and f' ({report.reason})'}"))
    console.print(Text(f"seed    {report.seed} (--seed {report.seed} gives the same guests again)"))
    times = report.times
    if times:
        console.print(
            Text(
                f"time    {times['total']:.1f} s: {times['ready']:.1f} s until the sandbox stood, "
                f"{times['checks']:.1f} s for the checks"
            )
        )


def table_of(lab: LabResult) -> Table:
    table = Table(
        title=Text(f"Lab {lab.lab} · {lab.title}    {lab.score}/{lab.max_score}"),
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
    )
    for name in ("check", "", "points", "verdict"):
        table.add_column(name)
    for check in lab.checks:
        style = COLOURS.get(check.verdict, "red")
        mark = "✓" if check.verdict == "ok" else "✗"
        points = f"{check.points}/{check.max_points}"
        table.add_row(check.id, Text(check.title), points, Text(f"{mark} {WORDS[check.verdict]}", style=style))
    return table


def failures(lab: LabResult) -> Iterator[Text]:
    """What went wrong, check by check. The unwritten ones share a line: nobody needs the same sentence ten times."""
    unwritten: dict[str, list[str]] = {}
    for check in lab.checks:
        if check.verdict == "missing":
            unwritten.setdefault(check.message, []).append(check.id)
        elif check.verdict != "ok":
            yield Text(f"\n{check.id} {check.title}", style="bold")
            yield Text(indent(check.message, "  "))
            if check.hint:
                yield Text(f"  hint: {check.hint}", style="cyan")
    if unwritten:
        yield Text("")
    for message, ids in unwritten.items():
        yield Text(f"{', '.join(ids)}: {message}", style="yellow")
