"""The shape of page tables in each paging mode: levels, entry sizes, the bits of an entry.

A virtual address is cut into one index per level and an offset; each index picks an entry, and the entry holds the
address of the next table, or of the page. The modes differ in how many levels there are and how wide an entry is:

    32-bit     PD 10 bits, PT 10 bits, offset 12                             entries of 4 bytes
    PAE        PDPT 2 bits, PD 9, PT 9, offset 12                            entries of 8 bytes
    4-level    PML4 9 bits, PDPT 9, PD 9, PT 9, offset 12                    entries of 8 bytes
    5-level    PML5 9 bits in front of those

An entry above the last level may map a large page by its PS bit: 4 MiB (32-bit), 2 MiB, 1 GiB (4- and 5-level).

Source: SDM vol. 3, "32-Bit Paging", "PAE Paging", "4-Level Paging and 5-Level Paging"; APM vol. 2, "Page Translation".
"""

from __future__ import annotations

from dataclasses import dataclass

PAGE_4K = 1 << 12
PAGE_2M = 1 << 21
PAGE_4M = 1 << 22
PAGE_1G = 1 << 30

PRESENT = 1 << 0
WRITABLE = 1 << 1
USER = 1 << 2
WRITE_THROUGH = 1 << 3
CACHE_DISABLE = 1 << 4
ACCESSED = 1 << 5
DIRTY = 1 << 6
LARGE = 1 << 7
GLOBAL = 1 << 8
NO_EXECUTE = 1 << 63

ADDRESS_64 = 0x000F_FFFF_FFFF_F000
ADDRESS_32 = 0xFFFF_F000


def bits(high: int, low: int) -> int:
    """A mask of bits `high` … `low`, both included; 0 where high < low."""
    return (1 << max(high + 1, low)) - (1 << low)


@dataclass(frozen=True)
class Level:
    """One level of tables: the manual's name, the lowest address bit of its index, and the index's width."""

    name: str
    shift: int
    width: int
    may_be_large: bool = False

    @property
    def span(self) -> int:
        """How many bytes of virtual memory one entry covers."""
        return 1 << self.shift

    def index(self, va: int) -> int:
        """Which entry of this level's table `va` uses."""
        return va >> self.shift & (1 << self.width) - 1


_PT = Level("PT", 12, 9)
_PD = Level("PD", 21, 9, may_be_large=True)
_PDPT = Level("PDPT", 30, 9, may_be_large=True)
_PML4 = Level("PML4", 39, 9)


@dataclass(frozen=True)
class PagingMode:
    """A paging mode: its levels from the top, an entry's width in bytes, an address's in bits."""

    name: str
    levels: tuple[Level, ...]
    entry_size: int
    virtual_bits: int
    physical_bits: int
    cr3_mask: int

    @property
    def page_sizes(self) -> tuple[int, ...]:
        """The page sizes in bytes, smallest first."""
        return tuple(level.span for level in reversed(self.levels) if level.may_be_large or level.shift == 12)

    @property
    def has_canonical_hole(self) -> bool:
        """True where virtual addresses have 64 bits, of which only some are translated."""
        return self.virtual_bits > 32

    def is_flagless(self, level: Level) -> bool:
        """True for PAE's PDPT, whose four entries hold no access rights: those bits are reserved there."""
        return self.name == "PAE" and level.name == "PDPT"

    def table_address(self, entry: int) -> int:
        """Where the next table, or the 4 KiB page, lies."""
        return entry & (ADDRESS_64 if self.entry_size == 8 else ADDRESS_32)

    def page_address(self, entry: int, level: Level) -> int:
        """Where the page that `entry` of this level maps begins, large or not."""
        if level.shift == 12:
            return self.table_address(entry)
        if self.entry_size == 4:
            # PSE-36: the address bits above 32 hide in 20…13, which a 4 MiB page does not need.
            return (entry & bits(31, 22)) | (entry & bits(20, 13)) << 19
        return entry & ADDRESS_64 & ~(level.span - 1)

    def page_entry(self, address: int, level: Level) -> int:
        """The address part of an entry of this level that maps a page at `address`: `page_address` reversed."""
        if self.entry_size == 4 and level.shift > 12:
            return (address & bits(31, 22)) | (address >> 32 & 0xFF) << 13
        return address

    def reserved(self, entry: int, level: Level, *, physical_bits: int = 52, nxe: bool = True, gib: bool = True) -> int:
        """The bits of a present `entry` that are set though the manual reserves them."""
        is_large = bool(entry & LARGE) and level.may_be_large
        if self.entry_size == 4:
            # PSE-36 gives a 4 MiB page 40 address bits at most; bit 21 and what the processor lacks of them stay zero.
            return entry & bits(21, min(physical_bits, 40) - 19) if is_large else 0
        wrong = bits(51, physical_bits)
        if self.name == "PAE":
            wrong |= bits(62, 52)
        if self.is_flagless(level):
            return entry & (wrong | NO_EXECUTE | bits(2, 1) | bits(8, 5))
        if not nxe:
            wrong |= NO_EXECUTE
        if is_large:
            wrong |= bits(level.shift - 1, 13)
        if level.shift >= 39 or (level.shift == 30 and not gib):
            wrong |= LARGE
        return entry & wrong


BITS_32 = PagingMode("32-bit", (Level("PD", 22, 10, may_be_large=True), Level("PT", 12, 10)), 4, 32, 40, ADDRESS_32)
PAE = PagingMode("PAE", (Level("PDPT", 30, 2), _PD, _PT), 8, 32, 52, 0xFFFF_FFE0)
FOUR_LEVEL = PagingMode("4-level", (_PML4, _PDPT, _PD, _PT), 8, 48, 52, ADDRESS_64)
FIVE_LEVEL = PagingMode("5-level", (Level("PML5", 48, 9), *FOUR_LEVEL.levels), 8, 57, 52, ADDRESS_64)

MODES = {mode.name: mode for mode in (BITS_32, PAE, FOUR_LEVEL, FIVE_LEVEL)}


def mode_named(mode: PagingMode | str) -> PagingMode:
    """The paging mode called "32-bit", "PAE", "4-level" or "5-level". Raises ValueError for any other name."""
    if isinstance(mode, PagingMode):
        return mode
    if mode not in MODES:
        raise ValueError(f"{mode!r} is not a paging mode; the modes are {', '.join(MODES)}")
    return MODES[mode]


def entry_in_words(entry: int, level: Level, mode: PagingMode) -> str:
    """The flags of an entry, such as "present, writable, supervisor, accessed"."""
    if not entry & PRESENT:
        return "not present"
    if mode.is_flagless(level):
        return "present"
    is_page = level.shift == 12 or bool(entry & LARGE and level.may_be_large)
    words = ["present", "writable" if entry & WRITABLE else "read-only", "user" if entry & USER else "supervisor"]
    words += ["large page"] if is_page and level.shift > 12 else []
    words += ["write-through"] if entry & WRITE_THROUGH else []
    words += ["not cached"] if entry & CACHE_DISABLE else []
    words += ["accessed"] if entry & ACCESSED else []
    words += ["dirty"] if is_page and entry & DIRTY else []
    words += ["global"] if is_page and entry & GLOBAL else []
    words += ["no-execute"] if mode.entry_size == 8 and entry & NO_EXECUTE else []
    return ", ".join(words)
