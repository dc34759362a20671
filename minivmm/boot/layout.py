"""The guest's address space as the loaders use it, and the state that a guest's first instruction finds.

0x00000  interrupt vector table of real mode; at 0x400 the BIOS data area
0x01000  a flat image, unless it says otherwise
0x07000  what a kernel is told: Linux's zero page, PVH's start info, the multiboot information
0x0F000  top of the real-mode stack
0x20000  the kernel's command line
0x7F000  GDT; the stack of the other modes grows down from here
0x80000  PML4, 0x81000 PDPT, 0x82000–0x85FFF four page directories: the first 4 GiB, one to one, in 2 MiB pages
0x9FC00  the last KiB of base memory (EBDA): the MP table
0xA0000  the display of a PC; nothing of ours
0xE0000  the BIOS area: the ACPI tables
0x100000 kernels, what belongs to them, and RAM up to 3 GiB
0xC0000000   a hole of 1 GiB: virtio at 0xD0000000, the IOAPIC at 0xFEC00000, the local APICs at 0xFEE00000
0x100000000  the rest of RAM
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Literal

from minivmm.memory import GuestMemory
from minivmm.vcpu import Vcpu
from minivmm.x86 import modes
from minivmm.x86.gdt import Gdt, flat_gdt
from minivmm.x86.paging.formats import LARGE, PRESENT, WRITABLE

Mode = Literal["real", "protected", "long"]

FLAT_LOAD = 0x1000
BOOT_INFO = range(0x7000, 0xF000)
REAL_STACK = 0xF000
COMMAND_LINE = range(0x2_0000, 0x3_0000)
GDT = 0x7F000
STACK = 0x7F000
PML4 = 0x80000
PDPT = 0x81000
DIRECTORIES = 0x82000
EBDA = 0x9FC00
BASE_MEMORY_END = 0xA_0000
BIOS_AREA = 0xE_0000
HIGH_MEMORY = 0x10_0000
HOLE = range(0xC000_0000, 0x1_0000_0000)
VIRTIO = 0xD000_0000
VIRTIO_STRIDE = 0x1000
IOAPIC = 0xFEC0_0000
LOCAL_APIC = 0xFEE0_0000
LARGE_PAGE = 2 << 20


def ram_ranges(size: int) -> list[range]:
    """Where `size` bytes of RAM go: from 0 up to the hole under 4 GiB, what is left from 4 GiB on."""
    low = min(size, HOLE.start)
    return [range(low)] + ([range(HOLE.stop, HOLE.stop + size - low)] if size > low else [])


def enter(
    vcpu: Vcpu,
    memory: GuestMemory,
    mode: Mode,
    entry: int,
    *,
    gdt: Gdt | None = None,
    code: str | None = None,
    data: str = "data",
    **registers: int,
) -> None:
    """Puts the vCPU at `entry` in `mode`. RFLAGS has only its fixed bit 1; all other registers are 0, or as given.

    In the modes that have one, `gdt` is the table (the flat one where none is given), and `code` and `data` are the
    names of the segments in it. Raises GuestMemoryError where memory doesn't reach to where GDT and page tables go
    (1 MiB is enough).
    """
    sregs = vcpu.get_sregs()
    values = dict.fromkeys(("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp"), 0)
    if mode == "real":
        modes.real_mode(sregs)
        stack = REAL_STACK
    else:
        gdt = gdt or flat_gdt()
        memory.write(GDT, bytes(gdt))
        stack = STACK
        if mode == "protected":
            modes.protected_mode(sregs, gdt=gdt, gdt_base=GDT, code=code or "code32", data=data)
        else:
            identity_map(memory)
            modes.long_mode(sregs, cr3=PML4, gdt=gdt, gdt_base=GDT, code=code or "code64", data=data)
    vcpu.set_sregs(sregs)
    vcpu.update(**{**values, "rip": entry, "rsp": stack, "rflags": 2, **registers})


def identity_map(memory: GuestMemory) -> None:
    """Page tables that map the first 4 GiB to themselves (SDM vol. 3, "4-Level Paging")."""
    memory.write(PML4, _identity_tables())


@cache  # the same for every VM, and 2000 entries take Python most of a millisecond
def _identity_tables() -> bytes:
    table = PRESENT | WRITABLE
    entries = [0] * (6 * 512)
    entries[0] = PDPT | table
    for gigabyte in range(4):
        entries[512 + gigabyte] = (DIRECTORIES + 4096 * gigabyte) | table
    entries[1024:] = (LARGE_PAGE * i | table | LARGE for i in range(4 * 512))
    return struct.pack(f"<{len(entries)}Q", *entries)
