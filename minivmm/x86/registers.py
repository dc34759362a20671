"""A CPU state in words: the tables that a failure report and a notebook show.

Source: SDM vol. 1, "Basic Program Execution Registers"; SDM vol. 3, "System-Level Registers and Data Structures".
"""

from __future__ import annotations

from typing import NamedTuple

from minivmm.x86 import bits
from minivmm.x86.descriptors import Descriptor
from minivmm.x86.modes import REAL, VIRTUAL_8086, mode_of
from minivmm.x86.state import RegsLike, SegmentLike, SregsLike

GENERAL = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)))
# Upper case where the flag is set, lower case where it is clear: "odItszaPc" has IF and PF.
_LETTERS = (
    ("o", bits.RFLAGS_OF),
    ("d", bits.RFLAGS_DF),
    ("i", bits.RFLAGS_IF),
    ("t", bits.RFLAGS_TF),
    ("s", bits.RFLAGS_SF),
    ("z", bits.RFLAGS_ZF),
    ("a", bits.RFLAGS_AF),
    ("p", bits.RFLAGS_PF),
    ("c", bits.RFLAGS_CF),
)


class SegmentRow(NamedTuple):
    """A segment register for a table: name, selector, base, limit (bytes), and the rest in words."""

    name: str
    selector: int
    base: int
    limit: int
    words: str


class ControlRow(NamedTuple):
    """A control register for a table: name, value, and the names of its set bits."""

    name: str
    value: int
    words: str


def flag_letters(rflags: int) -> str:
    """The nine flags that programs use, as debuggers print them: upper case is set."""
    return "".join(letter.upper() if rflags & mask else letter for letter, mask in _LETTERS)


def general_rows(regs: RegsLike) -> list[tuple[str, int]]:
    """The sixteen general registers by name, in the order in which people look for them."""
    return [(name.upper(), int(getattr(regs, name))) for name in GENERAL]


def segment_rows(sregs: SregsLike, regs: RegsLike | None = None) -> list[SegmentRow]:
    """CS, DS, ES, FS, GS, SS, TR, LDTR, with what the processor holds behind each selector."""
    is_16bit = mode_of(sregs, regs) in (REAL, VIRTUAL_8086)
    rows = []
    for name in ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt"):
        segment: SegmentLike = getattr(sregs, name)
        label = "LDTR" if name == "ldt" else name.upper()
        words = segment_in_words(segment)
        if is_16bit and name in ("ds", "es", "fs", "gs", "ss", "cs"):
            words += "" if segment.base == segment.selector << 4 else ", base is not 16 × selector"
        rows.append(SegmentRow(label, segment.selector, segment.base, segment.limit, words))
    return rows


def segment_in_words(segment: SegmentLike) -> str:
    """The hidden part of a segment register in words, or "unusable"."""
    if segment.unusable:
        return "unusable"
    return Descriptor.of(segment).describe()


def control_rows(sregs: SregsLike) -> list[ControlRow]:
    """CR0, CR2, CR3, CR4, EFER, GDTR and IDTR."""
    return [
        ControlRow("CR0", sregs.cr0, bits.names_of("cr0", sregs.cr0)),
        ControlRow("CR2", sregs.cr2, "address of the last page fault"),
        ControlRow("CR3", sregs.cr3, "top page table" if sregs.cr0 & bits.CR0_PG else "not used: paging is off"),
        ControlRow("CR4", sregs.cr4, bits.names_of("cr4", sregs.cr4)),
        ControlRow("EFER", sregs.efer, bits.names_of("efer", sregs.efer)),
        ControlRow("GDTR", sregs.gdt.base, f"limit {sregs.gdt.limit:#x}"),
        ControlRow("IDTR", sregs.idt.base, f"limit {sregs.idt.limit:#x}"),
    ]


def general_text(regs: RegsLike) -> str:
    """RIP, RFLAGS and the general registers in lines, four registers each."""
    rflags = regs.rflags
    lines = [f"RIP    {regs.rip:#x}", f"RFLAGS {rflags:#x} [{flag_letters(rflags)}] {bits.names_of('rflags', rflags)}"]
    rows = [f"{name:<3} {value:016x}" for name, value in general_rows(regs)]
    return "\n".join([*lines, *("  ".join(rows[n : n + 4]) for n in range(0, len(rows), 4))])


def state_text(regs: RegsLike, sregs: SregsLike) -> str:
    """The whole state in lines: mode, general registers, segments, control registers."""
    lines = [f"mode   {mode_of(sregs, regs)}", general_text(regs)]
    lines += [
        f"{row.name:<4} {row.selector:04x}  base {row.base:016x}  limit {row.limit:08x}  {row.words}"
        for row in segment_rows(sregs, regs)
    ]
    lines += [f"{row.name:<4} {row.value:016x}  {row.words}" for row in control_rows(sregs)]
    return "\n".join(lines)
