"""PVH: an ELF kernel with a second entry, in 32-bit protected mode, that is given one structure and needs no BIOS.

Xen made it; Linux has it where it was built with CONFIG_PVH, which gives a way to boot a vmlinux.

Source: Xen, docs/misc/pvh.pandoc, "x86/HVM direct boot ABI"; xen/include/public/arch-x86/hvm/start_info.h.
"""

from __future__ import annotations

import struct

from minivmm.boot import elf, firmware, layout
from minivmm.boot.e820 import memory_map, ram_of
from minivmm.boot.errors import BadImageError
from minivmm.boot.linux import encoded, place_initrd
from minivmm.boot.placing import Notes, check_room
from minivmm.boot.platform import Platform
from minivmm.memory import GuestMemory
from minivmm.vcpu import Vcpu
from minivmm.x86.bits import CR0_ET, CR0_PE

PHYS32_ENTRY = 18  # the note XEN_ELFNOTE_PHYS32_ENTRY
START_INFO_MAGIC = 0x336E_C578
VERSION_WITH_MEMORY_MAP = 1


def entry_of(image: elf.Elf) -> int | None:
    """The physical address of the PVH entry, or None where the file has none."""
    for name, kind, contents in image.notes():
        if (name, kind) == (b"Xen", PHYS32_ENTRY) and len(contents) in (4, 8):
            return int.from_bytes(contents, "little")
    return None


def load_pvh(
    vcpu: Vcpu,
    memory: GuestMemory,
    kernel: bytes,
    *,
    initrd: bytes | None = None,
    command_line: str = "",
    platform: Platform | None = None,
) -> None:
    """Loads an ELF kernel with a PVH entry and puts the vCPU there. Raises BadImageError."""
    image = elf.parse(kernel)
    entry = entry_of(image)
    if entry is None:
        raise BadImageError("The ELF file has no PVH entry (a Xen note of type 18): build the kernel with CONFIG_PVH.")
    if not image.start <= entry < image.end:
        raise BadImageError(f"The PVH entry {entry:#x} lies outside of what is loaded: the ELF file is damaged.")
    check_room(memory, image.start, image.end, "The PVH kernel")
    elf.load(memory, image.segments, "the PVH kernel")
    firmware.install(memory, platform or Platform())
    modules = []
    if initrd is not None:
        modules.append((place_initrd(memory, initrd, above=image.end, below=layout.HOLE.start), len(initrd)))
    info = _start_info(memory, modules, encoded(command_line))
    layout.enter(vcpu, memory, "protected", entry, rbx=info)
    sregs = vcpu.get_sregs()
    sregs.cr0, sregs.cr4 = CR0_PE | CR0_ET, 0
    sregs.tr.limit = 0x67
    vcpu.set_sregs(sregs)


def _start_info(memory: GuestMemory, modules: list[tuple[int, int]], command_line: bytes) -> int:
    """Writes struct hvm_start_info and what it points to; returns its address. An address of 0 says "none"."""
    notes = Notes(memory, layout.BOOT_INFO)
    regions = memory_map(ram_of(memory))
    text = Notes(memory, layout.COMMAND_LINE).add(command_line + b"\0")
    modules_at = notes.add(b"".join(struct.pack("<4Q", start, size, 0, 0) for start, size in modules)) if modules else 0
    map_at = notes.add(b"".join(region.pack() + bytes(4) for region in regions))
    flags = reserved = 0
    info = struct.pack("<IIII", START_INFO_MAGIC, VERSION_WITH_MEMORY_MAP, flags, len(modules))
    info += struct.pack("<QQQ", modules_at, text, firmware.RSDP)
    return notes.add(info + struct.pack("<QII", map_at, len(regions), reserved))
