"""The probes: what they find on a real KVM, and that each can fail."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from minivmm import guests
from minivmm.doctor import diagnose, run_probes
from minivmm.doctor.api_probes import API_PROBES
from minivmm.doctor.command import doctor
from minivmm.doctor.guest_probes import REMEDIES, guest_probes
from minivmm.doctor.probe import FailedError, Probe, ProbeResult, SkippedError, expect
from minivmm.kvm import constants as k
from minivmm.kvm import ffi, host, ioctls
from minivmm.kvm.seam import Backend

EVERYWHERE = {"real", "protected", "long", "hlt", "string-io", "mmio", "ring3", "exceptions", "interrupts"}
API = {probe.name: probe for probe in API_PROBES}


class Meddling:
    """The real device, but for the calls that a test answers itself."""

    name = "kvm"

    def __init__(self, inner: Backend, answers: dict[int, Callable[[int, Any], int]]) -> None:
        self.inner, self.answers = inner, answers

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        if request in self.answers:
            return self.answers[request](fd, argument)
        return self.inner.ioctl(fd, request, argument)

    @property
    def run(self) -> Callable[[int, Any], int]:
        answer = self.answers.get(ioctls.KVM_RUN)
        return (lambda fd, page: answer(fd, 0)) if answer else self.inner.run

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def lacking(backend: Backend, *capabilities: int) -> Meddling:
    def check(fd: int, capability: int) -> int:
        return 0 if capability in capabilities else backend.ioctl(fd, ioctls.KVM_CHECK_EXTENSION, capability)

    return Meddling(backend, {ioctls.KVM_CHECK_EXTENSION: check})


def test_a_probe_never_raises() -> None:
    def ask(error: Exception) -> Callable[[Backend], str]:
        def raising(backend: Backend) -> str:
            raise error

        return raising

    def result(error: Exception) -> ProbeResult:
        return Probe("p", "P", ask(error), "Do it.").run(None)  # type: ignore[arg-type]

    assert result(FailedError("no")) == ProbeResult("p", "P", "failed", "no", "Do it.")
    assert result(SkippedError("not here")) == ProbeResult("p", "P", "skipped", "not here")
    assert result(ValueError()) == ProbeResult("p", "P", "failed", "ValueError", "Do it.")
    good = Probe("p", "P", lambda backend: "fine", "Do it.").run(None)  # type: ignore[arg-type]
    assert good == ProbeResult("p", "P", "ok", "fine")
    expect(True, "never")
    with pytest.raises(FailedError, match="seen"):
        expect(0, "seen")


def test_every_probe_guest_is_asked_and_has_a_remedy() -> None:
    asked = {probe.name: probe for probe in guest_probes()}
    folders = {name.removeprefix("probes/") for name in guests.probes()}
    assert set(asked) == folders - {"single-step"}
    assert set(asked) == set(REMEDIES)
    assert next(iter(asked)) == "real"
    assert all(probe.remedy.endswith(".") for probe in (*asked.values(), *API_PROBES))


@pytest.fixture(scope="module")
def results() -> dict[str, ProbeResult]:
    from minivmm.accel import choose

    backend = choose("kvm").backend
    return {result.name: result for result in run_probes(backend)}


@pytest.mark.kvm
def test_what_every_kvm_can_do_is_found(results: dict[str, ProbeResult]) -> None:
    wanted = EVERYWHERE | set(API)
    found = {name: results[name].detail for name in wanted if results[name].status == "failed"}
    assert found == {}


@pytest.mark.kvm
@pytest.mark.skipif(not host.look().is_pvm, reason="what kvm_pvm lacks, others have")
def test_what_kvm_pvm_lacks_is_found(results: dict[str, ProbeResult]) -> None:
    failed = {name: result for name, result in results.items() if result.status == "failed"}
    assert set(failed) == {"paging32", "pae", "syscall", "software-interrupt", "x87", "sse"}
    assert all(result.detail and result.remedy for result in failed.values())
    assert "switches 32-bit paging on" in failed["paging32"].detail
    assert "kvm_pvm" in failed["sse"].detail
    assert failed["syscall"].detail == "the code runs, but its result is wrong"


@pytest.mark.kvm
@pytest.mark.skipif(host.look().is_pvm, reason="kvm_pvm lacks some")
def test_hardware_runs_everything(results: dict[str, ProbeResult]) -> None:
    assert [result.name for result in results.values() if result.status == "failed"] == []


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("read-only", k.KVM_CAP_READONLY_MEM),
        ("immediate-exit", k.KVM_CAP_IMMEDIATE_EXIT),
        ("sync-registers", k.KVM_CAP_SYNC_REGS),
        ("single-step", k.KVM_CAP_SET_GUEST_DEBUG),
        ("msr-exits", k.KVM_CAP_X86_USER_SPACE_MSR),
        ("irqchip", k.KVM_CAP_IRQCHIP),
    ],
)
def test_a_missing_capability_is_a_skip(kvm_backend: Backend, name: str, capability: int) -> None:
    result = API[name].run(lacking(kvm_backend, capability))
    assert result.status == "skipped"
    assert "does not offer KVM_CAP_" in result.detail


# How a KVM might answer wrongly: the probe, the call that is meddled with, and what is reported.
def refuse(fd: int, argument: Any) -> int:
    return -errno.EINVAL


def swallow(fd: int, argument: Any) -> int:
    return 0


WRONG: dict[str, tuple[int, Callable[[int, Any], int], str]] = {
    "vcpus": (ioctls.KVM_CREATE_VCPU, refuse, "KVM_CREATE_VCPU failed: EINVAL"),
    "memory-slots": (ioctls.KVM_SET_USER_MEMORY_REGION, refuse, "KVM_SET_USER_MEMORY_REGION failed"),
    "dirty-log": (ioctls.KVM_GET_DIRTY_LOG, swallow, "the log names [], not 0x3000 and 0x5000"),
    "single-step": (ioctls.KVM_SET_GUEST_DEBUG, swallow, "step 1 gave “out8 port 0xf4"),
    "cpuid": (ioctls.KVM_SET_CPUID2, swallow, "the guest reads EBX = 0x"),
    "msr-exits": (ioctls.KVM_ENABLE_CAP, swallow, "it hangs: no exit"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_is_found(kvm_backend: Backend, name: str) -> None:
    request, answer, words = WRONG[name]
    result = API[name].run(Meddling(kvm_backend, {request: answer}))
    assert result.status == "failed"
    assert words in result.detail
    assert result.remedy == API[name].remedy


def test_a_refused_single_step_names_the_errno(kvm_backend: Backend) -> None:
    result = API["single-step"].run(Meddling(kvm_backend, {ioctls.KVM_SET_GUEST_DEBUG: refuse}))
    assert result.detail == "KVM_SET_GUEST_DEBUG is refused with errno 22"


def test_pages_that_were_only_executed_may_be_dirty_at_first(kvm_backend: Backend) -> None:
    """As upstream KVM has it, at a page's first use."""
    readings: list[bytes] = []

    def generous(fd: int, log: Any) -> int:
        result = kvm_backend.ioctl(fd, ioctls.KVM_GET_DIRTY_LOG, log)
        bitmap = ffi.buffer(log.dirty_bitmap, 8)
        bitmap[0] = bytes([bitmap[0][0] | (0 if readings else 1 << 1)])
        readings.append(bytes(bitmap))
        return result

    assert API["dirty-log"].run(Meddling(kvm_backend, {ioctls.KVM_GET_DIRTY_LOG: generous})).status == "ok"
    assert [int.from_bytes(each, "little") for each in readings] == [1 << 1 | 1 << 3 | 1 << 5, 1 << 3 | 1 << 5, 0]


