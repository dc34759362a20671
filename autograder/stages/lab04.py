"""Lab 04, paging: what is checked. Cases are in lab04_cases, judges in lab04_judges and lab04_shadows."""

from __future__ import annotations

from autograder.model import Check, Hint, Lab, Limits
from autograder.stages import lab04_cases as cases
from autograder.stages import lab04_judges as judges
from autograder.stages import lab04_shadows as shadows
from autograder.stages.common import LOOP, led_by

TYPES = Hint("types", "A number was expected, or a tuple, and something else came: does every path return?",
             when="TypeError|ValueError: (not enough|too many)|unpack")  # fmt: skip
DIED = Hint(
    "died",
    "The guest lost its own code or stack. Two things do that: entries that the guest needs were overwritten, or "
    "point to the wrong place.",
)
# A guest needs milliseconds; an emulated host, with a processor that others use too, may need seconds.
LIMITS, SHADOW_LIMITS = Limits(seconds=8.0), Limits(seconds=16.0)

WALK_HINTS = (
    Hint("mask", "The address of the next table is bits 51 to 12 of the entry, no more: `entry & "
         "0x000F_FFFF_FFFF_F000`. The classic mistake keeps the flags below, or the no-execute bit and the software's "
         "bits above."),
    Hint("cr3", "The walk begins at bits 51 to 12 of CR3: its low bits are flags, as in an entry."),
    Hint("index", "An entry has 8 bytes: number i is at `table + 8 * i`, and each level uses its own 9 bits of the "
         "address: from bit 39, 30, 21, 12."),
    Hint("offset", "The page's address comes from the entry, the offset from the virtual address: its low 12 bits in a "
         "page of 4 KiB, 21 in one of 2 MiB, 30 in one of 1 GiB."),
    Hint("short", "The walk goes on until an entry has P=0 or maps a page."),
    Hint("too-far", "An entry with PS=1 in a PDPT or PD maps a page: nothing comes after it. The classic mistake looks "
         "for PS in no entry, or forgets the gibibyte."),
    Hint("present", "P=0 ends the walk, and the rest of such an entry means nothing: return None for the address. The "
         "classic mistake follows what looks like an address."),
    Hint("canonical", "Bits 63 to 48 must all be copies of bit 47; if they are not, the processor reads no entry at "
         "all: return ([], None)."),
    Hint("pair", "Return (steps, gpa); steps is a list of (place, entry), a place being the entry's own address."),
    Hint("died", "The guest did not come to its end, before your walk began: tell your teacher."),
    TYPES, LOOP,
)  # fmt: skip


BUILD_HINTS = (
    Hint("share", "Ask for a new table only where the entry has P=0. The classic mistake makes one every time, and "
         "with it loses all that the old one mapped."),
    Hint("lost", "An entry is empty that should have been made: each table needs an entry in the table above, with its "
         "address and P=1; and a new table must not take the place of one in use."),
    Hint("leaf", "The last entry is `pa | flags`, at the place that bits 20 to 12 of the address choose in the last "
         "table."),
    Hint("flags", "The last entry takes the flags exactly as given, the no-execute bit included."),
    Hint("upper", "An entry that leads to a table needs P=1, and must not have bit 7: that would make it a large "
         "page."),
    Hint("upper-rights", "A right must be granted at every level: give upper entries P, W and U, and let the last one "
         "decide. The classic mistake copies the first page's flags upwards."),
    Hint("mask", "`read` gives a whole entry. Before you go on through it, cut off its flags: `entry & "
         "0x000F_FFFF_FFFF_F000`."),
    Hint("place", "An entry has 8 bytes, so number i of a table is at `table + 8 * i`; and take the flags off an entry "
         "before you use it as an address."),
    Hint("again", "`new_table` was called without end.", when="was called more than"),
    DIED, TYPES, LOOP,
)  # fmt: skip


