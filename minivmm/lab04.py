"""The workbench of lab 04: machines whose guests run on page tables that the student's own functions have made.

    bench = Bench(map_page, [(0x400000, 0x500000, 7)])      # your builder; more pages: (va, pa, flags)
    bench.start("far-writer", nonce=7, count=3)
    print(bench.run())

`Nested` and `Shadowed` are the same guest twice: on its own tables, and on yours behind its back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from minivmm import guests
from minivmm.devices.window import Window
from minivmm.exits import Exit
from minivmm.kvm import anonymous_memory
from minivmm.machine import Machine
from minivmm.memory import PAGE, GuestMemory
from minivmm.notebook import table
from minivmm.notebook.table import Table
from minivmm.x86.paging import FOUR_LEVEL, entry_in_words

__all__ = ["Bench", "Nested", "Shadowed", "areas", "draw"]

MapPage = Callable[..., object]
SECONDS = 5.0
WP, NXE = 1 << 16, 1 << 11

# Where a guest of this lab has its code, its ring-3 and ring-0 stacks, its list, its stack and its GDT.
LOW_PAGES = (0x1000, 0x5000, 0x6000, 0x8000, 0x7E000, 0x7F000)


def draw(va: int, steps: Iterable[tuple[int, int]], gpa: int | None) -> Table:
    """A walk, one line an entry: what `walk` returned for `va`."""
    rows = [
        (level.name, hex(place), hex(entry), entry_in_words(entry, level, FOUR_LEVEL))
        for level, (place, entry) in zip(FOUR_LEVEL.levels, steps, strict=False)
    ]
    end = "nowhere" if gpa is None else hex(gpa)
    return table(rows, ("level", "entry at", "entry", "says"), caption=f"{va:#x} leads to {end}")


def areas(pages: Iterable[tuple[int, int, int, int]]) -> Table:
    """What `pages` yielded, with neighbours of the same kind as one line."""
    found: list[list[int]] = []
    for va, gpa, size, rights in pages:
        if found and found[-1][1:] == [va, gpa - va, size, rights]:
            found[-1][1] = va + size
        else:
            found.append([va, va + size, gpa - va, size, rights])
    rows = [[hex(number & (1 << 64) - 1) for number in area] for area in found]
    return table(rows, ("from", "to", "moved by", "page", "rights"))


def start(machine: Machine, root: int, name: str, **parameters: int) -> None:
    """Loads a guest and lets it begin on the tables at `root`, with CR0.WP and EFER.NXE set."""
    machine.load_guest(guests.load(name), **parameters)
    sregs = machine.vcpu.get_sregs()
    sregs.cr3 = root
    sregs.cr0 |= WP
    sregs.efer |= NXE
    machine.vcpu.set_sregs(sregs)


class Entries:
    """Page-table entries of 8 bytes in the machine's memory, and fresh pages from `first` up."""

    def __init__(self, memory: GuestMemory, first: int, last: int) -> None:
        self._memory = memory
        self._fresh = iter(range(first, last, PAGE))

    def read(self, place: int) -> int:
        return self._memory.read_int(place, 8)

    def write(self, place: int, entry: int) -> None:
        self._memory.write_int(place, 8, entry)

    def new_page(self) -> int:
        return next(self._fresh)


class Pager(Window):
    """A device at port 0xE4: hears CR2 (low, then high half) and the error code, and answers 1 or 0.

    `faults` are the faults and the answers of `serve(cr2, code)`, in order.
    """

    def __init__(self, serve: Callable[[int, int], object]) -> None:
        super().__init__("pager", range(0xE4, 0xE8), self._answer, self._hear)
        self._serve = serve
        self._heard: list[int] = []
        self.faults: list[tuple[str, int, object]] = []

    def _hear(self, offset: int, size: int, value: int) -> None:
        self._heard = [*self._heard, value][-3:]

    def _answer(self, offset: int, size: int) -> int:
        low, high, code = self._heard
        answer = self._serve(low | high << 32, code)
        self.faults.append((hex(low | high << 32), code, answer))
        return 1 if answer else 0


class Bench:
    """8 MiB of RAM, and tables from 1 MiB up, made by `map_page`: for the guest's own pages, and for `pages`."""

    def __init__(
        self, map_page: MapPage, pages: Iterable[tuple[int, int, int]] = (), low: Iterable[int] = LOW_PAGES
    ) -> None:
        self.machine = Machine(8 << 20)
        entries = Entries(self.machine.memory, 0x10_0000, 0x20_0000)
        self.read, self.write, self.new_page = entries.read, entries.write, entries.new_page
        self.root = self.new_page()
        for va, pa, flags in [*((page, page, 7) for page in low), *pages]:
            map_page(self.read, self.write, self.root, va, pa, flags, self.new_page)

    def start(self, name: str, **parameters: int) -> None:
        """Loads a guest and puts it on the tables."""
        start(self.machine, self.root, name, **parameters)

    def run(self) -> str:
        """Runs the guest to its end. What it printed, or why it died."""
        stop = self.machine.run(SECONDS)
        printed = self.machine.console.decode("ascii", "backslashreplace")
        return f"{printed}{stop.explanation}" if stop.explanation else printed

    def use(self, pages: list[int], round: int) -> None:
        """Lets page-user read and write in a row of pages, mostly at its start."""
        where = {"address": pages[0], "size": len(pages) * PAGE >> round % 3}
        self.start("page-user", nonce=round << 33 | round * 12345, count=20, **where)
        self.run()

    def demand(self, address: int, size: int, serve: Callable[[int, int], object]) -> Table:
        """Runs demand-pager in this region, with `serve(cr2, code)` for its faults; prints what it prints."""
        pager = Pager(serve)
        self.machine.ports.attach(pager)
        self.start("demand-pager", nonce=7, address=address, size=size, count=16)
        print(self.run())
        return table(pager.faults, ("CR2", "error code", "your answer"))

    def probe(self, places: Iterable[int], ways: Iterable[tuple[int, int, int]]) -> list[str]:
        """Tries each way (write, user, fetch) on each page: "ok" or the error code, as the processor says it."""
        tries = [(va, write | user << 1 | fetch << 2) for va in places for write, user, fetch in ways]
        self.machine.load(0x8000, b"".join(number.to_bytes(8, "little") for pair in tries for number in pair))
        self.start("rights-prober", nonce=7, count=len(tries))
        return [line.split()[0] for line in self.run().splitlines()][:-1]


