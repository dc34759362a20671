"""The report of an examination: for people by rich, for programs as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from minivmm.doctor.capabilities import Capability
from minivmm.doctor.probe import ProbeResult
from minivmm.doctor.verdict import Verdict
from minivmm.kvm.host import DEVICE, Host

SCHEMA = 1
STYLES = {"ok": "green", "failed": "red", "skipped": "yellow"}


@dataclass(frozen=True)
class Report:
    """What was found. `api_version` is None, and there are no capabilities and probes, where KVM doesn't answer."""

    host: Host
    verdict: Verdict
    api_version: int | None = None
    capabilities: tuple[Capability, ...] = ()
    probes: tuple[ProbeResult, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 where guests can run, else 1."""
        return 0 if self.verdict.can_run else 1

    def to_json(self) -> dict[str, Any]:
        """The report in plain types. `schema` changes when a field does."""
        return {
            "schema": SCHEMA,
            "case": self.verdict.case,
            "can_run": self.verdict.can_run,
            "verdict": self.verdict.sentence,
            "remedy": self.verdict.remedy,
            "host": {**asdict(self.host), "kvm_modules": list(self.host.kvm_modules)},
            "device": {"path": DEVICE, "state": self.host.device},
            "api_version": self.api_version,
            "capabilities": {each.name: each.value for each in self.capabilities},
            "probes": [asdict(probe) for probe in self.probes],
        }

    def facts(self) -> list[tuple[str, str]]:
        """The host in words: what is shown beside what."""
        host = self.host
        extension = {"vmx": "VT-x (vmx)", "svm": "AMD-V (svm)"}.get(host.extension, "neither VT-x nor AMD-V is visible")
        around = [
            word
            for word, is_so in (
                ("WSL2", host.wsl),
                (f"{host.container} container", bool(host.container)),
                ("a virtual machine", host.under_hypervisor),
            )
            if is_so
        ]
        facts = [
            ("system", f"{host.system} on {host.machine}"),
            ("processor", extension),
            ("inside", ", ".join(around) or "nothing: this is the machine itself"),
            ("modules", ", ".join(host.kvm_modules) or "none"),
            (DEVICE, host.device),
        ]
        if host.nested:
            facts.append(("nested guests", "on" if host.nested in ("1", "Y") else "off"))
        if self.api_version is not None:
            facts.append(("KVM API", str(self.api_version)))
        return facts
