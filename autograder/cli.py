"""The command `autograder`. Exit codes: 0 graded, whatever the mark; 2 bad usage; 3 the infrastructure failed."""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from autograder.model import Report

USAGE, INFRASTRUCTURE = 2, 3


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="minivmm")
def main() -> None:
    """Grades lab notebooks against reference guests, and makes the notebooks that students get."""


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--lab", "labs", metavar="01,02", default="", help="Only these labs (also if not handed in).")
@click.option("--accel", metavar="auto|kvm|soft", default="auto", help="The backend; auto takes the best one here.")
@click.option("--seed", type=int, help="Replays a run: the seed is in its report.")
@click.option("--jobs", type=click.IntRange(min=1), help="Sandboxes in parallel (default: one a processor).")
@click.option("--json", "json_file", metavar="FILE", help="The report as JSON; - is standard output.")
@click.option("--junit", metavar="FILE", type=click.Path(path_type=Path), help="The report as JUnit XML.")
@click.option("--gradescope", metavar="FILE", type=click.Path(path_type=Path), help="The report as results.json.")
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="The report as a web page.")
def grade(
    path: Path, labs: str, accel: str, seed: int | None, jobs: int | None, json_file: str | None, **files: Path | None
) -> None:
    """Grades PATH: a folder of notebooks, or one notebook."""
    from rich.console import Console

    from autograder import registry
    from autograder.grading import grade as grade_path
    from autograder.report import terminal
    from autograder.submission import SubmissionError
    from autograder.zygotes import InfrastructureError, UsageError

    console = Console(stderr=json_file == "-", highlight=False, soft_wrap=True)
    try:
        with terminal.watching(console) as watcher:
            report = grade_path(
                path,
                registry.installed(),
                seed=secrets.randbits(48) if seed is None else seed,
                labs=[lab.strip().zfill(2) for lab in labs.split(",") if lab.strip()],
                accel=accel,
                jobs=jobs or 0,
                on_start=watcher.start,
                on_check=watcher.check,
            )
        terminal.show(report, console)
        write(report, json_file, files)
    except (SubmissionError, UsageError) as error:
        stop(USAGE, str(error))
    except InfrastructureError as error:
        stop(INFRASTRUCTURE, f"Nothing was graded: {error}")
    except KeyboardInterrupt:
        stop(130, "Stopped; nothing was written.")
    if report.infra:
        stop(INFRASTRUCTURE, "Some checks could not be run, through no fault of the submission: run the grader again.")


def write(report: Report, json_file: str | None, files: dict[str, Path | None]) -> None:
    """Writes the report to the files that were asked for."""
    if json_file:
        text = as_text(report.as_json())
        if json_file == "-":
            click.echo(text, nl=False)
        else:
            save(Path(json_file), text)
    if files["junit"]:
        from autograder.report import junit

        save(files["junit"], junit.render(report))
    if files["gradescope"]:
        from autograder.report import gradescope

        save(files["gradescope"], as_text(gradescope.render(report)))
    if files["html"]:
        from autograder.report import html

        save(files["html"], html.render(report))


def as_text(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def save(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        stop(USAGE, f"{path} can't be written: {error.strerror}.")


def stop(code: int, sentence: str) -> None:
    """One sentence for a person, and the exit code for a program."""
    click.echo(f"autograder: {sentence}", err=True)
    sys.exit(code)


@main.command()
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 where labs/ differs from solutions/.")
@click.option("--solutions", type=click.Path(path_type=Path), help="The sources (default: those of this checkout).")
@click.option("--labs", type=click.Path(path_type=Path), help="Where the notebooks go (default: beside the sources).")
def release(check: bool, solutions: Path | None, labs: Path | None) -> None:
    """Makes labs/ from solutions/: notebooks without the answers."""
    from autograder import registry
    from autograder.release import ReleaseError, differences, render, save_all
    from minivmm.resources import ResourceError, folder

    try:
        source = solutions or folder("solutions")
        target = labs or source.parent / "labs"
        made = render(source, registry.installed())
        if not check:
            for name in save_all(made, target):
                click.echo(f"wrote {target / name}")
            return None
        differing = differences(made, target)
    except (ReleaseError, ResourceError) as error:
        return stop(USAGE, str(error))
    for name in differing:
        click.echo(f"{target / name} differs from its source; run `autograder release`.", err=True)
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
