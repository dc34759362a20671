"""`minivmm doctor`: what this host can do, and what to do about what it can't."""

from __future__ import annotations

import json

import click

from minivmm.doctor.diagnosis import diagnose


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def doctor(as_json: bool) -> None:
    """Say what this host can run, by running it, and what to do about what it can't.

    Exit code 0 where guests can run, 1 where they can't.
    """
    report = diagnose()
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        from rich.console import Console

        from minivmm.doctor.show import show

        Console().print(show(report))
    raise SystemExit(report.exit_code)
