"""Every kind of host by its /proc, /sys and /dev: what it is called, whether guests run, and what to do."""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from minivmm.doctor import Report, diagnose
from minivmm.doctor.probe import ProbeResult
from minivmm.doctor.show import show
from minivmm.doctor.verdict import ESSENTIAL, judge
from minivmm.kvm import host as host_module
from minivmm.kvm.errors import KvmError
from minivmm.kvm.host import Host, look, remedy


@dataclass
class Tree:
    """A root folder with just the files that tell one host from another."""

    root: Path

    def put(self, path: str, text: str = "") -> Tree:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return self

    def flags(self, flags: str) -> Tree:
        return self.put("proc/cpuinfo", f"processor : 0\nflags\t\t: fpu {flags} lm\n")

    def modules(self, *names: str) -> Tree:
        for name in names:
            (self.root / "sys/module" / name).mkdir(parents=True)
        return self

    def device(self) -> Tree:
        (self.root / "dev").mkdir()
        (self.root / "dev/kvm").symlink_to("/dev/null")  # a character device, wherever the test runs
        return self


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.setattr(host_module.platform, "system", lambda: "Linux")
    monkeypatch.setattr(host_module.platform, "machine", lambda: "x86_64")
    return Tree(tmp_path)


class NoDevice:
    """A backend that opens as a host without KVM does."""

    name = "none"

    def __init__(self, host: Host, code: int = errno.ENOENT) -> None:
        self.host, self.code = host, code

    def open(self) -> int:
        raise KvmError("open('/dev/kvm')", self.code, remedy(self.host))


def examined(tree: Tree) -> Report:
    host = look(tree.root)
    return diagnose(NoDevice(host), host)  # type: ignore[arg-type]


def shown(report: Report) -> str:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(show(report))
    return console.export_text()


def passed(*failed: str, skipped: tuple[str, ...] = ()) -> list[ProbeResult]:
    names = (*ESSENTIAL, "sse", "irqchip")
    status = {**dict.fromkeys(failed, "failed"), **dict.fromkeys(skipped, "skipped")}
    return [ProbeResult(name, name.title(), status.get(name, "ok"), "", "Do it.") for name in names]  # type: ignore[arg-type]


def test_no_device_on_bare_metal(tree: Tree) -> None:
    report = examined(tree.flags("vmx"))
    assert report.verdict.case == "no device"
    assert report.exit_code == 1
    assert "there is no /dev/kvm" in report.verdict.sentence
    assert "sudo modprobe kvm_intel" in report.verdict.remedy


def test_virtualization_switched_off_in_the_firmware(tree: Tree) -> None:
    assert "BIOS" in examined(tree.flags("")).verdict.remedy


def test_no_permission(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module.os, "access", lambda *_: False)
    report = examined(tree.flags("svm").device())
    assert report.verdict.case == "no permission"
    assert "you may not open /dev/kvm" in report.verdict.sentence
    assert "no group may" in report.verdict.remedy  # the fake tree's device is nobody's but its owner's


def test_a_file_in_the_place_of_the_device(tree: Tree) -> None:
    report = examined(tree.flags("svm").put("dev/kvm"))
    assert report.verdict.case == "not a device"
    assert "is not a device" in report.verdict.sentence


def test_wsl2(tree: Tree) -> None:
    report = examined(tree.flags("vmx hypervisor").put("proc/sys/kernel/osrelease", "5.15.1-microsoft-standard-WSL2"))
    assert report.verdict.case == "WSL2"
    assert "nestedVirtualization=true" in report.verdict.remedy


def test_a_container_without_the_device(tree: Tree) -> None:
    report = examined(tree.flags("vmx").put(".dockerenv"))
    assert report.verdict.case == "container"
    assert "--device /dev/kvm" in report.verdict.remedy


def test_a_virtual_machine_without_nesting(tree: Tree) -> None:
    report = examined(tree.flags("hypervisor"))
    assert report.verdict.case == "nested"
    assert "nested virtualization" in report.verdict.remedy


