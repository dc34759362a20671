"""The shape of the CPU state that this package reads and writes, and a plain Python copy of it.

The field names are those of struct kvm_segment, kvm_dtable, kvm_sregs and kvm_regs, so every function here takes a
cffi pointer to such a structure as happily as the dataclasses below. `reset_state()` is what a processor holds as it
comes out of reset, and what KVM_GET_SREGS gives for a new vCPU.

Source: KVM API, KVM_GET_SREGS and KVM_GET_REGS; SDM vol. 3, "IA-32 and Intel 64 Processor States Following Power-up,
Reset, or INIT".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss")


class SegmentLike(Protocol):
    """A segment register with its hidden part. `limit` is the last valid offset in bytes, already scaled by `g`."""

    base: int
    limit: int
    selector: int
    type: int
    present: int
    dpl: int
    db: int
    s: int
    l: int  # noqa: E741 (the manual's own name for the bit)
    g: int
    avl: int
    unusable: int


class TableLike(Protocol):
    """GDTR or IDTR. `limit` is the table's size in bytes, less one."""

    base: int
    limit: int


class SregsLike(Protocol):
    """The special registers: segments, tables, control registers, EFER."""

    cr0: int
    cr2: int
    cr3: int
    cr4: int
    efer: int

    @property
    def cs(self) -> SegmentLike: ...
    @property
    def ds(self) -> SegmentLike: ...
    @property
    def es(self) -> SegmentLike: ...
    @property
    def fs(self) -> SegmentLike: ...
    @property
    def gs(self) -> SegmentLike: ...
    @property
    def ss(self) -> SegmentLike: ...
    @property
    def tr(self) -> SegmentLike: ...
    @property
    def ldt(self) -> SegmentLike: ...
    @property
    def gdt(self) -> TableLike: ...
    @property
    def idt(self) -> TableLike: ...


class RegsLike(Protocol):
    """The two general registers that decide how the rest is read; the others are looked up by name."""

    rip: int
    rflags: int


class MemoryLike(Protocol):
    """Guest-physical memory. `read` and `write` raise a ValueError where there is none."""

    def read(self, gpa: int, size: int, /) -> bytes: ...
    def write(self, gpa: int, data: bytes, /) -> object: ...


@dataclass
class Segment:
    """A segment register in plain Python."""

    base: int = 0
    limit: int = 0
    selector: int = 0
    type: int = 0
    present: int = 0
    dpl: int = 0
    db: int = 0
    s: int = 0
    l: int = 0  # noqa: E741
    g: int = 0
    avl: int = 0
    unusable: int = 0


@dataclass
class Table:
    """GDTR or IDTR in plain Python."""

    base: int = 0
    limit: int = 0


def _reset_data() -> Segment:
    return Segment(limit=0xFFFF, type=3, present=1, s=1)


@dataclass
class Sregs:
    """The special registers in plain Python; a new one holds the state after reset."""

    # The first instruction lies 16 bytes under 4 GiB: base and selector disagree until the first far jump.
    cs: Segment = field(default_factory=lambda: Segment(0xFFFF_0000, 0xFFFF, 0xF000, type=11, present=1, s=1))
    ds: Segment = field(default_factory=_reset_data)
    es: Segment = field(default_factory=_reset_data)
    fs: Segment = field(default_factory=_reset_data)
    gs: Segment = field(default_factory=_reset_data)
    ss: Segment = field(default_factory=_reset_data)
    tr: Segment = field(default_factory=lambda: Segment(limit=0xFFFF, type=11, present=1))
    ldt: Segment = field(default_factory=lambda: Segment(limit=0xFFFF, type=2, present=1))
    gdt: Table = field(default_factory=lambda: Table(0, 0xFFFF))
    idt: Table = field(default_factory=lambda: Table(0, 0xFFFF))
    cr0: int = 0x6000_0010
    cr2: int = 0
    cr3: int = 0
    cr4: int = 0
    cr8: int = 0
    efer: int = 0


@dataclass
class Regs:
    """The general registers in plain Python; a new one holds the state after reset."""

    rax: int = 0
    rbx: int = 0
    rcx: int = 0
    rdx: int = 0x600  # the processor's family, as reset leaves it
    rsi: int = 0
    rdi: int = 0
    rsp: int = 0
    rbp: int = 0
    r8: int = 0
    r9: int = 0
    r10: int = 0
    r11: int = 0
    r12: int = 0
    r13: int = 0
    r14: int = 0
    r15: int = 0
    rip: int = 0xFFF0
    rflags: int = 2


def reset_state() -> tuple[Regs, Sregs]:
    """General and special registers as they are after reset."""
    return Regs(), Sregs()
