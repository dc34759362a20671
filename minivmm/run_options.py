"""What `minivmm run` was asked for, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minivmm.boot.image import KERNELS
from minivmm.boot.layout import Mode
from minivmm.boot.recognise import Kind
from minivmm.kvm.seam import Backend

# What Linux is told where nobody says otherwise. One that panics asks for a reset at once, and doesn't stand still. The
# driver of a virtio console is a module in most distributions: until it is there, messages come by the 16550.
APPEND = {"uart": "console=ttyS0 panic=-1", "virtio": "earlycon=uart8250,io,0x3f8 console=hvc0 panic=-1"}


@dataclass(frozen=True)
class Options:
    """Memory in MiB, times in seconds; None where nothing was said."""

    kind: Kind
    image: Path
    backend: Backend
    memory: int
    cpus: int = 1
    irqchip: str = "none"
    initrd: Path | None = None
    append: str | None = None
    console: str = "uart"
    disks: tuple[Path, ...] = ()
    disk_read_only: bool = False
    mode: Mode | None = None
    load: int | None = None
    timeout: float | None = None
    gdb: int | None = None
    reboot: bool = False
    trace: Path | None = None
    trace_filter: str = ""
    trace_summary: bool = False
    deterministic: bool = False

    @property
    def command_line(self) -> str:
        """What the kernel is told."""
        if self.append is not None:
            return self.append
        return APPEND[self.console] if self.kind == "linux" else ""

    @property
    def needs_pc(self) -> bool:
        """Whether the guest needs more than a Machine has."""
        return self.kind in KERNELS or self.irqchip != "none" or bool(self.disks) or self.console == "virtio"
