"""The report in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from minivmm.doctor.probe import ProbeResult
from minivmm.doctor.report import STYLES, Report


def show(report: Report) -> RenderableType:
    """Facts, probes, capabilities, and the verdict last, where the eye is when the command ends."""
    parts: list[RenderableType] = [_facts(report)]
    if report.probes:
        parts += [Text(), _probes(report.probes)]
    if report.capabilities:
        parts += [Text(), _capabilities(report)]
    return Group(*parts, Text(), *_verdict(report))


def _facts(report: Report) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in report.facts():
        table.add_row(Text(name, "bold"), Text(value))
    return table


def _probes(probes: tuple[ProbeResult, ...]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), title="What runs", title_justify="left", title_style="bold")
    table.add_column("probe", no_wrap=True)
    table.add_column("")
    table.add_column("found", ratio=1)
    for probe in probes:
        found = Text(probe.detail)
        if probe.remedy:
            found.append(f"\n{probe.remedy}", "dim")
        table.add_row(Text(probe.title), Text(probe.status, STYLES[probe.status]), found)
    return table


def _capabilities(report: Report) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), title="What KVM offers", title_justify="left", title_style="bold")
    table.add_column("capability", no_wrap=True)
    table.add_column("", justify="right")
    table.add_column("for", ratio=1)
    for each in report.capabilities:
        table.add_row(Text(each.name, "" if each.value else "dim"), Text(str(each.value or "no")), Text(each.meaning))
    return table


def _verdict(report: Report) -> list[Text]:
    style = "bold green" if report.verdict.can_run else "bold red"
    lines = [Text(report.verdict.sentence, style)]
    return [*lines, Text(report.verdict.remedy)] if report.verdict.remedy else lines
