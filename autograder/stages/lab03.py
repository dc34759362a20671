"""Lab 03, guest memory: what is checked. Cases are in lab03_cases, judges in lab03_judges."""

from __future__ import annotations

from autograder.model import Check, Hint, Lab
from autograder.stages import lab03_cases as cases
from autograder.stages import lab03_judges as judges
from autograder.stages.common import LOOP

REFUSED = Hint(
    "refused",
    "A slot must lie within the buffer, be a multiple of 4096 bytes, not empty, and overlap no other. The classic "
    "mistakes: a GPA as the offset (the buffer has no hole: what comes behind the hole in the guest comes directly "
    "after the low RAM in the buffer); the slot's end, or the RAM's, in place of its size; `ram - hole_end`, as if the "
    "hole had swallowed RAM.",
)
DIED = Hint("died", "The guest found no code or no stack: RAM must start at GPA 0 and be as large as asked for.")
LIST = Hint("list", "Return a list of tuples (gpa, size, offset).", when="TypeError|ValueError")
ASSIGN = Hint(
    "assign",
    "A C array takes no bytearray. Setting `mmio.data[i]`, byte by byte, always works.",
    when="initializer for ctype|cdata",
)
REGION = Hint("died", "The guest found no code or no stack: are the slot's two addresses and its size those given?")
NEVER = Hint("never-ends", "The guest ran into memory that holds something else than its code.")
UNSERVED = Hint("died", "An MMIO exit must be answered, or left alone, without changing any other field of the page.")