def test_a_dirty_log_that_never_forgets_is_found(kvm_backend: Backend) -> None:
    def same(fd: int, log: Any) -> int:
        ffi.buffer(log.dirty_bitmap, 8)[:] = (1 << 3 | 1 << 5).to_bytes(8, "little")
        return 0

    result = API["dirty-log"].run(Meddling(kvm_backend, {ioctls.KVM_GET_DIRTY_LOG: same}))
    assert result.detail == "reading the log does not clear it"


def test_rom_that_can_be_written_is_found(kvm_backend: Backend) -> None:
    def as_ram(fd: int, region: Any) -> int:
        region.flags = 0
        return kvm_backend.ioctl(fd, ioctls.KVM_SET_USER_MEMORY_REGION, region)

    result = API["read-only"].run(Meddling(kvm_backend, {ioctls.KVM_SET_USER_MEMORY_REGION: as_ram}))
    assert result.status == "failed"
    assert "a write to ROM gave “out8 port 0xf4" in result.detail


def test_a_vcpu_that_hangs_is_a_finding_in_time(kvm_backend: Backend) -> None:
    def hang(fd: int, argument: Any) -> int:
        time.sleep(0.05)
        return -errno.EINTR

    meddling = Meddling(kvm_backend, {ioctls.KVM_RUN: hang})
    for probe in (guest_probes()[0], API["dirty-log"]):
        start = time.monotonic()
        result = probe.run(meddling)
        assert time.monotonic() - start < 1.5
        assert result.status == "failed"
        assert result.detail.startswith("it hangs: no ")


def test_an_unhandled_line_is_found(kvm_backend: Backend) -> None:
    result = API["irqchip"].run(Meddling(kvm_backend, {ioctls.KVM_IRQ_LINE: swallow}))
    assert result.detail.startswith("it hangs")


@pytest.mark.kvm
def test_the_command_prints_and_exits_as_it_found() -> None:
    report = diagnose()
    start = time.monotonic()
    run = CliRunner().invoke(doctor, ["--json"])
    assert time.monotonic() - start < 5
    data = json.loads(run.output)
    assert run.exit_code == report.exit_code == 0
    assert data["can_run"] is True
    assert data["api_version"] == 12
    assert data["capabilities"]["KVM_CAP_USER_MEMORY"] == 1
    assert {probe["name"] for probe in data["probes"]} == {probe.name for probe in (*guest_probes(), *API_PROBES)}
    assert set(data["probes"][0]) == {"name", "title", "status", "detail", "remedy"}
    text = CliRunner().invoke(doctor).output
    assert "What runs" in text
    assert "What KVM offers" in text
    assert report.verdict.sentence.split(".")[0] in text.replace("\n", " ")


def test_the_command_exits_with_1_where_no_guest_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from minivmm.doctor import command
    from minivmm.doctor.report import Report
    from minivmm.doctor.verdict import Verdict

    report = Report(host.look(), Verdict("no device", False, "No guest can run here.", "Buy one."))
    monkeypatch.setattr(command, "diagnose", lambda: report)
    run = CliRunner().invoke(doctor)
    assert run.exit_code == 1
    assert "No guest can run here." in run.output
    assert "Buy one." in run.output
