"""Building page tables in guest memory.

The builder takes table pages one after the other from a range of guest-physical addresses: the top table first, then
whatever the mappings need. It keeps no copy: what is in guest memory is the truth, so a guest may change the tables and
the builder goes on from there.

Source: SDM vol. 3, "Paging"; the formats are in `formats.py`.
"""

from __future__ import annotations

import struct

from minivmm.x86.canonical import is_canonical
from minivmm.x86.paging.formats import (
    FOUR_LEVEL,
    GLOBAL,
    LARGE,
    NO_EXECUTE,
    PAGE_4K,
    PRESENT,
    USER,
    WRITABLE,
    PagingMode,
    mode_named,
)
from minivmm.x86.state import MemoryLike


class MappingError(ValueError):
    """The mapping cannot be made; nothing was changed."""


class MisalignedError(MappingError):
    """An address or a size is not a multiple of the page size."""


class AlreadyMappedError(MappingError):
    """A page of the range is mapped already."""


class OutOfTablesError(MappingError):
    """The range for table pages is used up."""


class OutOfRangeError(MappingError):
    """An address is too wide for the paging mode, or not canonical."""


class PageTableBuilder:
    """Page tables for one address space, built in `memory` out of the pages of the range `tables` (guest-physical).

    `root` is the value for CR3. Raises MappingError where the range does not suit.
    """

    def __init__(self, memory: MemoryLike, tables: range, mode: PagingMode | str = FOUR_LEVEL) -> None:
        self.memory = memory
        self.mode = mode_named(mode)
        if tables.start % PAGE_4K or tables.start < 0 or tables.step != 1:
            raise MisalignedError(f"page tables must start at a multiple of 4096, not {tables.start:#x}")
        if not self.mode.has_canonical_hole and tables.stop > 1 << 32:
            raise OutOfRangeError(f"CR3 has 32 bits in {self.mode.name} paging: the tables must lie below 4 GiB")
        self._tables = tables
        self._next = tables.start
        self.root = self._new_table()

    @property
    def used(self) -> range:
        """The guest-physical addresses that hold tables by now."""
        return range(self._tables.start, self._next)

    def map(
        self,
        va: int,
        pa: int,
        size: int,
        *,
        page: int = PAGE_4K,
        writable: bool = True,
        user: bool = False,
        execute: bool = True,
        everywhere: bool = False,
    ) -> None:
        """Maps `size` bytes at virtual `va` to physical `pa`, in pages of `page` bytes.

        `everywhere` marks the pages global: they outlive a change of CR3. A page that must not execute needs EFER.NXE,
        a 4 MiB page CR4.PSE. Raises MisalignedError, AlreadyMappedError, OutOfTablesError or OutOfRangeError (all are
        MappingErrors), and then changes nothing.
        """
        self._check(va, pa, size, page, execute)
        free = (self._tables.stop - self._next) // PAGE_4K
        needed = self._tables_needed(self.root, 0, va, va + size, page)
        if needed > free:
            raise OutOfTablesError(
                f"this mapping needs {needed} more table pages, but {free} are left: give the builder a longer range"
            )
        flags = PRESENT
        flags |= WRITABLE if writable else 0
        flags |= USER if user else 0
        flags |= GLOBAL if everywhere else 0
        flags |= 0 if execute else NO_EXECUTE
        flags |= LARGE if page > PAGE_4K else 0
        self._fill(self.root, 0, va, va + size, pa - va, page, flags)

    def _check(self, va: int, pa: int, size: int, page: int, execute: bool) -> None:
        mode = self.mode
        if page not in mode.page_sizes:
            sizes = ", ".join(f"{one:#x}" for one in mode.page_sizes)
            raise MappingError(f"{mode.name} paging has no pages of {page:#x} bytes; it has {sizes}")
        for name, value in (("virtual address", va), ("physical address", pa), ("size", size)):
            if value % page:
                raise MisalignedError(f"the {name} {value:#x} is not a multiple of the page size {page:#x}")
        if size <= 0:
            raise MappingError(f"a mapping of {size} bytes maps nothing")
        if not execute and mode.entry_size == 4:
            raise MappingError("32-bit paging has no no-execute bit: use PAE or 4-level paging")
        last = va + size - 1
        if mode.has_canonical_hole:
            hole = not is_canonical(va, mode.virtual_bits) or not is_canonical(last, mode.virtual_bits)
            if hole or (va ^ last) >> 63:
                raise OutOfRangeError(
                    f"{va:#x} to {last:#x} is not wholly canonical: bits above {mode.virtual_bits - 1} differ"
                )
        elif va < 0 or last >= 1 << 32:
            raise OutOfRangeError(f"{va:#x} to {last:#x} does not fit the 32-bit addresses of {mode.name} paging")
        # Only a 4 MiB page of 32-bit paging reaches above 4 GiB.
        width = 32 if mode.entry_size == 4 and page == PAGE_4K else mode.physical_bits
        if pa < 0 or pa + size > 1 << width:
            raise OutOfRangeError(
                f"the physical range up to {pa + size:#x} needs more than the {width} bits an entry holds"
            )

    def _tables_needed(self, table: int | None, depth: int, va: int, end: int, page: int) -> int:
        """How many new tables the range takes below `table` (None: not there yet). Raises AlreadyMappedError."""
        level = self.mode.levels[depth]
        needed = 0
        for start, stop in _pieces(va, end, level.span):
            if table is None and level.span == page:
                return 0
            entry = 0 if table is None else self._entry(table, level.index(start))
            if entry & PRESENT and (level.span == page or self._is_page(entry, depth)):
                raise AlreadyMappedError(f"{start:#x} is mapped already, by {level.name} entry {level.index(start)}")
            if level.span == page:
                continue
            child = self.mode.table_address(entry) if entry & PRESENT else None
            needed += (child is None) + self._tables_needed(child, depth + 1, start, stop, page)
        return needed

    def _fill(self, table: int, depth: int, va: int, end: int, delta: int, page: int, flags: int) -> None:
        """Writes the entries for va … end; a page's physical address is its virtual one plus `delta`."""
        level = self.mode.levels[depth]
        if level.span == page:
            # The entries of one table lie side by side: one write for all of them.
            pages = range(va + delta, end + delta, page)
            self._write_entries(table, level.index(va), [self.mode.page_entry(pa, level) | flags for pa in pages])
            return
        for start, stop in _pieces(va, end, level.span):
            index = level.index(start)
            entry = self._entry(table, index)
            # The bits of an entry that is not present mean nothing (a system may keep notes there): start afresh.
            if not entry & PRESENT:
                entry = self._new_table() | PRESENT
            # Rights are the AND of all levels, so the upper ones grant whatever the page may want to.
            rights = 0 if self.mode.is_flagless(level) else WRITABLE | flags & USER
            self._write_entries(table, index, [entry | rights])
            child = self.mode.table_address(entry)
            self._fill(child, depth + 1, start, stop, delta, page, flags)

    def _is_page(self, entry: int, depth: int) -> bool:
        return bool(entry & LARGE and self.mode.levels[depth].may_be_large)

    def _entry(self, table: int, index: int) -> int:
        size = self.mode.entry_size
        return int.from_bytes(self.memory.read(table + index * size, size), "little")

    def _write_entries(self, table: int, index: int, entries: list[int]) -> None:
        size = self.mode.entry_size
        code = "I" if size == 4 else "Q"
        self.memory.write(table + index * size, struct.pack(f"<{len(entries)}{code}", *entries))

    def _new_table(self) -> int:
        if self._next + PAGE_4K > self._tables.stop:
            raise OutOfTablesError("page tables need at least one page of 4096 bytes: give the builder a longer range")
        address = self._next
        self._next += PAGE_4K
        # The memory may hold anything, and a stray bit would be a mapping.
        self.memory.write(address, bytes(PAGE_4K))
        return address


def _pieces(va: int, end: int, span: int) -> list[tuple[int, int]]:
    """Cuts va … end at multiples of `span`."""
    starts = [va, *range(va - va % span + span, end, span)]
    return list(zip(starts, [*starts[1:], end], strict=True))
