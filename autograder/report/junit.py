"""The report as JUnit XML, which every test dashboard reads: a suite a lab, a case a check, points as properties."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from autograder.model import CheckResult, Report


def render(report: Report) -> str:
    """The XML document. A check that could not run is an error, any other that did not pass a failure."""
    root = ET.Element("testsuites", name=report.submission)
    for lab in report.labs:
        suite = ET.SubElement(
            root,
            "testsuite",
            name=f"lab {lab.lab}: {lab.title}",
            tests=str(len(lab.checks)),
            failures=str(sum(check.verdict not in ("ok", "infra") for check in lab.checks)),
            errors=str(sum(check.verdict == "infra" for check in lab.checks)),
            time=f"{sum(check.seconds for check in lab.checks):.3f}",
        )
        properties = ET.SubElement(suite, "properties")
        for name, value in (("seed", report.seed), ("backend", report.backend), ("score", lab.score)):
            ET.SubElement(properties, "property", name=name, value=str(value))
        for check in lab.checks:
            add_case(suite, lab.lab, check)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def add_case(suite: ET.Element, lab: str, check: CheckResult) -> None:
    case = ET.SubElement(
        suite, "testcase", classname=f"lab{lab}", name=f"{check.id} {check.title}", time=f"{check.seconds:.3f}"
    )
    properties = ET.SubElement(case, "properties")
    for name, value in (("points", check.points), ("max_points", check.max_points)):
        ET.SubElement(properties, "property", name=name, value=str(value))
    if check.verdict != "ok":
        kind = "error" if check.verdict == "infra" else "failure"
        first = check.message.partition("\n")[0]
        wrong = ET.SubElement(case, kind, type=check.verdict, message=first)
        wrong.text = "\n".join(filter(None, (check.message, check.hint and f"hint: {check.hint}")))