class Nested:
    """A guest with 2 MiB and tables of its own from 1 MiB up, in a machine that leaves them alone.

    Its memory is mapped one to one, and one page of a window at WINDOW. `moves` times it edits its page table.
    """

    WINDOW = 0x7000_0000_0000
    CR3, TABLES_END, RAM = 0x10_0000, 0x18_0000, 2 << 20
    base, protect, below = 0, False, 0

    def __init__(self, map_page: MapPage, moves: int) -> None:
        self.machine = Machine(self.below)
        self.ram = memoryview(anonymous_memory(self.RAM)).cast("B")
        memory = self.machine.memory
        for first, last, closed in (
            (0, self.CR3, False),
            (self.CR3, self.TABLES_END, self.protect),
            (self.TABLES_END, self.RAM, False),
        ):
            memory.add(self.base + first, last - first, backing=self.ram[first:last], read_only=closed)
        fresh = iter(range(self.CR3 + PAGE, self.TABLES_END, PAGE))
        window = (self.WINDOW + 0x1F_F000, 0x1F_F000)
        for va, pa in [*((page, page) for page in range(0, self.RAM, PAGE)), window]:
            map_page(self.read, self._write, self.CR3, va, pa, 7, lambda: next(fresh))
        place = self.CR3
        for shift in (39, 30, 21):
            place = self.read(place + 8 * (self.WINDOW >> shift & 511)) & 0xF_FFFF_FFFF_F000
        self.parameters = {"address": self.WINDOW, "size": 8 * PAGE, "value": place, "option": self.TABLES_END}
        self.parameters |= {"nonce": 7, "count": moves}

    def read(self, place: int) -> int:
        """An entry of the guest's own tables, at a guest-physical address."""
        return int.from_bytes(self.ram[place : place + 8], "little")

    def _write(self, place: int, entry: int) -> None:
        self.ram[place : place + 8] = entry.to_bytes(8, "little")

    @property
    def root(self) -> int:
        """What the processor has in CR3."""
        return self.CR3

    def run(self) -> tuple[str, int]:
        """Runs table-editor. What it printed, and how many MMIO exits that took."""
        exits: list[Exit] = []
        start(self.machine, self.root, "table-editor", **self.parameters)
        for page in (0x1000, 0x7F000) if self.base else ():  # image and GDT, to where the guest's memory begins
            self.machine.load(self.base + page, self.machine.memory.read(page, PAGE))
        self.machine.on_exit = exits.append
        self.machine.run(SECONDS)
        return self.machine.console.decode().strip(), sum(exit.name == "KVM_EXIT_MMIO" for exit in exits)


class Shadowed(Nested):
    """The same guest, but its memory begins at 8 MiB of the machine, and its tables are read-only.

    The shadow lies below 1 MiB, out of the guest's sight: `clear` it, `map` pages in it.
    """

    base, protect, below = 8 << 20, True, 1 << 20
    SHADOW = range(0x9_0000, 0xF_0000)

    def __init__(self, map_page: MapPage, moves: int = 0) -> None:
        super().__init__(map_page, moves)
        self._map_page = map_page
        self.clear()

    @property
    def root(self) -> int:
        return self.SHADOW.start

    def clear(self) -> None:
        """Empties the shadow."""
        self.machine.load(self.SHADOW.start, bytes(len(self.SHADOW)))
        self.shadow = Entries(self.machine.memory, self.SHADOW.start + PAGE, self.SHADOW.stop)

    def map(self, va: int, pa: int, rights: int) -> None:
        """Maps 4 KiB of the machine's memory in the shadow."""
        shadow = self.shadow
        self._map_page(shadow.read, shadow.write, self.root, va, pa, rights | 1, shadow.new_page)

    def shadow_by(self, build: Callable[..., object], write: Callable[..., object]) -> None:
        """Makes the shadow by `build` (build_shadow). The guest's writes to its tables are exits, and go to `write`
        (table_write), as the page that KVM filled."""

        def rebuild() -> None:
            self.clear()
            build(self.read, self.CR3, self.base, self.RAM, self.map)

        rebuild()
        claim = range(self.base + self.CR3, self.base + self.TABLES_END)
        run_page = self.machine.vcpu.run_page

        def wrote(offset: int, size: int, value: int) -> None:
            write(run_page, self.ram, self.base, rebuild)

        # It is never read: a read-only slot answers its reads itself.
        self.machine.mmio.attach(Window("page tables", claim, lambda offset, size: 0, wrote))
