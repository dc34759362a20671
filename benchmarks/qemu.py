"""The same guest, started by QEMU and by minivmm: the two command lines, as equal as they can be.

QEMU's microvm is what minivmm's own machine is: no firmware of weight, no PCI, virtio over MMIO, one 16550.

Source: QEMU, "microvm machine type" in its system emulation manual (docs/system/i386/microvm.rst).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minivmm.accel import LINUX, NoBackendError, choose

QEMU = "qemu-system-x86_64"
MEMORY = 192  # MiB: like no other mapping that either process makes, so that it is found again in its memory map
# `quiet`: else the console is measured, at ten characters an exit. rdinit: ours, before any other program.
APPEND = "console=ttyS0 quiet panic=-1 rdinit=/run-first"
RDTSC = bytes.fromhex("0f31 48c1e220 4809d0 c3")  # rdtsc; shl rdx, 32; or rax, rdx; ret


class CannotMeasureError(Exception):
    """Something that this benchmark needs is not here; the text says what to do."""


@dataclass(frozen=True)
class Guest:
    """What both boot: a kernel, an initial RAM disk whose /run-first is the first program, perhaps a disk."""

    kernel: Path
    initrd: Path
    disk: Path | None = None


@dataclass(frozen=True)
class Contest:
    """minivmm on `ours` against QEMU on `theirs`: both interpret the guest, or both have KVM do it."""

    ours: str
    theirs: str

    @property
    def vmms(self) -> dict[str, Callable[[Guest], list[str]]]:
        """Name → command line for a guest. QEMU is the baseline."""
        return {
            f"QEMU microvm, {self.theirs}": lambda guest: qemu(guest, self.theirs),
            f"minivmm, {self.ours}": lambda guest: minivmm(guest, self.ours),
        }


def contests() -> Iterator[Contest]:
    """What can be compared here. In the box (tools/box.py) that is KVM: to interpret inside QEMU would take for ever.

    Raises CannotMeasureError where there is no QEMU."""
    if not shutil.which(QEMU):
        raise CannotMeasureError(f"There is no {QEMU} to measure against: apt install qemu-system-x86")
    for contest in (Contest("soft", "tcg"), Contest("kvm", "kvm")):
        if contest.ours == "soft" and "MINIVMM_BOX" in os.environ:
            continue
        try:
            choose(contest.ours, (LINUX,))
        except NoBackendError:
            continue
        yield contest


def qemu(guest: Guest, accel: str) -> list[str]:
    """QEMU's command line. `-cpu max` is the host's with KVM, and all that QEMU can with TCG."""
    append = APPEND
    if accel == "tcg":  # its TSC is the host's, and where the host is busy Linux can't find out how fast that is
        append += f" tsc_early_khz={host_tsc_khz()}"
    command = [
        *(QEMU, "-M", f"microvm,accel={accel}", "-cpu", "max", "-m", str(MEMORY)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"),
        *("-kernel", str(guest.kernel), "-initrd", str(guest.initrd), "-append", append),
        *("-device", "virtio-rng-device"),  # minivmm's machine always has one
    ]
    if guest.disk:
        drive = f"id=disk,file={guest.disk},format=raw,if=none"
        command += ["-drive", drive, "-device", "virtio-blk-device,drive=disk"]
    return command


def minivmm(guest: Guest, accel: str) -> list[str]:
    """minivmm's command line."""
    command = [
        *(sys.executable, "-c", "from minivmm.cli import main; main()", "run", str(guest.kernel)),
        *("--accel", accel, "--memory", str(MEMORY), "--initrd", str(guest.initrd), "--append", APPEND),
    ]
    return [*command, "--disk", str(guest.disk)] if guest.disk else command


def host_tsc_khz(seconds: float = 0.05) -> int:
    """How fast the host's time stamp counter runs, measured for so long: to about one part in a thousand."""
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
        page.write(RDTSC)
        code = ctypes.c_char.from_buffer(page)
        rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(code))
        start, first = time.perf_counter_ns(), rdtsc()
        time.sleep(seconds)
        ticks, taken = rdtsc() - first, time.perf_counter_ns() - start
        del code  # else the page can't be closed
    return int(ticks * 1_000_000 // taken)
