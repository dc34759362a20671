"""Segment descriptors: the eight bytes in the GDT that say what a selector means.

The fields are scattered because the 386 had to keep the 286's layout and add to it:

    bits 15…0    limit 15…0           bits 47…40   type, S, DPL, P      bit 55       G, the limit counts 4 KiB pages
    bits 31…16   base 15…0            bits 51…48   limit 19…16          bits 63…56   base 31…24
    bits 39…32   base 23…16           bits 54…52   AVL, L, D/B

`limit` here is always the last valid offset in bytes, as in the processor's hidden part and in struct kvm_segment;
encoding and decoding scale it by G.

Source: SDM vol. 3, "Segment Descriptors" and "System Descriptor Types"; APM vol. 2, "Legacy Segment Descriptors".
"""

from __future__ import annotations

from dataclasses import dataclass

from minivmm.x86.state import SegmentLike

PAGE_MASK = 0xFFF

# Type nibble where S=1: bit 3 code, bit 2 conforming or expand-down, bit 1 readable or writable, bit 0 accessed.
ACCESSED, WRITABLE, READABLE, EXPAND_DOWN, CONFORMING, CODE = 1, 2, 2, 4, 4, 8
DATA_READ_WRITE = WRITABLE | ACCESSED
CODE_EXECUTE_READ = CODE | READABLE | ACCESSED

# Type nibble where S=0.
TSS_16, LDT, BUSY_TSS_16, TSS, BUSY_TSS = 1, 2, 3, 9, 11
SYSTEM_TYPES = {
    1: "16-bit TSS, available",
    2: "LDT",
    3: "16-bit TSS, busy",
    4: "16-bit call gate",
    5: "task gate",
    6: "16-bit interrupt gate",
    7: "16-bit trap gate",
    9: "TSS, available",
    11: "TSS, busy",
    12: "call gate",
    14: "interrupt gate",
    15: "trap gate",
}
# A gate has no base and no limit: it points to code by selector and offset.
GATE_TYPES = frozenset({4, 5, 6, 7, 12, 14, 15})


class DescriptorError(ValueError):
    """The fields do not fit a descriptor, or the bytes are not one."""


