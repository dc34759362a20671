"""What `minivmm run` was asked for, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minivmm.boot.image import KERNELS
from minivmm.boot.layout import Mode
from minivmm.boot.recognise import recognise
from minivmm.kvm.seam import Backend

# What Linux is told where nobody says otherwise. One that panics asks for a reset at once, and doesn't stand still. The
# driver of a virtio console is a module in most distributions: until it is there, messages come by the 16550.
APPEND = {"uart": "console=ttyS0 panic=-1", "virtio": "earlycon=uart8250,io,0x3f8 console=hvc0 panic=-1"}


class ImageFile:
    """A file that is looked at before it is loaded. What was read is given away, not kept: a kernel is as large as all
    the rest of this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._data: bytes | None = path.read_bytes()
        self.kind = recognise(self._data)

    def take(self) -> bytes:
        """Its content: what was read at first, and read anew for each reset."""
        data, self._data = self._data, None
        return self.path.read_bytes() if data is None else data


@dataclass(frozen=True)
class Options:
    """Memory in MiB, times in seconds; None where nothing was said."""

    image: ImageFile
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
        return APPEND[self.console] if self.image.kind == "linux" else ""

    @property
    def needs_pc(self) -> bool:
        """Whether the guest needs more than a Machine has."""
        return self.image.kind in KERNELS or self.irqchip != "none" or bool(self.disks) or self.console == "virtio"