HARVEST_HINTS = (
    Hint("bits", "Accessed is bit 5 (0x20), dirty bit 6 (0x40), both of the entry that maps the page: the last step."),
    Hint("cleared", "Both bits must be cleared and the entry written back to its place, accessed or not dirty: else "
         "the next round reports this one again."),
    Hint("only-two", "Clear these two bits and no others: `entry & ~0x60`."),
    Hint("two-lists", "Return two lists of addresses: (accessed, dirty)."),
    Hint("order", "Keep the order of `pages`."),
    Hint("skip", "An address that is mapped nowhere is skipped, whatever its entry holds: `gpa` is None.",
         when="IndexError|TypeError"),
    Hint("address", "The lists hold virtual addresses, as `pages` has them."),
    DIED, LOOP,
)  # fmt: skip
FAULT_HINTS = (
    Hint("page", "The page is still missing, or may not be written: map the page that holds CR2, `cr2 & ~0xFFF`, to a "
         "fresh one, with P and W. The classic mistake grants P alone."),
    Hint("endless", "`new_page` ran dry. Either the guest faults again and again, for its page is still not there; or "
         "you map more than the one page that was touched.",
         when="was called more than|still running"),
    Hint("answer", "Answer True if the access may be tried again, False if not: a bool on every path."),
    Hint("refuse", "An address outside the heap is none of yours: return False and map nothing. A pager that maps "
         "whatever is asked for hides every stray pointer."),
    Hint("protection", "Bit 0 of the error code is 1: the page is there, and refuses. A new page would not help; "
         "return False."),
    Hint("contents", "The guest did not find again what it wrote: two pages of its heap must not share one frame."),
    DIED,
)  # fmt: skip
PAGES_HINTS = (
    Hint("missing", "A page was passed over. Every entry with P=1 counts, all 512 of every table; `yield from` passes "
         "on what the call for a lower table yields."),
    Hint("extra", "An entry with P=0 maps nothing, whatever the rest of it looks like."),
    Hint("large", "PS=1 in a PDPT or PD entry: a page of 1 << shift bytes, and no table below. In a PT, bit 7 means "
         "something else."),
    Hint("high-half", "Addresses of the upper half begin with 0xFFFF: if bit 47 is set, set bits 63 to 48 too."),
    Hint("gpa", "Of a large page's entry the bits below its size are flags (bit 12 is PAT): `entry & ADDRESS & "
         "-size`."),
    Hint("size", "A page found where `shift` is 12, 21 or 30 has 1 << shift bytes."),
    Hint("address", "An address is made of the indices of all levels: `va | i << shift`."),
    Hint("four", "Yield tuples (va, gpa, size, rights)."),
    Hint("all-levels", "W and U must be granted at every level: AND them on the way down."),
    Hint("no-execute", "One no-execute bit on the way is enough: OR bit 63 on the way down."),
    Hint("only-rights", "Rights are bits 1, 2 and 63, nothing else: mask them out of the entries."),
    TYPES, LOOP,
)  # fmt: skip


SHADOW_HINTS = (
    Hint("base", "The shadow leads to the machine's memory: the guest's physical address plus `base`."),
    Hint("beyond", "The guest reaches memory that is not its own. What lies at or beyond `ram` it does not have: don't "
         "map it, and test each 4 KiB piece of a large page. This line is the wall between two customers."),
    Hint("split", "`map` maps 4 KiB. A larger page has to be mapped in pieces, at offsets from 0 to its size in steps "
         "of 4096; each piece that the guest has memory for."),
    Hint("rights", "Pass on the rights that `pages` found: they are the guest's protection."),
    Hint("missing", "Everything that `pages` yields belongs into the shadow, as far as the guest has memory there."),
    Hint("map", "map(va, pa, rights) takes three numbers."),
    Hint("full", "Too much is mapped, or at the wrong addresses.", when="shadow tables are full"),
    DIED, TYPES, LOOP,
)  # fmt: skip