LAB = Lab(
    "03",
    "Guest memory",
    checks=(
        Check(
            "03.1", "RAM stops and starts again at the edges of the hole", 1,
            exercise="slots_around", driver="memory_around_a_hole", cases=cases.hole_edges, judge=judges.hole,
            guests=("hole-prober",),
            hints=(
                Hint("off-by-one", "The classic off-by-one: `hole_end` is the first address *above* the hole, so the "
                     "upper slot begins exactly there, neither a page earlier nor later."),
                Hint("starts-early", "RAM ends too early: the lower slot reaches up to `hole_start`, which is the "
                     "first address that is *not* RAM."),
                Hint("starts-late", "RAM goes on into the hole: the lower slot is `hole_start` bytes large, not more."),
                REFUSED, DIED, NEVER, LIST, LOOP,
            ),
        ),
        Check(
            "03.1b", "what lies above the hole is the rest of the RAM", 1,
            exercise="slots_around", driver="memory_around_a_hole", cases=cases.what_moved_up, judge=judges.moved_up,
            guests=("checksum",),
            hints=(
                Hint("offset", "The upper slot shows the wrong part of the buffer. The classic mistake is to give its "
                     "GPA, or 0, as the offset; the low RAM ends where in the buffer?"),
                Hint("lost-ram", "The end of the RAM is missing: RAM moves out of the hole's way, it is not lost in "
                     "it. The upper slot has all the bytes that the lower one has not: `ram - hole_start`."),
                REFUSED, DIED, NEVER, LIST, LOOP,
            ),
        ),
        Check(
            "03.1c", "RAM that ends below the hole is one slot", 1,
            exercise="slots_around", driver="memory_around_a_hole", cases=cases.small_ram, judge=judges.one_slot,
            guests=("checksum",),
            hints=(
                Hint("empty-slot", "No RAM is left for an upper slot, so there must be none. The classic mistake is "
                     "to list it anyway, with size 0: to KVM that means \"delete this slot\"."),
                Hint("beyond-ram", "The lower slot is as large as the RAM or as the room below the hole, whichever is "
                     "smaller: `min(ram, hole_start)`."),
                REFUSED, DIED, NEVER, LIST, LOOP,
            ),
        ),
        Check(
            "03.2", "a slot shows the guest your buffer", 1,
            exercise="set_slot", driver="slots_told_to_kvm", cases=cases.a_slot_each, judge=judges.slot_told,
            guests=("checksum",),
            hints=(
                Hint("no-ioctl", "One ioctl on the VM handle: `ioctl(vm, KVM_SET_USER_MEMORY_REGION, region)`."),
                Hint("slot-number", "The slot's number did not arrive. The classic mistake is to forget it: then every "
                     "call is about slot 0, and the second one tries to move or resize the first."),
                Hint("other-fields", "All five fields must be set, and addresses and size be multiples of 4096."),
                Hint("whole-buffer", "`memory_size` is the argument `size`; the buffer may be larger than the slot."),
                Hint("gpa", "`guest_phys_addr` is where the *guest* sees the slot, `userspace_addr` where *you* do."),
                Hint("hva", "`userspace_addr` is the host virtual address: `address_of(buffer)`."),
                Hint("bad-address", "`userspace_addr` must be a number, the buffer's address: `address_of(buffer)`.",
                     when="TypeError|EFAULT"),
                REGION, NEVER, LOOP,
            ),
        ),
        Check(
            "03.2b", "the flags reach KVM", 1,
            exercise="set_slot", driver="slots_told_to_kvm", cases=cases.flags_that_count, judge=judges.flags_told,
            guests=("rom-writer",),
            hints=(
                Hint("flags", "The slot's flags were forgotten, or changed on the way: KVM_MEM_READONLY keeps the "
                     "guest's writes out, KVM_MEM_LOG_DIRTY_PAGES notes them; without them it is plain RAM."),
                Hint("other-fields", "The flags are right, but the slot is not: see check 03.2."),
                Hint("bad-address", "The slot itself can't be made yet: see check 03.2.",
                     when="TypeError|EFAULT"),
                REGION, NEVER, LOOP,
            ),
        ),
        Check(
            "03.3", "which slot an address is in, and when in none", 1,
            exercise="find", driver="find_addresses", cases=cases.edges_of_slots, judge=judges.which_slot,
            hints=(
                Hint("end", "`start + size` is the first address *behind* the slot. The test has two sides, `start <= "
                     "gpa < start + size`; the classic mistakes are `<=` on the right, and only one of the two."),
                Hint("missed", "A slot of the list was passed over. The classic mistake is a `return None` inside the "
                     "loop: it gives up after the first slot. Only behind the loop is it sure that no slot fits."),
                Hint("tuple", "Return the two numbers (slot, offset), where the slot is the place in the list."),
                Hint("slot", "The slot is its place in the list, counted from 0: `enumerate(slots)`."),
                LOOP,
            ),
        ),
        Check(
            "03.3b", "which byte of the buffer that is", 1,
            exercise="find", driver="find_addresses", cases=cases.what_a_guest_wrote, judge=judges.which_byte,
            guests=("page-toucher",),
            hints=(
                Hint("offset", "The place in the buffer is the distance from the slot's start *plus* the slot's own "
                     "offset. The classic mistake forgets one of the two; below the hole both are 0, so it works."),
                Hint("missed", "A slot of the list was passed over: see check 03.3."),
                DIED, NEVER, LOOP,
            ),
        ),
        Check(
            "03.4", "registers of 1, 2, 4 and 8 bytes", 2,
            exercise="serve_mmio", driver="registers_behind_mmio", cases=cases.widths, judge=judges.mmio_widths,
            guests=("mmio-prober",),
            hints=(
                Hint("width", "Only the first `len` of the eight bytes in `data` belong to this access. The classic "
                     "mistake ignores `len`, and either stops after one byte or writes over the neighbours."),
                Hint("byte-order", "The bytes came back in reverse: x86 is little-endian, so byte 0 of `data` belongs "
                     "at the lowest address. Copy byte by byte and there is no order to get wrong."),
                Hint("direction", "Not even one byte comes back. `is_write` says what the *guest* does: if it writes, "
                     "`data` goes into `registers`; if it reads, `registers` go into `data`."),
                Hint("all-ones", "Every read needs an answer in `data`, byte by byte."),
                Hint("ignored", "The guest's writes never arrived in `registers`. The read-backs look right only "
                     "because `data` still holds the last write: is `is_write` the right way round?"),
                Hint("base", "The writes arrived at the wrong registers. The classic mistake is an offset within the "
                     "page (`& 0xFFF`): register 0 is at `base`, which is no page boundary here."),
                UNSERVED, NEVER, ASSIGN, LOOP,
            ),
        ),
        Check(
            "03.4b", "where nobody is at home, reads find all ones", 1,
            exercise="serve_mmio", driver="registers_behind_mmio", cases=cases.nobody_home, judge=judges.mmio_nobody,
            guests=("mmio-prober",),
            hints=(
                Hint("outside", "A byte outside the registers reads 0xFF, and a write to it changes nothing. The "
                     "classic mistake is Python's own: `registers[-1]` is the *last* register, and a slice beyond "
                     "the end makes a bytearray longer.", when="IndexError"),
                Hint("all-ones", "Nobody drives the data lines, so they float high: the guest must read 0xFF, not 0."),
                UNSERVED, NEVER, ASSIGN, LOOP,
            ),
        ),
        Check(
            "03.4c", "an access across a page boundary", 1,
            exercise="serve_mmio", driver="registers_behind_mmio", cases=cases.across_a_page, judge=judges.mmio_split,
            guests=("mmio-prober",),
            hints=(
                Hint("two-exits", "KVM splits this access at the page boundary: two exits of four bytes, each with its "
                     "own address. The classic mistake is an offset *within a page* (`& 0xFFF`): the offset counts "
                     "from `base`, however far away."),
                UNSERVED, NEVER, ASSIGN, LOOP,
            ),
        ),
        Check(
            "03.5", "each write to the ROM is noted, none happens", 1,
            exercise="rom_write", driver="writes_to_a_rom", cases=cases.rom_inside, judge=judges.rom_log,
            guests=("rom-writer",),
            hints=(
                Hint("append", "Each write to the ROM appends one (address, bytes) to `log`."),
                Hint("bytes", "An entry is a tuple of a number and a `bytes`. A slice of `mmio.data` is neither bytes "
                     "nor a copy: at the next exit it shows the next write. `bytes(…)` around it makes both true."),
                Hint("address", "The log names the guest-physical address of the write, `mmio.phys_addr`, as it is."),
                Hint("length", "The entry is (address, bytes), and only the first `len` bytes of `data` belong to the "
                     "write. The classic mistake keeps all eight."),
                UNSERVED, NEVER, LOOP,
            ),
        ),
        Check(
            "03.5b", "exits beside the ROM are left to others", 1,
            exercise="rom_write", driver="writes_to_a_rom", cases=cases.rom_edges, judge=judges.rom_answers,
            guests=("rom-writer",),
            hints=(
                Hint("whose", "This address is not in the ROM: return False and leave the log alone. The classic "
                     "mistakes: every MMIO exit is taken for the ROM's, or the byte behind its end is."),
                Hint("answer", "Return True for an exit that was the ROM's, so that nobody else serves it."),
                UNSERVED, NEVER, LOOP,
            ),
        ),
        Check(
            "03.6", "each segment is at its address", 1,
            exercise="load_elf", driver="load_an_elf", cases=cases.elf_guest, judge=judges.elf_segments,
            guests=("elf-segments",),
            hints=(
                Hint("segments", "For each PT_LOAD segment: its bytes (`segment.data()`) to its own `p_paddr`. The "
                     "zeros of a bss go *behind* those bytes, never over them."),
                Hint("died", "The code did not arrive at its address whole: write `segment.data()` to `p_paddr`, and "
                     "only then the zeros behind it."),
                Hint("no-memory", "An offset in the file (p_offset) or an address (p_paddr)?", when="no memory at"),
                NEVER, LOOP,
            ),
        ),
        Check(
            "03.6b", "the bss is zero", 1,
            exercise="load_elf", driver="load_an_elf", cases=cases.elf_guest, judge=judges.elf_bss,
            guests=("elf-segments",),
            hints=(
                Hint("bss", "The bss holds what was in memory before. The classic mistake is to forget it, for fresh "
                     "memory is zero anyway: fill the `p_memsz - p_filesz` bytes behind the file's part with zeros."),
                Hint("died", "The code must be there before its bss can be checked: see check 03.6."),
                Hint("no-memory", "An offset in the file (p_offset) or an address (p_paddr)?", when="no memory at"),
                NEVER, LOOP,
            ),
        ),
        Check(
            "03.6c", "the right segments, physical addresses, the file's entry", 1,
            exercise="load_elf", driver="load_an_elf", cases=cases.made_up_elf, judge=judges.elf_addresses,
            guests=("elf-segments",),
            hints=(
                Hint("entry", "The entry is `elf[\"e_entry\"]`. The classic mistake takes the first byte of the first "
                     "segment; here that byte is a trap."),
                Hint("physical", "Nothing translates addresses yet: a segment goes to `p_paddr`. `p_vaddr` is where "
                     "the program will see it once paging is on."),
                Hint("only-load", "Only segments with `p_type` PT_LOAD belong in memory; PT_NOTE and others are for "
                     "whoever reads the file."),
                Hint("beyond", "Memory outside the segments is not the loader's: behind the file's part come "
                     "`p_memsz - p_filesz` zeros. The classic mistake writes `p_memsz` of them, over the neighbour."),
                Hint("segments", "Each PT_LOAD segment goes to its own `p_paddr`."),
                Hint("died", "From the entry that `load_elf` returned the guest did not reach its end."),
                Hint("no-memory", "Nothing translates addresses yet: use `p_paddr`.", when="no memory at"),
                NEVER, LOOP,
            ),
        ),
        Check(
            "03.7", "the dirty log of a slot", 1,
            exercise="read_dirty_log", driver="dirty_log_of_a_slot", cases=cases.logs, judge=judges.bitmap,
            guests=("page-toucher",),
            hints=(
                Hint("bitmap", "Return the bytearray that KVM has filled."),
                Hint("whole-words", "KVM writes whole 64-bit words and never learns how long your buffer is. The "
                     "classic mistake is one bit a page and not a bit more: round up to 8 bytes, else KVM writes "
                     "over whatever lies behind."),
                Hint("too-long", "Too long: one *bit* a page, rounded up to words of 64 bits, that is of 8 bytes. "
                     "64 pages fit into one word exactly."),
                Hint("empty", "The bitmap is empty: was KVM asked, and does `dirty_bitmap` point to what you return?",
                     when="EFAULT"),
                Hint("slot", "KVM says that the slot logs nothing. The classic mistake: the struct's `slot` was "
                     "forgotten, so the question is about slot 0.", when="ENOENT"),
                LOOP,
            ),
        ),
        Check(
            "03.8", "from bits to pages", 1,
            exercise="dirty_pages", driver="pages_of_a_bitmap", cases=cases.bitmaps, judge=judges.page_list,
            guests=("page-toucher",),
            hints=(
                Hint("ascending", "Bit n of the bitmap is page n of the slot: list the dirty ones in ascending order."),
                Hint("bit-order", "The bits of each byte were read from the wrong end: page 0 is the *lowest* bit of "
                     "byte 0 (`byte >> bit & 1`)."),
                Hint("first-gpa", "These are distances from the slot's start; `first_gpa` is to be added."),
                Hint("addresses", "These count pages; GPAs count bytes: page n begins at `first_gpa + 4096 * n`."),
                LOOP,
            ),
        ),
        Check(
            "03.9", "all together: the heat of a guest's pages", 2,
            exercise="heat", driver="heat_of_a_guest", cases=cases.rounds_of_heat, judge=judges.heat,
            guests=("page-toucher",),
            hints=(
                Hint("parts", "First the slots; then a loop over the rounds, and in it one over the slots. Return the "
                     "counts, one for each page."),
                Hint("too-hot", "More rounds than the guest wrote in: a part of yours names the wrong pages. Look at "
                     "03.7 and 03.8 first."),
                Hint("copy", "`memory[offset:]` is a copy, of which the guest would see nothing. "
                     "`memoryview(memory)[offset:]` shows the same bytes.", when="BufferError"),
                Hint("own-offset", "Two slots show the same bytes, or the wrong ones. The classic mistake gives every "
                     "slot the start of the buffer: slot n begins at its own offset, `memoryview(memory)[offset:]`."),
                Hint("each-slot", "Ask the dirty log of *every* slot, with that slot's own first GPA and number of "
                     "pages, in every round. If 03.7 or 03.8 is red, mend that first."),
                Hint("each-round", "KVM forgets the log as it tells it. The classic mistake reads it once, after the "
                     "last round: then a page that was hot in every round counts once. If 03.8 is red, mend that "
                     "first."),
                Hint("rounds", "Call `play(memory, n)` for n = 0, 1, … once a round.", when="IndexError"),
                Hint("memory", "The buffer that `play` gets must lie behind the slots, each at its own offset in it."),
                Hint("flags", "KVM keeps a log only of slots made with KVM_MEM_LOG_DIRTY_PAGES.", when="ENOENT"),
                Hint("slot-number", "Each slot needs its own number and its own part of the buffer: see task 03.2.",
                     when="SET_USER_MEMORY_REGION"),
                LOOP,
            ),
        ),
    ),
)  # fmt: skip
