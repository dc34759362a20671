"""Page tables for the cases of lab 04: made entry by entry from nonces, with all that makes a walk go wrong.

Table pages lie shuffled, entries carry bits that a walk must mask off, and what is not present still looks like an
address. `Tables.walk` is the oracle: it stays apart from the library's walk, and tests hold the two against each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from autograder.nonces import Nonces

PAGE, LARGE, GIB = 4096, 2 << 20, 1 << 30
PRESENT, WRITABLE, USER, ACCESSED, DIRTY, PS, PAT, NX = 1, 2, 4, 0x20, 0x40, 0x80, 0x1000, 1 << 63
ADDRESS = 0x000F_FFFF_FFFF_F000
SHIFTS = (39, 30, 21, 12)
NAMES = {39: "PML4", 30: "PDPT", 21: "PD", 12: "PT"}
TABLES = range(0x10_0000, 0x14_0000)  # where table pages lie
Steps = list[tuple[int, int]]


def canonical(va: int) -> int:
    """The address with bits 63 to 48 as copies of bit 47."""
    va &= (1 << 48) - 1
    return va | 0xFFFF << 48 if va >> 47 else va


def is_canonical(va: int) -> bool:
    return va == canonical(va)


@dataclass
class Tables:
    """4-level tables. `entries` maps the address of each entry that was ever written to its value."""

    nonces: Nonces
    name: str = "tables"
    region: range = TABLES
    entries: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._free = self.nonces.shuffled(f"{self.name} page", self.region[::PAGE])
        self.cr3 = self.new_table()

    def new_table(self) -> int:
        return self._free.pop()

    @property
    def used(self) -> int:
        """How many table pages there are."""
        return len(self.region) // PAGE - len(self._free)

    def noise(self, label: object, mask: int) -> int:
        """Some of the bits of `mask`."""
        return self.nonces.u64(f"{self.name} noise {label}") & mask

    def place(self, va: int, shift: int = 12, upper: int = PRESENT | WRITABLE | USER) -> int:
        """The address of the entry for `va` at the level with this shift; the tables above it come into being."""
        table = self.cr3
        for level in SHIFTS:
            place = table + 8 * (va >> level & 511)
            if level == shift:
                return place
            if not self.entries.get(place, 0) & PRESENT:
                # Bits 9 to 11 and 52 to 58 are free for software; bit 5, accessed, may be set from before.
                self.entries[place] = self.new_table() | upper | self.noise(place, 0x7F0_0000_0000_0E20)
            table = self.entries[place] & ADDRESS
        raise ValueError(f"no level has the shift {shift}")

    def map(self, va: int, pa: int, rights: int = WRITABLE | USER, shift: int = 12, upper: int = 7) -> int:
        """Maps one page of 1 << shift bytes. Returns where its entry is."""
        place = self.place(va, shift, upper)
        large = PS | PAT if shift > 12 else 0  # PAT: which cache rules hold; a bit where an address would be
        self.entries[place] = pa | PRESENT | rights | large | self.noise(place, 0x7F0_0000_0000_0E00)
        return place

    def drop(self, va: int, shift: int = 12) -> None:
        """Clears P of the entry at this level; all its other bits stay, as the remains of a mapping would."""
        self.entries[self.place(va, shift)] &= ~PRESENT

    def steps(self, va: int) -> Steps:
        """(address, entry) of each entry that a walk reads, the last one included that ends it."""
        table, found = self.cr3, []
        for shift in SHIFTS if is_canonical(va) else ():
            place = table + 8 * (va >> shift & 511)
            entry = self.entries.get(place, 0)
            found.append((place, entry))
            if not entry & PRESENT or (shift < 39 and entry & PS):
                break
            table = entry & ADDRESS
        return found

    def gpa(self, va: int) -> int | None:
        """Where `va` is, or None."""
        steps = self.steps(va)
        if not steps or not steps[-1][1] & PRESENT:
            return None
        inside = (1 << SHIFTS[len(steps) - 1]) - 1
        return steps[-1][1] & ADDRESS & ~inside | va & inside

    def code(self, va: int, write: bool = False, user: bool = False, fetch: bool = False) -> int | None:
        """The page fault's error code, None where the access is allowed (CR0.WP = EFER.NXE = 1)."""
        entries = [entry for _, entry in self.steps(va)]
        present = entries[-1] & PRESENT
        rights = rights_of(entries)
        refused = (user and not rights & USER) or (write and not rights & WRITABLE) or (fetch and rights & NX)
        return None if present and not refused else present | write << 1 | user << 2 | fetch << 4

    def plant(self) -> list[list[Any]]:
        """[address, bytes] of every table page."""
        pages: dict[int, bytearray] = {}
        for place, entry in self.entries.items():
            page = pages.setdefault(place & ~0xFFF, bytearray(PAGE))
            page[place & 0xFFF : (place & 0xFFF) + 8] = entry.to_bytes(8, "little")
        return [[at, bytes(data)] for at, data in sorted(pages.items())]

    def pages(self) -> list[list[int]]:
        """All mappings in ascending order of the table's index: [va, gpa, size, rights]."""
        return [*self._pages(self.cr3, 0, 0, [])]

    def _pages(self, table: int, depth: int, va: int, above: list[int]) -> list[list[int]]:
        found: list[list[int]] = []
        shift = SHIFTS[depth]
        for i in range(512):
            entry = self.entries.get(table + 8 * i, 0)
            here, entries = canonical(va | i << shift), [*above, entry]
            if not entry & PRESENT:
                continue
            if shift == 12 or (shift < 39 and entry & PS):
                found.append([here, entry & ADDRESS & ~((1 << shift) - 1), 1 << shift, rights_of(entries)])
            else:
                found += self._pages(entry & ADDRESS, depth + 1, here, entries)
        return found


def rights_of(entries: list[int]) -> int:
    """W and U where every entry has them, NX where one has it."""
    rights = WRITABLE | USER
    for entry in entries:
        rights = rights & entry | (rights | entry) & NX
    return rights