@dataclass(frozen=True)
class Descriptor:
    """A code, data, TSS or LDT descriptor. `limit` is the last valid offset in bytes; the rest is as the manual has it.

    `wide` marks the 16-byte TSS or LDT of long mode, whose base has 64 bits.
    """

    base: int = 0
    limit: int = 0
    type: int = 0
    s: int = 1
    dpl: int = 0
    present: int = 1
    avl: int = 0
    l: int = 0  # noqa: E741 (the manual's own name for the bit)
    db: int = 0
    g: int = 0
    wide: bool = False

    def encode(self) -> bytes:
        """The descriptor's 8 bytes, or 16 where it is `wide`. Raises DescriptorError where a field does not fit."""
        limit = self._limit_field()
        base_bits = 64 if self.wide else 32
        if self.wide and self.s:
            raise DescriptorError("only a TSS or an LDT has 16 bytes: code and data keep 8 in long mode too")
        if not 0 <= self.base < 1 << base_bits:
            raise DescriptorError(f"the base {self.base:#x} does not fit in {base_bits} bits")
        for name, value, top in (("type", self.type, 15), ("dpl", self.dpl, 3)):
            if not 0 <= value <= top:
                raise DescriptorError(f"{name} is {value}, but it must lie between 0 and {top}")
        for name in ("s", "present", "avl", "l", "db", "g"):
            if getattr(self, name) not in (0, 1):
                raise DescriptorError(f"{name} is {getattr(self, name)}, but it is a single bit")
        access = self.type | self.s << 4 | self.dpl << 5 | self.present << 7
        flags = self.avl | self.l << 1 | self.db << 2 | self.g << 3
        value = (
            (limit & 0xFFFF)
            | (self.base & 0xFF_FFFF) << 16
            | access << 40
            | (limit >> 16) << 48
            | flags << 52
            | (self.base >> 24 & 0xFF) << 56
        )
        return value.to_bytes(8, "little") + ((self.base >> 32).to_bytes(8, "little") if self.wide else b"")

    def _limit_field(self) -> int:
        """The 20 bits that go into the table: bytes, or whole pages with G."""
        if not self.g:
            if not 0 <= self.limit <= 0xF_FFFF:
                raise DescriptorError(
                    f"the limit {self.limit:#x} needs more than 20 bits: set g=1, so that it counts 4 KiB pages"
                )
            return self.limit
        if not 0 <= self.limit <= 0xFFFF_FFFF or self.limit & PAGE_MASK != PAGE_MASK:
            raise DescriptorError(f"with g=1 a limit ends in 0xfff and fits in 32 bits; {self.limit:#x} does not")
        return self.limit >> 12

    @classmethod
    def decode(cls, data: bytes) -> Descriptor:
        """Reads 8 bytes, or the 16 of a TSS or LDT in long mode. Raises DescriptorError for gates and other lengths."""
        if len(data) not in (8, 16):
            raise DescriptorError(f"a descriptor has 8 bytes, or 16 for a TSS or LDT in long mode, not {len(data)}")
        value = int.from_bytes(data[:8], "little")
        kind, s = value >> 40 & 15, value >> 44 & 1
        if not s and kind in GATE_TYPES:
            raise DescriptorError(f"this is a gate ({SYSTEM_TYPES[kind]}), which has neither base nor limit")
        wide = len(data) == 16
        if wide and s:
            raise DescriptorError("a code or data descriptor has 8 bytes; the next 8 are another descriptor")
        base = (value >> 16 & 0xFF_FFFF) | (value >> 56) << 24
        if wide:
            base |= int.from_bytes(data[8:12], "little") << 32
        limit = (value & 0xFFFF) | (value >> 48 & 15) << 16
        g = value >> 55 & 1
        return cls(
            base=base,
            limit=limit << 12 | PAGE_MASK if g else limit,
            type=kind,
            s=s,
            dpl=value >> 45 & 3,
            present=value >> 47 & 1,
            avl=value >> 52 & 1,
            l=value >> 53 & 1,
            db=value >> 54 & 1,
            g=g,
            wide=wide,
        )

    @classmethod
    def of(cls, segment: SegmentLike) -> Descriptor:
        """The descriptor that a loaded segment register came from, as far as its hidden part tells."""
        return cls(
            base=segment.base,
            limit=segment.limit,
            type=segment.type,
            s=segment.s,
            dpl=segment.dpl,
            present=segment.present,
            avl=segment.avl,
            l=segment.l,
            db=segment.db,
            g=segment.g,
        )

    def fill(self, segment: SegmentLike, selector: int) -> None:
        """Loads a segment register: the selector, and everything that the processor would cache from the table."""
        for name in ("base", "limit", "type", "s", "dpl", "present", "avl", "l", "db", "g"):
            setattr(segment, name, getattr(self, name))
        segment.selector = selector
        segment.unusable = 0 if self.present else 1

    @property
    def is_code(self) -> bool:
        """True for a code segment."""
        return bool(self.s and self.type & CODE)

    def describe(self) -> str:
        """The descriptor in words, such as "code, execute/read, ring 0, 64-bit"."""
        if self.is_code:
            words = ["code", "execute/read" if self.type & READABLE else "execute only"]
            words += ["conforming"] if self.type & CONFORMING else []
            words += [f"ring {self.dpl}", "64-bit" if self.l else "32-bit" if self.db else "16-bit"]
        elif self.s:
            words = ["data", "read/write" if self.type & WRITABLE else "read only"]
            words += ["expand-down"] if self.type & EXPAND_DOWN else []
            words += [f"ring {self.dpl}", "32-bit" if self.db else "16-bit"]
        else:
            words = [SYSTEM_TYPES.get(self.type, f"reserved system type {self.type}"), f"ring {self.dpl}"]
        if self.l and self.db:
            words.append("L and D both set, which is not allowed")
        if not self.present:
            words.append("not present")
        return ", ".join(words)