@pytest.mark.parametrize(("system", "machine", "case"), [
    ("Darwin", "arm64", "not Linux"), ("Linux", "aarch64", "not x86-64"),
])  # fmt: skip
def test_another_system(tree: Tree, monkeypatch: pytest.MonkeyPatch, system: str, machine: str, case: str) -> None:
    monkeypatch.setattr(host_module.platform, "system", lambda: system)
    monkeypatch.setattr(host_module.platform, "machine", lambda: machine)
    report = examined(tree)
    assert report.verdict.case == case
    assert not report.verdict.can_run
    assert report.verdict.remedy


def test_a_device_that_is_busy(tree: Tree) -> None:
    host = look(tree.flags("vmx").modules("kvm", "kvm_intel").device().root)
    report = diagnose(NoDevice(host, errno.EBUSY), host)  # type: ignore[arg-type]
    assert "is there but does not serve" in report.verdict.sentence
    assert "EBUSY" in report.verdict.remedy


def test_kvm_pvm_runs_small_guests(tree: Tree) -> None:
    host = look(tree.flags("hypervisor").modules("kvm", "kvm_pvm").device().root)
    verdict = judge(host, passed("sse"))
    assert verdict.case == "kvm_pvm"
    assert verdict.can_run
    assert "Small guests run here" in verdict.sentence
    assert "doesn't boot" in verdict.sentence
    assert not judge(host, passed("long")).can_run


def test_bare_metal_where_all_is_well(tree: Tree) -> None:
    host = look(tree.flags("vmx").modules("kvm", "kvm_intel").device().root)
    verdict = judge(host, passed(skipped=("irqchip",)))
    assert (verdict.case, verdict.can_run, verdict.remedy) == ("bare metal", True, "")
    assert verdict.sentence == "Guests run here: all probes pass."


def test_nested_and_inside_a_container_guests_run_too(tree: Tree) -> None:
    tree.flags("svm hypervisor").modules("kvm", "kvm_amd").device()
    assert "every exit costs more" in judge(look(tree.root), passed()).sentence
    tree.put("run/.containerenv")
    assert judge(look(tree.root), passed()).sentence == "Guests run here: all probes pass (container)."


def test_what_fails_is_named(tree: Tree) -> None:
    host = look(tree.flags("vmx").modules("kvm").device().root)
    verdict = judge(host, passed("sse", "irqchip"))
    assert verdict.can_run
    assert verdict.sentence == "Guests run here, except those that need: Sse, Irqchip."
    for name in ESSENTIAL:
        broken = judge(host, passed(name))
        assert not broken.can_run
        assert broken.sentence == f"KVM answers, but the course's guests don't run here: {name.title()}."
        assert broken.remedy == "Do it."


def test_the_report_without_kvm_as_json_and_as_text(tree: Tree) -> None:
    report = examined(tree.flags("vmx").put(".dockerenv").modules("kvm", "kvm_intel"))
    data: dict[str, Any] = json.loads(json.dumps(report.to_json()))
    assert data["schema"] == 1
    assert data["case"] == "container"
    assert data["can_run"] is False
    assert data["device"] == {"path": "/dev/kvm", "state": "absent"}
    assert data["host"]["kvm_modules"] == ["kvm", "kvm_intel"]
    assert (data["api_version"], data["capabilities"], data["probes"]) == (None, {}, [])
    text = shown(report)
    assert "docker container" in text
    assert "VT-x (vmx)" in text
    assert "--device /dev/kvm" in text
    assert "What runs" not in text
    assert "KVM API" not in text


def test_the_facts_in_words(tree: Tree) -> None:
    tree.flags("svm hypervisor").modules("kvm", "kvm_amd").put("sys/module/kvm_amd/parameters/nested", "1\n")
    facts = dict(examined(tree).facts())
    assert facts["processor"] == "AMD-V (svm)"
    assert facts["inside"] == "a virtual machine"
    assert facts["nested guests"] == "on"
    assert facts["/dev/kvm"] == "absent"
    tree.put("sys/module/kvm_amd/parameters/nested", "N\n").flags("svm")
    facts = dict(examined(tree).facts())
    assert facts["nested guests"] == "off"
    assert facts["inside"].startswith("nothing")