LAB = Lab(
    "04",
    "Paging",
    checks=(
        Check(
            "04.1", "an address in five parts", 1,
            exercise="cut", driver="cut_addresses", cases=cases.addresses_to_cut, judge=judges.parts, limits=LIMITS,
            hints=(
                Hint("nine", "Each index has 9 bits: shift the address right by 39, 30, 21 or 12, and keep `& 511`."),
                Hint("mask", "An index has 9 bits, so it is at most 511: after the shift, `& 511`. The classic mistake "
                     "forgets it at the top, where bits 63 to 48 still stand."),
                Hint("order", "The parts come from the left: PML4 first."),
                Hint("offset", "The offset is the low 12 bits: `va & 0xFFF`."),
                Hint("five", "Return a tuple of five numbers: four indices and the offset."),
                TYPES,
            ),
        ),
        Check(
            "04.2", "four levels down, to the byte that the guest wrote", 2,
            exercise="walk", driver="walk_beside_a_guest", cases=cases.four_levels, judge=judges.walks, limits=LIMITS,
            guests=("far-writer",), hints=led_by("mask", WALK_HINTS),
        ),
        Check(
            "04.2b", "large pages end the walk early", 1,
            exercise="walk", driver="walk_any_tables", cases=cases.large_pages, judge=judges.walks, limits=LIMITS,
            guests=("far-writer",), hints=led_by("too-far", WALK_HINTS),
        ),
        Check(
            "04.2c", "where nothing is mapped, and where no address can be", 1,
            exercise="walk", driver="walk_tables", cases=cases.nothing_there, judge=judges.walks, limits=LIMITS,
            hints=led_by("present", WALK_HINTS),
        ),
        Check(
            "04.3", "what the processor refuses", 1,
            exercise="error_code", driver="judge_accesses", cases=cases.accesses, judge=judges.refusals, limits=LIMITS,
            hints=(
                Hint("all-levels", "A right counts only if every entry on the way grants it: one 0 among the four "
                     "decides. The classic mistake looks at the last entry alone."),
                Hint("any", "Your function refuses too much: reading needs no W, and only ring 3 needs U."),
                Hint("ring-0", "The kernel may touch a user's pages, and U=0 is no obstacle to it. It does obey W "
                     "(with CR0.WP=1) and no-execute."),
                Hint("fetch", "Bit 63 in any entry on the way forbids an instruction fetch, and nothing else."),
                Hint("absent", "If the last entry has P=0, every access is refused."),
                Hint("type", "Return a number, or None where the access is allowed."),
                TYPES,
            ),
        ),
        Check(
            "04.3b", "the error code, bit by bit", 1,
            exercise="error_code", driver="judge_accesses", cases=cases.accesses, judge=judges.codes, limits=LIMITS,
            hints=(
                Hint("P", "Bit 0 says whether the page is there: 0 for P=0, 1 for a right that is missing. The classic "
                     "mistake has it the other way round."),
                Hint("W", "Bit 1 says that the access was a write, whatever it was refused for."),
                Hint("U", "Bit 2 says that ring 3 tried it, whatever it was refused for."),
                Hint("I", "Bit 4 says that it was an instruction fetch."),
                Hint("type", "Where an access is refused, return its error code, a number: see check 04.3."),
                TYPES,
            ),
        ),
        Check(
            "04.4", "a guest lives on your tables", 2,
            exercise="map_page", driver="pages_built", cases=cases.far_pages, judge=judges.building, limits=LIMITS,
            guests=("far-writer",), hints=led_by("leaf", BUILD_HINTS),
        ),
        Check(
            "04.4b", "tables are shared, and nothing is lost", 1,
            exercise="map_page", driver="pages_built", cases=cases.neighbours, judge=judges.sharing, limits=LIMITS,
            guests=("far-writer",), hints=led_by("share", BUILD_HINTS),
        ),
        Check(
            "04.4c", "the flags decide who may do what", 1,
            exercise="map_page", driver="pages_built", cases=cases.rights_built, judge=judges.rights, limits=LIMITS,
            guests=("rights-prober",), hints=led_by("flags", BUILD_HINTS),
        ),
        Check(
            "04.5", "which pages were read, and which written", 1,
            exercise="harvest", driver="bits_harvested", cases=cases.rounds_of_use, judge=judges.first_harvest,
            limits=LIMITS,
            guests=("page-user",), hints=HARVEST_HINTS, needs=("walk",),
        ),
        Check(
            "04.5b", "a clean sheet for the next round", 1,
            exercise="harvest", driver="bits_harvested", cases=cases.rounds_of_use, judge=judges.next_harvests,
            limits=LIMITS,
            guests=("page-user",), hints=HARVEST_HINTS, needs=("walk",),
        ),
        Check(
            "04.6", "a page comes when it is touched", 1,
            exercise="page_fault", driver="faults_served", cases=cases.a_heap, judge=judges.faults, limits=LIMITS,
            guests=("demand-pager",), hints=FAULT_HINTS, needs=("map_page",),
        ),
        Check(
            "04.6b", "not every fault is a wish", 1,
            exercise="page_fault", driver="faults_served", cases=cases.beyond_the_heap, judge=judges.faults,
            limits=LIMITS,
            guests=("demand-pager",), hints=FAULT_HINTS, needs=("map_page",),
        ),
        Check(
            "04.7", "a whole address space, page by page", 1,
            exercise="pages", driver="pages_listed", cases=cases.address_spaces, judge=judges.all_pages, limits=LIMITS,
            hints=led_by("missing", PAGES_HINTS),
        ),
        Check(
            "04.7b", "rights, gathered on the way down", 1,
            exercise="pages", driver="pages_listed", cases=cases.address_spaces, judge=judges.all_rights, limits=LIMITS,
            hints=led_by("all-levels", PAGES_HINTS),
        ),
        Check(
            "04.8", "the guest runs on your shadow", 1,
            exercise="build_shadow", driver="shadow_built", cases=cases.shadow_windows, judge=shadows.shadow_works,
            guests=("far-writer",), hints=led_by("base", SHADOW_HINTS), needs=("pages",), limits=SHADOW_LIMITS,
        ),
        Check(
            "04.8b", "and gets no more than its own", 1,
            exercise="build_shadow", driver="shadow_built", cases=cases.shadow_limits, judge=shadows.shadow_limits,
            guests=("rights-prober",), hints=led_by("beyond", SHADOW_HINTS), needs=("pages",), limits=SHADOW_LIMITS,
        ),
        Check(
            "04.9", "every edit of the guest comes to you", 1,
            exercise="table_write", driver="table_writes", cases=cases.windows, judge=shadows.edits,
            guests=("table-editor", "entry-tester"), needs=("build_shadow", "pages"), limits=SHADOW_LIMITS,
            hints=(
                Hint("apply", "The slot is read-only, so the guest's write has not happened: put the bytes into `ram` "
                     "yourself, at `phys_addr - base`."),
                Hint("length", "Write `len` bytes, not always eight: the guest may change half an entry."),
                Hint("rebuild", "After each write call `rebuild()`, once: the shadow still shows the old state."),
                Hint("stale", "The guest saw an old mapping. First the write, then the rebuild: it reads the guest's "
                     "tables."),
                Hint("answer", "The write was the guest's own: answer True."),
                Hint("others", "An exit outside `ram`, or a read, belongs to somebody else: return False, touch "
                     "nothing."),
                Hint("assign", "A slice of `ram` takes bytes of the same length: `bytes(mmio.data[0 : mmio.len])`.",
                     when="memoryview|[Cc][Dd]ata|assignment|bytes-like"),
                Hint("died", "The guest came to a bad end: is what it runs on still what its own tables say?"),
                TYPES, LOOP,
            ),
        ),
        Check(
            "04.10", "stretch: copy on write", 0,
            exercise="copy_on_write", driver="faults_served", cases=cases.shared_pages, judge=judges.copies,
            limits=LIMITS,
            guests=("demand-pager",), needs=("walk",),
            hints=(
                Hint("contents", "The guest did not find again what it wrote: the entry must lead to the copy."),
                Hint("protection", "Only an entry with bit 9 is meant to be copied. Another read-only page is "
                     "read-only: return False."),
                Hint("refuse", "A page that isn't there can't be copied: return False."),
                Hint("answer", "True once the page has a copy of its own that may be written, else False."),
                Hint("shared", "Copy first, then let the guest write: the frame belongs to others too."),
                Hint("page", "After the copy the entry needs W=1 and the copy's address; bit 9 has done its duty.",
                     when="was called more than|still running"),
                Hint("skip", "The walk may end nowhere.", when="IndexError|TypeError"),
                Hint("gpa", "`new_copy` wants the physical address, which your `walk` gives: CR2 is a virtual one.",
                     when="GuestMemoryError"),
                DIED,
            ),
        ),
        Check(
            "04.11", "stretch: which pages are tables", 0,
            exercise="table_pages", driver="tables_listed", cases=cases.tables_in_use, judge=judges.all_tables,
            limits=LIMITS,
            hints=(
                Hint("root", "A table is where CR3 or an entry with P=1 leads, at every level but the last; PS=1 leads "
                     "to a page."),
                Hint("extra", "Entries with P=0, and those that map a page, lead to no table; and take off the flags."),
                Hint("twice", "Name each table once."),
                TYPES, LOOP,
            ),
        ),
        Check(
            "04.12", "stretch: two levels, as in 1985", 0,
            exercise="walk32", driver="walk_in_32_bits", cases=cases.two_levels, judge=judges.two_levels, limits=LIMITS,
            hints=(
                Hint("cut", "Two indices of 10 bits, from bit 22 and bit 12; entries of 4 bytes, so `table + 4 * i`."),
                Hint("large", "PS=1 in the directory: a page of 4 MiB. Its address is bits 31 to 22 of the entry."),
                Hint("present", "P=0 at either level: None."),
                TYPES,
            ),
        ),
    ),
)  # fmt: skip
