"""What kind of host this is: the facts behind "why can't I use /dev/kvm?".

Everything is read from /proc and /sys; nothing is changed and nothing needs privileges. `root` is there for tests.
"""

from __future__ import annotations

import grp
import os
import platform
from dataclasses import dataclass
from pathlib import Path

DEVICE = "/dev/kvm"


@dataclass(frozen=True)
class Host:
    """The facts. `extension` is "vmx" (Intel VT-x), "svm" (AMD-V) or "" where the CPU shows neither."""

    system: str
    machine: str
    extension: str
    under_hypervisor: bool
    wsl: bool
    container: str
    kvm_modules: tuple[str, ...]
    nested: str
    device: str  # "ok", "absent", "forbidden", "broken"
    group: str

    @property
    def is_pvm(self) -> bool:
        return "kvm_pvm" in self.kvm_modules


def read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def container_of(root: Path) -> str:
    """The kind of container that we are in, or ""."""
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / "var/run/secrets/kubernetes.io").exists():
        return "kubernetes"
    environ = read(root / "proc/1/environ").split("\0")
    return next((entry.partition("=")[2] for entry in environ if entry.startswith("container=")), "")


def device_state(path: Path) -> str:
    if not path.exists():
        return "absent"
    if not os.access(path, os.R_OK | os.W_OK):
        return "forbidden"
    return "ok" if path.is_char_device() else "broken"


def group_of(path: Path) -> str:
    """The group whose members may open the device; "" where there is none that anybody should join."""
    try:
        status = path.stat()
        usable = status.st_gid != 0 and status.st_mode & 0o060 == 0o060
        return grp.getgrgid(status.st_gid).gr_name if usable else ""
    except (OSError, KeyError):
        return ""


def look(root: Path = Path("/")) -> Host:
    """Reads the facts of this host."""
    flags = next((line for line in read(root / "proc/cpuinfo").splitlines() if line.startswith("flags")), "").split()
    modules = root / "sys/module"
    loaded = tuple(m for m in ("kvm", "kvm_intel", "kvm_amd", "kvm_pvm") if (modules / m).exists())
    nested = next(
        (read(modules / m / "parameters/nested").strip() for m in ("kvm_intel", "kvm_amd") if m in loaded), ""
    )
    kernel = read(root / "proc/sys/kernel/osrelease").lower()
    device = root / DEVICE.lstrip("/")
    return Host(
        system=platform.system(),
        machine=platform.machine(),
        extension=next((flag for flag in ("vmx", "svm") if flag in flags), ""),
        under_hypervisor="hypervisor" in flags,
        wsl="microsoft" in kernel or "wsl" in kernel,
        container=container_of(root),
        kvm_modules=loaded,
        nested=nested,
        device=device_state(device),
        group=group_of(device),
    )


def remedy(host: Host) -> str:
    """One or two sentences: why /dev/kvm can't be used here, and what to do about it. "" where it can."""
    if host.device == "ok":
        return ""
    if host.system != "Linux":
        return (
            f"KVM is part of Linux, and this is {host.system}: use a Linux machine, or a VM with nested virtualization."
        )
    if host.machine not in ("x86_64", "AMD64"):
        return f"The guests of this course are x86-64 and this host is {host.machine}: its KVM can't run them."
    if host.device == "forbidden" and not host.group:
        return (
            f"You may not open {DEVICE}, and no group may: have an administrator run "
            f"`chgrp kvm {DEVICE}; chmod 660 {DEVICE}` and add you to the group kvm."
        )
    if host.device == "forbidden":
        return (
            f"You may not open {DEVICE}: join its group with `sudo usermod -aG {host.group} $USER`, then log in again."
        )
    if host.device == "broken":
        return f"{DEVICE} is not a device file: remove it and load the module again with `sudo modprobe kvm`."
    if host.wsl:
        return (
            "WSL2 shows no /dev/kvm: put `nestedVirtualization=true` under `[wsl2]` in %UserProfile%\\.wslconfig "
            "(Windows 11), run `wsl --shutdown`, and start again."
        )
    if host.container:
        return (
            f"You are inside a container ({host.container}) that wasn't given the device: "
            "start it with `--device /dev/kvm` on a host that has one."
        )
    if not host.extension and host.under_hypervisor:
        return (
            "You are inside a virtual machine whose hypervisor hides VT-x/AMD-V: switch nested virtualization on there "
            "(`-cpu host` in QEMU, “Nested VT-x/AMD-V” in VirtualBox, a metal or nested-capable instance in a cloud)."
        )
    if not host.extension:
        return "This CPU shows neither VT-x nor AMD-V: switch virtualization on in the firmware set-up (BIOS)."
    module = "kvm_intel" if host.extension == "vmx" else "kvm_amd"
    return f"The CPU can do it but the module isn't loaded: run `sudo modprobe {module}`."
