"""The state that a flat or ELF guest starts in, and where the host's part of it lies in guest memory.

0x00000  interrupt vector table of real mode
0x01000  a flat image, unless it says otherwise
0x0F000  top of the real-mode stack
0x7F000  GDT; the stack of the other modes grows down from here
0x80000  PML4, 0x81000 PDPT, 0x82000–0x85FFF four page directories: the first 4 GiB, one to one, in 2 MiB pages
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Literal

from minivmm.memory import GuestMemory
from minivmm.vcpu import Vcpu
from minivmm.x86 import modes
from minivmm.x86.gdt import flat_gdt
from minivmm.x86.paging.formats import LARGE, PRESENT, WRITABLE

Mode = Literal["real", "protected", "long"]

FLAT_LOAD = 0x1000
REAL_STACK = 0xF000
GDT = 0x7F000
STACK = 0x7F000
PML4 = 0x80000
PDPT = 0x81000
DIRECTORIES = 0x82000
LARGE_PAGE = 2 << 20


def enter(vcpu: Vcpu, memory: GuestMemory, mode: Mode, entry: int) -> None:
    """Puts the vCPU at `entry` in `mode`. RFLAGS has only its fixed bit 1; all other registers are 0.

    Raises GuestMemoryError where memory doesn't reach to where GDT and page tables go (1 MiB is enough).
    """
    sregs = vcpu.get_sregs()
    regs = dict.fromkeys(("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp"), 0)
    if mode == "real":
        modes.real_mode(sregs)
        stack = REAL_STACK
    else:
        gdt = flat_gdt()
        memory.write(GDT, bytes(gdt))
        stack = STACK
        if mode == "protected":
            modes.protected_mode(sregs, gdt=gdt, gdt_base=GDT)
        else:
            identity_map(memory)
            modes.long_mode(sregs, cr3=PML4, gdt=gdt, gdt_base=GDT)
    vcpu.set_sregs(sregs)
    vcpu.update(rip=entry, rsp=stack, rflags=2, **regs)


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
