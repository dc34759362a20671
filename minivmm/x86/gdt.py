"""The global descriptor table: selectors handed out by name, and the table's bytes.

Source: SDM vol. 3, "Segment Selectors" and "Global and Local Descriptor Tables".
"""

from __future__ import annotations

from collections.abc import Iterator

from minivmm.x86.descriptors import (
    CODE_EXECUTE_READ,
    DATA_READ_WRITE,
    GATE_TYPES,
    Descriptor,
    DescriptorError,
)
from minivmm.x86.state import MemoryLike

FOUR_GIB = 0xFFFF_FFFF

FLAT_CODE32 = Descriptor(limit=FOUR_GIB, type=CODE_EXECUTE_READ, db=1, g=1)
FLAT_CODE64 = Descriptor(limit=FOUR_GIB, type=CODE_EXECUTE_READ, l=1, g=1)
FLAT_DATA = Descriptor(limit=FOUR_GIB, type=DATA_READ_WRITE, db=1, g=1)


class Gdt:
    """A GDT under construction. Entry 0 is the null descriptor, which the processor never reads."""

    def __init__(self) -> None:
        self._bytes = bytearray(8)
        self._entries: dict[str, tuple[int, Descriptor]] = {}

    def add(self, name: str, descriptor: Descriptor) -> int:
        """Appends an entry and returns its selector, RPL included: a ring 3 segment is loaded with RPL 3.

        Raises DescriptorError where the name is taken, a field does not fit, or the table is full (64 KiB).
        """
        if name in self._entries:
            raise DescriptorError(f"the GDT already has an entry called {name!r}")
        encoded = descriptor.encode()
        if len(self._bytes) + len(encoded) > 0x1_0000:
            raise DescriptorError("the GDT is full: its limit has 16 bits, so it holds 8192 entries of 8 bytes")
        # A TSS may be used by ring 0 only (LTR), so its selector keeps RPL 0 whatever its DPL.
        selector = len(self._bytes) | (descriptor.dpl if descriptor.s else 0)
        self._bytes += encoded
        self._entries[name] = (selector, descriptor)
        return selector

    def selector(self, name: str) -> int:
        """The selector of the entry called `name`. Raises KeyError where there is none."""
        return self._entries[name][0]

    def __getitem__(self, name: str) -> Descriptor:
        return self._entries[name][1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        """The table's size in bytes."""
        return len(self._bytes)

    def __bytes__(self) -> bytes:
        return bytes(self._bytes)

    @property
    def limit(self) -> int:
        """What GDTR wants: the size in bytes, less one."""
        return len(self._bytes) - 1

    def text(self) -> str:
        """The table in lines: selector, name, bytes as one number, and the entry in words."""
        lines = ["0x00  null"]
        for name, (selector, descriptor) in self._entries.items():
            value = int.from_bytes(descriptor.encode()[:8], "little")
            lines.append(f"{selector & ~3:#04x}  {name:<12} {value:#018x}  {descriptor.describe()}")
        return "\n".join(lines)


def flat_gdt() -> Gdt:
    """The table that minivmm's modes use: every segment starts at 0 and spans 4 GiB.

    Selectors: code32 0x08, data 0x10, code64 0x18, user data 0x23, user code64 0x2b.
    """
    gdt = Gdt()
    gdt.add("code32", FLAT_CODE32)
    gdt.add("data", FLAT_DATA)
    gdt.add("code64", FLAT_CODE64)
    # User data comes just before user code because SYSRET computes both selectors from one number.
    gdt.add("user data", Descriptor(limit=FOUR_GIB, type=DATA_READ_WRITE, dpl=3, db=1, g=1))
    gdt.add("user code64", Descriptor(limit=FOUR_GIB, type=CODE_EXECUTE_READ, dpl=3, l=1, g=1))
    return gdt


def read_descriptor(memory: MemoryLike, base: int, limit: int, selector: int, *, long: bool = False) -> Descriptor:
    """Reads the descriptor of `selector` from the table at guest-physical `base`.

    `long` says that the CPU is in long mode, where a TSS or LDT takes 16 bytes. Raises DescriptorError where the
    selector is null, asks for the LDT, lies beyond the limit or names a gate; the memory's own error where there is no
    memory.
    """
    if selector & ~3 == 0:
        raise DescriptorError("selector 0 is the null selector: it names no segment")
    if selector & 4:
        raise DescriptorError(f"selector {selector:#x} has TI=1: it names an entry of the LDT, not of the GDT")
    offset = selector & ~7
    if offset + 7 > limit:
        raise DescriptorError(f"selector {selector:#x} lies beyond the GDT, whose last byte is at offset {limit:#x}")
    data = memory.read(base + offset, 8)
    access = data[5]
    is_system = not access & 0x10 and access & 15 not in GATE_TYPES and access & 15
    if long and is_system:
        if offset + 15 > limit:
            raise DescriptorError(f"the 16-byte entry of selector {selector:#x} is cut off by the limit {limit:#x}")
        data += memory.read(base + offset + 8, 8)
    return Descriptor.decode(bytes(data))
