"""An image, recognised by its content and loaded by the loader that it needs."""

from __future__ import annotations

from minivmm.boot import elf
from minivmm.boot.errors import BadImageError
from minivmm.boot.layout import FLAT_LOAD, Mode, enter
from minivmm.boot.linux import load_linux
from minivmm.boot.multiboot import load_multiboot
from minivmm.boot.placing import put
from minivmm.boot.platform import Platform
from minivmm.boot.pvh import load_pvh
from minivmm.boot.recognise import Kind, recognise
from minivmm.memory import GuestMemory, GuestMemoryError
from minivmm.vcpu import Vcpu

__all__ = ["BadImageError", "load_image"]

KERNELS: dict[Kind, str] = {"linux": "A Linux kernel", "pvh": "A PVH kernel", "multiboot": "A multiboot kernel"}


def load_image(
    vcpu: Vcpu,
    memory: GuestMemory,
    image: bytes,
    *,
    mode: Mode | None = None,
    load: int | None = None,
    entry: int | None = None,
    initrd: bytes | None = None,
    command_line: str = "",
    platform: Platform | None = None,
) -> Kind:
    """Loads `image`, puts the vCPU at its entry, and returns what it was. Raises BadImageError.

    A flat image is put at `load` (0x1000) and entered there, or at `entry`, in `mode` (real). An ELF file brings its
    own addresses and mode. A kernel (bzImage, PVH, multiboot) brings them too, and may not be told others; it is handed
    `initrd` (to multiboot, as a module), `command_line`, and tables that describe `platform`.
    """
    kind = recognise(image)
    if kind not in KERNELS:
        if initrd is not None or command_line:
            raise BadImageError(
                f"A {kind} guest has no use for an initial RAM disk or a command line: leave them away."
            )
        if kind == "flat":
            _load_flat(vcpu, memory, image, mode or "real", FLAT_LOAD if load is None else load, entry)
        else:
            _load_elf(vcpu, memory, image, mode, entry)
        return kind
    if (mode, load, entry) != (None, None, None):
        raise BadImageError(
            f"{KERNELS[kind]} says itself where it goes and how it starts: leave --load and --mode away."
        )
    if kind == "linux":
        load_linux(vcpu, memory, image, initrd=initrd, command_line=command_line, platform=platform)
    elif kind == "pvh":
        load_pvh(vcpu, memory, image, initrd=initrd, command_line=command_line, platform=platform)
    else:
        modules = () if initrd is None else (initrd,)
        load_multiboot(vcpu, memory, image, modules=modules, command_line=command_line, platform=platform)
    return kind


def _load_flat(vcpu: Vcpu, memory: GuestMemory, image: bytes, mode: Mode, load: int, entry: int | None) -> None:
    if mode == "real" and load + len(image) > 0x10000:
        raise BadImageError(
            f"A flat image in real mode must end below 64 KiB, and this one ends at {load + len(image):#x}."
        )
    put(memory, load, image, "the image")
    _enter(vcpu, memory, mode, load if entry is None else entry)


def _load_elf(vcpu: Vcpu, memory: GuestMemory, image: bytes, mode: Mode | None, entry: int | None) -> None:
    parsed = elf.parse(image)
    elf.load(memory, parsed.segments)
    native: Mode = "long" if parsed.bits == 64 else "protected"
    _enter(vcpu, memory, mode or native, parsed.entry if entry is None else entry)


def _enter(vcpu: Vcpu, memory: GuestMemory, mode: Mode, entry: int) -> None:
    try:
        enter(vcpu, memory, mode, entry)
    except GuestMemoryError as error:
        raise BadImageError(f"{mode} mode needs a GDT and page tables in the first MiB, and {error}") from None
