"""From the facts to a sentence: can guests run here, and if not, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from minivmm.doctor.probe import ProbeResult
from minivmm.kvm.host import DEVICE, Host

ESSENTIAL = ("real", "protected", "long", "hlt")  # the modes that the labs' guests are written in, and their end


@dataclass(frozen=True)
class Verdict:
    """`case` names the kind of host in one word, `sentence` says what it means, `remedy` what to do about it."""

    case: str
    can_run: bool
    sentence: str
    remedy: str = ""


def no_device(host: Host, reason: str) -> Verdict:
    """For a host whose /dev/kvm can't be opened; `reason` is what the open said."""
    return Verdict(case_of(host), False, f"No guest can run here: {what_is_wrong(host)}.", reason)


def what_is_wrong(host: Host) -> str:
    words = {
        "absent": f"there is no {DEVICE}",
        "forbidden": f"you may not open {DEVICE}",
        "broken": f"{DEVICE} is not a device",
    }
    return words.get(host.device, f"{DEVICE} is there but does not serve")


def case_of(host: Host) -> str:
    """The first that fits, the most telling first: what a person would call this host."""
    cases = (
        ("not Linux", host.system != "Linux"),
        ("not x86-64", host.machine not in ("x86_64", "AMD64")),
        ("no permission", host.device == "forbidden"),
        ("not a device", host.device == "broken"),
        ("kvm_pvm", host.device == "ok" and host.is_pvm),
        ("WSL2", host.wsl),
        ("container", bool(host.container)),
        ("nested", host.under_hypervisor),
        ("no device", host.device == "absent"),
    )
    return next((name for name, fits in cases if fits), "bare metal")


def judge(host: Host, probes: Iterable[ProbeResult]) -> Verdict:
    """For a host whose KVM answers: what its probes mean together."""
    probes = tuple(probes)
    failed = [probe for probe in probes if probe.status == "failed"]
    broken = [probe for probe in failed if probe.name in ESSENTIAL]
    case = case_of(host)
    if broken:
        names = ", ".join(probe.title for probe in broken)
        return Verdict(case, False, f"KVM answers, but the course's guests don't run here: {names}.", broken[0].remedy)
    if host.is_pvm:
        return Verdict(
            case,
            True,
            "Small guests run here. This host's KVM (kvm_pvm) interprets everything but 64-bit user mode, at a few "
            "million instructions a second, and an unmodified Linux doesn't boot on it.",
            "For Linux guests use a host with VT-x or AMD-V.",
        )
    if failed:
        names = ", ".join(probe.title for probe in failed)
        return Verdict(case, True, f"Guests run here, except those that need: {names}.")
    return Verdict(case, True, f"Guests run here: all probes pass{_how(host, case)}.")


def _how(host: Host, case: str) -> str:
    if case == "bare metal":
        return ""
    if case == "nested":
        return ", though inside another hypervisor, where every exit costs more"
    return f" ({case})"
