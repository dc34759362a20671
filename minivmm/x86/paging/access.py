"""Who may do what to a page.

Rights are the AND of all levels: a page is writable only if every entry on the way says so, and so it is with user
access; one no-execute bit on the way is enough. Protection keys and shadow stacks are not judged.

Source: SDM vol. 3, "Access Rights" (of linear addresses) and "Page-Fault Exceptions".
"""

from __future__ import annotations

from dataclasses import dataclass

from minivmm.x86 import bits
from minivmm.x86.paging import faults
from minivmm.x86.paging.faults import Fault
from minivmm.x86.paging.formats import NO_EXECUTE, USER, WRITABLE, Level, PagingMode
from minivmm.x86.state import SregsLike


@dataclass(frozen=True)
class Controls:
    """The register bits that change a walk's outcome, and two facts from CPUID.

    `ac` is RFLAGS.AC, by which a kernel lifts SMAP for a moment. `gib_pages` says that there are 1 GiB pages (feature
    pdpe1gb; KVM assumes none until KVM_SET_CPUID2 announces them), `physical_bits` how wide a physical address is.
    """

    wp: bool = True
    nxe: bool = True
    pse: bool = True
    smep: bool = False
    smap: bool = False
    ac: bool = False
    gib_pages: bool = True
    physical_bits: int = 52

    @classmethod
    def of(cls, sregs: SregsLike, *, rflags: int = 0, gib_pages: bool = True, physical_bits: int = 52) -> Controls:
        """The controls that a CPU state has set."""
        return cls(
            wp=bool(sregs.cr0 & bits.CR0_WP),
            nxe=bool(sregs.efer & bits.EFER_NXE),
            pse=bool(sregs.cr4 & bits.CR4_PSE),
            smep=bool(sregs.cr4 & bits.CR4_SMEP),
            smap=bool(sregs.cr4 & bits.CR4_SMAP),
            ac=bool(rflags & bits.RFLAGS_AC),
            gib_pages=gib_pages,
            physical_bits=physical_bits,
        )


@dataclass(frozen=True)
class Access:
    """What is tried, by whom (`user` is ring 3), and under which controls."""

    write: bool
    user: bool
    fetch: bool
    controls: Controls

    def in_words(self) -> str:
        what = "instruction fetch" if self.fetch else "write" if self.write else "read"
        return f"{what} by {'user code' if self.user else 'the kernel'}"

    def error_code(self, mode: PagingMode, why: int) -> int:
        # The fetch bit exists only where some control can tell a fetch from a read.
        tells_fetch = self.controls.smep or (self.controls.nxe and mode.entry_size == 8)
        return (
            why
            | (faults.WRITE if self.write and not self.fetch else 0)
            | (faults.USER if self.user else 0)
            | (faults.FETCH if self.fetch and tells_fetch else 0)
        )


def refusal(path: list[tuple[Level, int]], mode: PagingMode, access: Access) -> Fault | None:
    """Judges the rights of all levels together; the first entry that refuses is named."""
    controls = access.controls

    def refuse(level: str, reason: str) -> Fault:
        return Fault("#PF", access.error_code(mode, faults.PROTECTION), level, reason)

    supervisor = next((level.name for level, entry in path if not entry & USER), None)
    read_only = next((level.name for level, entry in path if not entry & WRITABLE), None)
    no_execute = next((level.name for level, entry in path if mode.entry_size == 8 and entry & NO_EXECUTE), None)
    leaf = path[-1][0].name
    if access.user and supervisor:
        return refuse(supervisor, f"the {supervisor} entry has U/S=0: the page belongs to the kernel")
    if access.fetch:
        if no_execute and controls.nxe:
            return refuse(no_execute, f"the {no_execute} entry has XD=1: nothing here may be executed")
        if controls.smep and not access.user and not supervisor:
            return refuse(leaf, "CR4.SMEP forbids the kernel to execute a user page (U/S=1 at every level)")
        return None
    if controls.smap and not access.user and not supervisor and not controls.ac:
        return refuse(leaf, "CR4.SMAP forbids the kernel to touch a user page (U/S=1 at every level) while AC=0")
    if access.write and read_only and (access.user or controls.wp):
        who = "" if access.user else ", and CR0.WP=1 makes that count for the kernel too"
        return refuse(read_only, f"the {read_only} entry has R/W=0: the page is read-only{who}")
    return None
