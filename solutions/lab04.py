# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lab 04 · Paging
#
# No address that a program uses is the address of a byte. Between the two stand **page tables**: a small data structure
# that the processor reads billions of times a second. In this lab you read it as the processor does, build it, answer
# its faults. At the end you deceive a guest about the whole of it, which is how the first hypervisors on x86 did
# memory.

# %% [markdown]
# ## 1 · An address in five parts
#
# ![A 64-bit virtual address: 16 bits of sign, four indices of 9 bits, 12 bits of offset](img/lab04/cut.svg)
#
# A table is one page: 512 entries of 8 bytes. So 9 bits choose an entry, and four tables one behind the other use up 36
# bits. The last 12 are the offset in the page. An entry holds the address of the next table or page, which ends in 12
# zeros; in their place stand flags (here 7).
#
# **Predict, by hand.** CR3 is 0x1000, and memory holds what the next cell shows. Where does 0x8040605042 lead?
#
# 1. 0x9042
# 2. 0xA042
# 3. 0x5042

# %%
from minivmm.lab import *
from minivmm.lab04 import *  # the plumbing of this lab, to be read when you wonder

ENTRIES = {0x1000: 0x7007, 0x1008: 0x2007, 0x2000: 0x3007, 0x2008: 0x4007, 0x4010: 0x5007, 0x4018: 0x6007,
           0x5028: 0x9007, 0x6020: 0xB007, 0x6028: 0xA007}  # fmt: skip
show(table([(hex(place), hex(entry)) for place, entry in ENTRIES.items()], ("address", "8 bytes")))
predict("4.a", 1)  # put your answer in place of the 1

# %% [markdown]
# ### Task 04.1
# Cut an address into its five parts, from the left: the indices into PML4, PDPT, PD and PT, then the offset.
#
# *Source: Intel SDM vol. 3, "4-Level Paging and 5-Level Paging", figure "Linear-Address Translation to a 4-KByte Page";
# AMD APM vol. 2, "Long-Mode Page Translation".*
#
# <details><summary>Hint 1: a nudge</summary>How many values can 9 bits have, and which mask keeps just those
# bits?</details>
# <details><summary>Hint 2: the idea</summary>Below the PT's index lie 12 bits, below the PD's 12 + 9. A shift to the
# right brings an index to the bottom. (SDM vol. 3, "4-Level Paging")</details>
# <details><summary>Hint 3: nearly there</summary><code>va &gt;&gt; 39 &amp; 511</code>, then 30, 21, 12. The classic
# mistake forgets the mask at the top, where the sign stands.</details>

# %% exercise="04.1"
def cut(va: int) -> tuple:
    """(PML4 index, PDPT index, PD index, PT index, offset) of a 64-bit virtual address."""
    ### BEGIN SOLUTION
    return va >> 39 & 511, va >> 30 & 511, va >> 21 & 511, va >> 12 & 511, va & 0xFFF
    ### END SOLUTION


# %% check="04.1"
check("04.1", cut)

# %%
for va in (0x8040605042, 0x1000, 0xFFFF_8000_0000_0000, 0xFFFF_FFFF_FFFF_FFFF):
    print(f"{va:#018x}", try_out(cut, va))
reveal("4.a", 2, "by the entries at 0x1008, 0x2008, 0x4018 and 0x6028: indices 1, 1, 3 and 5, times 8.")

# %% [markdown]
# ## 2 · The walk
#
# ![CR3 leads to the PML4, each entry to the next table, the last one to the page](img/lab04/walk.svg)
#
# An entry's bits 51 to 12 are a physical address, of the next table or of the page. Bit 0, **P**, says whether it
# counts. Bit 7, **PS**, in a PDPT or PD says that no table follows: the entry maps 1 GiB or 2 MiB, and the rest of the
# address is offset.
#
# **Predict.** Reading one byte of memory that no cache knows takes how many memory accesses?
#
# 1. one
# 2. two
# 3. five

# %%
predict("4.b", 1)

# %% [markdown]
# ### Task 04.2
# Walk. Collect every entry that you read, with its place; end at P=0, at a large page, or behind the PT.
# The other bits of an entry (flags, no-execute, what the system noted there) don't belong to the address. An address is
# **canonical** if bits 63 to 48 copy bit 47. For any other the processor reads no entry at all.
#
# *Source: Intel SDM vol. 3, "Hierarchical Paging Structures: an Overview", "4-Level Paging and 5-Level Paging";
# vol. 1, "Canonical Addressing".*
#
# <details><summary>Hint 1: a nudge</summary>The four levels do the same thing with another shift: a loop over 39, 30,
# 21, 12.</details>
# <details><summary>Hint 2: the idea</summary>In a page of <code>1 &lt;&lt; shift</code> bytes the low
# <code>shift</code> bits of the virtual address are the offset. PS means nothing in a PML4, and in a PT bit 7 is
# something else. (SDM vol. 3, "4-Level Paging")</details>
# <details><summary>Hint 3: nearly there</summary><code>size = 1 &lt;&lt; shift</code>, and the answer is <code>entry
# &amp; ADDRESS &amp; -size | va &amp; size - 1</code>. The classic mistakes: CR3 or an entry used with its flags; P=0
# followed anyway; a bit above 47 ignored.</details>

# %% exercise="04.2"
ADDRESS = 0x000F_FFFF_FFFF_F000  # bits 51 to 12


def walk(read, cr3: int, va: int) -> tuple:
    """Translates `va` by the tables at `cr3`; read(place) gives the 8-byte entry at a physical address.

    Returns (steps, gpa): steps is a list of (place, entry), in the order read, and gpa the physical
    address, or None where nothing is mapped. For a non-canonical address: ([], None).
    """
    ### BEGIN SOLUTION
    steps, table = [], cr3 & ADDRESS
    if va >> 47 not in (0, 0x1FFFF):
        return steps, None
    for shift in (39, 30, 21, 12):
        place = table + 8 * (va >> shift & 511)
        entry = read(place)
        steps.append((place, entry))
        if not entry & 1:
            return steps, None
        if shift == 12 or (shift < 39 and entry & 0x80):
            size = 1 << shift
            return steps, (entry & ADDRESS & -size) | (va & size - 1)
        table = entry & ADDRESS
    ### END SOLUTION


# %% check="04.2"
check("04.2", walk)

# %%
def draw_walk(read, cr3, va):
    show(draw(va, *walk(read, cr3, va)))  # one line an entry

machine = run_guest("long-hello", nonce=7).machine  # it lives on tables that our loader made
cr3, live = machine.vcpu.get_sregs().cr3, lambda place: machine.memory.read_int(place, 8)
with trying():
    draw_walk(lambda place: ENTRIES.get(place, 0), 0x1000, 0x8040605042)
    for va in (0x1234, 1 << 32, 1 << 63):  # Break it: what has the guest at other addresses?
        draw_walk(live, cr3, va)
reveal("4.b", 3, "four entries and then the byte: why there are TLBs, and 2 MiB pages, and caches of entries.")

# %% [markdown]
# ## 3 · Who may do what
#
# ![Rights are ANDed over four levels; one no-execute bit is enough](img/lab04/rights.svg)
#
# Three bits guard a page: **W** (bit 1), **U** (bit 2, ring 3 may come), **NX** (bit 63). W and U must be granted at
# *every* level; one NX on the way forbids execution. What is refused becomes a page fault, **#PF**, whose error code
# says what was tried.
#
# **Predict.** The PT entry has W=1, the PD entry above it W=0. The kernel writes (CR0.WP=1). It:
#
# 1. may: the last entry decides
# 2. faults
# 3. may: it is the kernel

# %%
predict("4.c", 1)

# %% [markdown]
# ### Task 04.3
# Judge an access by the entries of a walk. The error code: bit 0 the page is there (P=1) and refuses; bit
# 1 a write; bit 2 by ring 3; bit 4 an instruction fetch. Take CR0.WP and EFER.NXE as set.
#
# *Source: Intel SDM vol. 3, "Determination of Access Rights" and "Interrupt 14—Page-Fault Exception (#PF)".*
#
# <details><summary>Hint 1: a nudge</summary>Can the last entry give back what a higher one has refused?</details>
# <details><summary>Hint 2: the idea</summary>AND all entries, and look at bits 1 and 2 of the result; OR them for bit
# 63. U=0 keeps ring 3 out, U=1 does not keep the kernel out. (SDM vol. 3, "Determination of Access Rights")</details>
# <details><summary>Hint 3: nearly there</summary><code>refused = user and not both &amp; 4 or write and not both
# &amp; 2 or fetch and either &gt;&gt; 63</code>; then <code>present | write &lt;&lt; 1 | user &lt;&lt; 2 | fetch
# &lt;&lt; 4</code>. The classic mistake: bit 0 set when the page is <em>missing</em>.</details>

# %% exercise="04.3"
def error_code(entries: list, write: bool, user: bool, fetch: bool):
    """The page fault's error code for this access, or None where it is allowed.

    `entries` are those of a walk; if it ended at P=0, that entry is the last one.
    """
    ### BEGIN SOLUTION
    present, both, either = entries[-1] & 1, ~0, 0
    for entry in entries:
        both, either = both & entry, either | entry
    missing = (user and not both & 4) or (write and not both & 2) or (fetch and either >> 63)
    if present and not missing:
        return None
    return present | write << 1 | user << 2 | fetch << 4
    ### END SOLUTION


# %% check="04.3"
check("04.3", error_code)

# %%
WAYS = [(write, user, fetch) for user in (0, 1) for write, fetch in ((0, 0), (1, 0), (0, 1))]
NAMES = [f"ring {3 * user} {'write' if write else 'fetch' if fetch else 'read'}" for write, user, fetch in WAYS]

def judged(*entries):
    answers = [try_out(error_code, entries, *way) for way in WAYS]
    return ["ok" if answer is None else f"{answer:#x}" if type(answer) is int else "?" for answer in answers]

leaves = {"P W U": 7, "P W": 3, "P U": 5, "P W U NX": 7 | 1 << 63, "nothing": 0}
show(table([(name, *judged(7, 7, 7, leaf)) for name, leaf in leaves.items()], ("PT entry", *NAMES)))
show(table([("P W U", *judged(7, 7, 5, 7))], ("below a PD entry P U", *NAMES)))
reveal("4.c", 2, "for a right needs every level; and with WP=1 the kernel obeys W too.")

# %% [markdown]
# ## 4 · Building
#
# ![Two pages that share all tables but the last, and one far away that needs three of its own](img/lab04/build.svg)
#
# Tables come into being on demand: most of the 2⁴⁸ bytes have none. To map a page, go down as a walk does. Where an
# entry has P=0, take a fresh page for the table that is missing.
#
# **Predict.** Only the PML4 is there. You map 0x400000 and 0x401000. How many tables more?
#
# 1. two
# 2. three
# 3. six

# %%
predict("4.d", 1)

# %% [markdown]
# ### Task 04.4
# Map one page of 4 KiB. Entries that lead to a table grant everything (P, W, U: 7), so that the last one alone decides.
#
# *Source: Intel SDM vol. 3, "4-Level Paging and 5-Level Paging", table "Format of a Page-Table Entry that Maps a
# 4-KByte Page".*
#
# <details><summary>Hint 1: a nudge</summary>Three levels treated alike, and one that is different.</details>
# <details><summary>Hint 2: the idea</summary>For each of the three: where is the entry? P=0? Then <code>write(place,
# new_table() | 7)</code>. Go on through what is there now. (SDM vol. 3, "4-Level Paging")</details>
# <details><summary>Hint 3: nearly there</summary><code>table = read(place) &amp; ADDRESS</code>; at last
# <code>write(table + 8 * (va &gt;&gt; 12 &amp; 511), pa | flags)</code>. The classic mistake makes a new table every
# time: the second page in a table erases the first.</details>

# %% exercise="04.4"
def map_page(read, write, root: int, va: int, pa: int, flags: int, new_table) -> None:
    """Maps the page at `va` to the page at `pa`, in the tables whose PML4 is at `root`.

    read(place) and write(place, entry) access 8-byte entries; new_table() gives the address of a
    zeroed page. `flags` are those of the PT entry: P, W, U, NX. `va` and `pa` are page boundaries.
    """
    ### BEGIN SOLUTION
    table = root
    for shift in (39, 30, 21):
        place = table + 8 * (va >> shift & 511)
        if not read(place) & 1:
            write(place, new_table() | 7)
        table = read(place) & ADDRESS
    write(table + 8 * (va >> 12 & 511), pa | flags)
    ### END SOLUTION


# %% check="04.4"
check("04.4", map_page)

# %%
with trying():  # rights-prober tries the six ways on five pages: after your foretelling, the processor's word.
    row = [(0x7000_0000_0000 + 4096 * n, 0x400000 + 4096 * n, leaf) for n, leaf in enumerate(leaves.values())]
    bench = Bench(map_page, row)
    for _, pa, _ in row:
        bench.machine.load(pa, b"\xc3")  # a RET, for the fetches
    said = bench.probe([va for va, _, _ in row], WAYS)
    show(table([(name, *said[6 * n : 6 * n + 6]) for n, name in enumerate(leaves)], ("PT entry", *NAMES)))

# %%
# Break it: give upper entries P alone, 1 in place of 7. Run that cell, then this one: who notices? Then mend it.
check("04.4", map_page)

# %%
with trying():  # Break it: the stack isn't mapped, and the guest's first CALL wants it.
    bench = Bench(map_page, low=(0x1000, 0x7F000))
    bench.start("far-writer", nonce=7)
    print(bench.run())  # #PF has no handler, nor has that failure: a triple fault. Read the walk.
reveal("4.d", 2, "a PDPT, a PD and a PT, which both pages share.")

# %% [markdown]
# ## 5 · What the processor writes
#
# ![Accessed is set at every level, dirty in the last entry only](img/lab04/marks.svg)
#
# The walk also writes. **A** (bit 5) is set in every entry that was used, **D** (bit 6) in the last one when the page
# is written to. The processor never clears them, and while its **TLB** remembers a translation it makes no walk. A
# system that looks for pages to throw out clears A, and comes back later.
#
# **Predict.** You clear A of a page that the guest has just read, and the guest reads on. When is A set again?
#
# 1. with the next read
# 2. perhaps never
# 3. it causes a fault

# %%
predict("4.e", 1)

# %% [markdown]
# ### Task 04.5
# Collect the marks, and clear both. Your `walk` tells the place of the entry that maps a page.
#
# *Source: Intel SDM vol. 3, "Accessed and Dirty Flags"; AMD APM vol. 2, "Page-Translation-Table Entry Fields".*
#
# <details><summary>Hint 1: a nudge</summary>Which of the steps is the one that maps the page?</details>
# <details><summary>Hint 2: the idea</summary><code>place, entry = steps[-1]</code>. Test two bits, then write the
# entry back without them. An address that leads nowhere is skipped. (SDM vol. 3, "Accessed and Dirty
# Flags")</details>
# <details><summary>Hint 3: nearly there</summary><code>write(place, entry &amp; ~0x60)</code>. The classic mistakes:
# cleared in your copy, never written back; or <code>write(place, entry &amp; ADDRESS)</code>, which unmaps the
# page.</details>

# %% exercise="04.5"
def harvest(read, write, cr3: int, pages: list) -> tuple:
    """(accessed, dirty): the addresses of `pages` whose entry has the bit set, in their order.

    Clears both bits in the entries that map the pages. Skips what isn't mapped.
    """
    ### BEGIN SOLUTION
    accessed, dirty = [], []
    for va in pages:
        steps, gpa = walk(read, cr3, va)
        if gpa is not None:
            place, entry = steps[-1]
            accessed += [va] * bool(entry & 0x20)
            dirty += [va] * bool(entry & 0x40)
            write(place, entry & ~0x60)
    return accessed, dirty
    ### END SOLUTION


# %% check="04.5"
check("04.5", harvest)

# %%
from collections import Counter

heap, marks = [0x4000_0000 + 4096 * n for n in range(64)], (Counter(), Counter())
with trying():
    bench = Bench(map_page, [(va, va - heap[0] + 0x400000, 3) for va in heap])
    for n in range(12):
        bench.use(heap, n)  # a guest reads some of these pages, and writes to some
        for counts, found in zip(marks, harvest(bench.read, bench.write, bench.root, heap)):
            counts.update((va - heap[0]) // 4096 for va in found)
    show("accessed", heat_map(marks[0], 64), "dirty", heat_map(marks[1], 64))
reveal("4.e", 2, "for no walk, no mark. That is why page-user reloads CR3 first: it empties the TLB.")

# %% [markdown]
# ## 6 · A page comes when it is touched
#
# ![Guest faults, its handler asks you through a port, you map, the guest tries again](img/lab04/fault.svg)
#
# A guest's #PF goes to the *guest*: KVM doesn't show it to you. So `demand-pager`'s handler asks by port 0xE4: it says
# CR2 (the address) and the error code, and hears an answer. Then IRETQ, and the access is **tried again**.
#
# **Predict.** It writes to 16 places in 5 pages, then reads them all. How many faults?
#
# 1. 5
# 2. 16
# 3. 32

# %%
predict("4.f", 1)

# %% [markdown]
# ### Task 04.6
# Serve the fault. In the heap, and not there yet: map a fresh page (present, writable) and say True. Else False: a wild
# pointer must not be rewarded with memory. Use your `map_page`.
#
# *Source: Intel SDM vol. 3, "Interrupt 14—Page-Fault Exception (#PF)": CR2, the error code, and the saved
# instruction pointer, which points to the instruction that faulted.*
#
# <details><summary>Hint 1: a nudge</summary>CR2 is any address, not the page's.</details>
# <details><summary>Hint 2: the idea</summary>Bit 0 of the code tells "not there" from "not allowed". <code>cr2 in
# heap</code> asks a Python range. <code>new_page</code> serves for pages and for tables. (SDM vol. 3, figure
# "Page-Fault Error Code")</details>
# <details><summary>Hint 3: nearly there</summary><code>map_page(read, write, cr3, cr2 &amp; ~0xFFF, new_page(), 3,
# new_page)</code>. The classic mistakes: P without W, and the guest faults again at once; True for everything, which
# hides every stray pointer of the guest.</details>

# %% exercise="04.6"
def page_fault(read, write, cr3: int, cr2: int, code: int, heap: range, new_page) -> bool:
    """Serves a page fault at `cr2` with the error code `code`: True if the guest may try again.

    Pages of `heap` (a range of virtual addresses) come into being when they are first touched.
    new_page() gives the address of a zeroed page of physical memory.
    """
    ### BEGIN SOLUTION
    if code & 1 or cr2 not in heap:
        return False
    map_page(read, write, cr3, cr2 & ~0xFFF, new_page(), 3, new_page)
    return True
    ### END SOLUTION


# %% check="04.6"
check("04.6", page_fault)

# %%
def serve_from(heap):
    """demand-pager touches 5 pages at 0x4000000; your page_fault serves those in `heap`."""
    bench = Bench(map_page)
    mine = lambda cr2, code: page_fault(bench.read, bench.write, bench.root, cr2, code, heap, bench.new_page)
    show(bench.demand(0x4000000, 0x5000, mine))

with trying():
    serve_from(range(0x4000000, 0x4005000))
    serve_from(range(0x4000000, 0x4003000))  # Break it: a heap of 3 pages. The guest's "! code address": what it lost
reveal("4.f", 1, "for a page is there from its first touch on: that is all of demand paging.")

# %% [markdown]
# ## 7 · The whole address space
#
# ![A tree of tables; its leaves are pages of three sizes](img/lab04/tree.svg)
#
# Walks ask for one address. To copy an address space, to draw it, or to shadow it, you need all: visit every entry with
# P=1, go down where it leads to a table.
#
# **Predict.** `long-hello` sees 4 GiB through pages of 2 MiB. How many leaves has its tree?
#
# 1. 512
# 2. 2048
# 3. 1048576

# %%
predict("4.g", 1)

# %% [markdown]
# ### Task 04.7
# A generator that calls itself. `table` is a table's address, `shift` its level, `va` and `rights` what
# the levels above have said. Rights: W and U where every entry grants them; NX where one has it; no other bit.
#
# *Source: Intel SDM vol. 3, "4-Level Paging", "Determination of Access Rights"; vol. 1, "Canonical Addressing".*
#
# <details><summary>Hint 1: a nudge</summary>The lowest level differs from the others in what?</details>
# <details><summary>Hint 2: the idea</summary>Entry i of a table at <code>shift</code> covers addresses from <code>va
# | i &lt;&lt; shift</code> on. A leaf: shift 12, or PS=1 at 21 or 30. Else <code>yield from pages(…, shift - 9,
# …)</code>. (SDM vol. 3, "4-Level Paging")</details>
# <details><summary>Hint 3: nearly there</summary><code>granted = rights &amp; entry &amp; 6 | (rights | entry) &amp;
# 1 &lt;&lt; 63</code>. If bit 47 of the address is set, set 63 to 48: <code>here | 0xFFFF &lt;&lt; 48</code>. The
# classic mistakes: the upper half without its sign, the leaf's rights alone.</details>

# %% exercise="04.7"
def pages(read, table: int, shift: int = 39, va: int = 0, rights: int = 6):
    """Yields (va, gpa, size, rights) for every page below `table`, in the order of its entries.

    `size` is in bytes; `rights` are bits 1 (W), 2 (U) and 63 (NX), by all levels together.
    """
    ### BEGIN SOLUTION
    for i in range(512):
        entry, here, size = read(table + 8 * i), va | i << shift, 1 << shift
        if not entry & 1:
            continue
        here |= 0xFFFF << 48 if here >> 47 else 0
        granted = (rights & entry & 6) | ((rights | entry) & 1 << 63)
        if shift == 12 or (shift < 39 and entry & 0x80):
            yield here, entry & ADDRESS & -size, size, granted
        else:
            yield from pages(read, entry & ADDRESS, shift - 9, here, granted)
    ### END SOLUTION


# %% check="04.7"
check("04.7", pages)

# %%
with trying():
    show(areas(pages(live, cr3)))  # long-hello's
    bench = Bench(map_page, [(0xFFFF_FFFF_8000_0000 + 4096 * n, 0x400000, 1) for n in range(4)])
    show(areas(pages(bench.read, bench.root)))  # four pages show one frame: they can't be joined
reveal("4.g", 2, "four directories of 512 entries: 6 tables in all, where 4 KiB pages would need 2054.")

# %% [markdown]
# ## 8 · A shadow
#
# ![Guest tables lead to guest-physical addresses; the shadow leads straight to the machine](img/lab04/shadow.svg)
#
# With **nested paging** (EPT, NPT) the processor walks the guest's tables and then the host's. Be the hypervisor of a
# machine without it. Your guest believes that its memory begins at 0; in truth it begins at `base`. Its tables would
# lead the processor astray. So CR3 points to **shadow** tables, which you make from the guest's.
#
# **Predict.** Who sets the A and D bits in the *guest's* tables now?
#
# 1. the processor
# 2. nobody
# 3. KVM

# %%
predict("4.h", 1)

# %% [markdown]
# ### Task 04.8
# For each page of the guest call `map(va, pa, rights)`: 4 KiB at the machine's address `pa`. Larger pages
# go in pieces. The guest has `ram` bytes; what lies beyond is *somebody else's*, whatever its tables say.
#
# *Source: Intel SDM vol. 3, "Memory Virtualization", "Details of Virtual TLB Operation"; AMD APM vol. 2, "Nested
# Paging".*
#
# <details><summary>Hint 1: a nudge</summary>What are the offsets of the 4 KiB pieces in a page of <code>size</code>
# bytes?</details>
# <details><summary>Hint 2: the idea</summary>Two loops: over your <code>pages(read, cr3)</code>, and over
# <code>range(0, size, 4096)</code>. The machine's address is the guest's plus <code>base</code>. (SDM vol. 3, "Memory
# Virtualization")</details>
# <details><summary>Hint 3: nearly there</summary><code>if gpa + at &lt; ram: map(va + at, base + gpa + at,
# rights)</code>. The classic mistake is no limit at all: then one entry in a guest's table reads its neighbour's
# memory.</details>

# %% exercise="04.8"
def build_shadow(read, cr3: int, base: int, ram: int, map) -> None:
    """Maps in the shadow all that the guest's tables at `cr3` map, 4 KiB at a time.

    The guest's physical memory is `ram` bytes and lies at `base` of the machine's. `read` reads
    entries at guest-physical addresses; map(va, pa, rights) maps a page of the machine's memory.
    """
    ### BEGIN SOLUTION
    for va, gpa, size, rights in pages(read, cr3):
        for at in range(0, size, 4096):
            if gpa + at < ram:
                map(va + at, base + gpa + at, rights)
    ### END SOLUTION


# %% check="04.8"
check("04.8", build_shadow)

# %%
with trying():
    guest = Shadowed(map_page)
    build_shadow(guest.read, guest.CR3, guest.base, guest.RAM, guest.map)
    draw_walk(guest.read, guest.CR3, 0x1234)  # the guest's own belief,
    draw_walk(guest.shadow.read, guest.root, 0x1234)  # and the truth
reveal("4.h", 2, "the processor marks the shadow: a shadow pager must copy the marks back.")

# %% [markdown]
# ## 9 · The guest edits its tables
#
# ![A write to a protected table becomes an exit; the hypervisor writes, then renews the shadow](img/lab04/protect.svg)
#
# The guest maps a new page by a plain MOV to its table. The shadow doesn't notice. So its tables are put into a
# **read-only slot** (lab 03): each such MOV comes to you as an MMIO exit. You do the write, and renew the shadow.
#
# **Predict.** The guest makes 100 edits. Exits with shadow paging, and with nested paging?
#
# 1. 100 and 100
# 2. 100 and 0
# 3. 0 and 100

# %%
predict("4.i", 1)

# %% [markdown]
# ### Task 04.9
# Serve the exit: put the bytes into `ram`, then call `rebuild()`. An exit that is no write, or lies
# outside `ram`, isn't yours.
#
# *Source: KVM API 4.35, KVM_MEM_READONLY, and "5. The kvm_run structure", KVM_EXIT_MMIO; Linux documentation, "The x86
# kvm shadow mmu".*
#
# <details><summary>Hint 1: a nudge</summary><code>phys_addr</code> is an address of the machine. Where is that in
# <code>ram</code>?</details>
# <details><summary>Hint 2: the idea</summary>The guest may write 8 bytes, or 4, or 1: <code>len</code> says how many
# of <code>data</code> count. The order matters: what does <code>rebuild</code> read? (KVM API,
# KVM_EXIT_MMIO)</details>
# <details><summary>Hint 3: nearly there</summary><code>at = mmio.phys_addr - base</code>, <code>ram[at : at +
# mmio.len] = bytes(mmio.data[0 : mmio.len])</code>. The classic mistake copies all eight bytes of a four-byte
# write.</details>

# %% exercise="04.9"
def table_write(run, ram, base: int, rebuild) -> bool:
    """Serves the MMIO exit in the page `run`, if it is a write to the guest's memory; else returns False.

    `ram` is the guest's memory, a buffer that lies at `base` of the machine's. rebuild() makes the
    shadow anew from the guest's tables.
    """
    ### BEGIN SOLUTION
    mmio = run.mmio
    at = mmio.phys_addr - base
    if not mmio.is_write or not 0 <= at < len(ram):
        return False
    ram[at : at + mmio.len] = bytes(mmio.data[0 : mmio.len])
    rebuild()
    return True
    ### END SOLUTION


# %% check="04.9"
check("04.9", table_write)

# %%
with trying():
    rows = []
    for moves in (0, 4, 16, 64):
        nested, shadowed = Nested(map_page, moves), Shadowed(map_page, moves)
        shadowed.shadow_by(build_shadow, table_write)
        (printed, few), (same, many) = nested.run(), shadowed.run()
        rows.append((moves, few, many, printed, "the same" if printed == same else same))
    show(table(rows, ("moves", "exits, nested", "exits, shadow", "printed", "on the shadow")))
reveal("4.i", 2, "for with nested paging the processor walks both tables itself, and the guest's are the guest's.")

# %% [markdown]
# The result is the same, to the last digit; only the price differs. Nested paging (Intel EPT, AMD NPT) pays elsewhere:
# a TLB miss may read 24 entries instead of 4. Real shadow pagers cut their exits: they fill lazily, and leave a table
# writable until the guest flushes.
#
# **Break it.** Leave `rebuild()` out of `table_write`, and check again: which line of the guest tells?

# %% [markdown]
# ## Stretch
#
# No points, but checks. **Copy on write** is how `fork` costs nothing: all share one frame, read-only, and the first
# write makes a copy. Bit 9 of an entry is free for software; here it says "copy me".

# %% [markdown]
# ### Task 04.10
# Serve a fault on such a page: give the entry a copy of the frame, W, and no bit 9. Any other fault: False.
#
# *Source: Intel SDM vol. 3, "4-Level Paging" (bits 11:9 are ignored); "Propagation of Paging-Structure Changes".*
#
# <details><summary>Hint 1: a nudge</summary>Which error code has a write to a page that is there?</details>
# <details><summary>Hint 2: the idea</summary>Your <code>walk</code> gives the entry, its place, and where the page
# is. (SDM vol. 3)</details>
# <details><summary>Hint 3: nearly there</summary><code>write(place, new_copy(gpa &amp; ~0xFFF) | entry &amp; 0xDFF |
# 2)</code>. The classic mistake sets W in the shared frame's entry.</details>

# %% exercise="04.10"
def copy_on_write(read, write, cr3: int, cr2: int, code: int, new_copy) -> bool:
    """Serves a write fault on a page whose entry has bit 9: True once the page has its own copy.

    new_copy(gpa) copies the page at a physical address and gives the copy's address. 4 KiB only.
    """
    ### BEGIN SOLUTION
    steps, gpa = walk(read, cr3, cr2)
    if gpa is None or code & 3 != 3 or not steps[-1][1] & 1 << 9:
        return False
    place, entry = steps[-1]
    write(place, new_copy(gpa & ~0xFFF) | (entry & 0xDFF) | 2)
    return True
    ### END SOLUTION


# %% check="04.10"
check("04.10", copy_on_write)

# %% [markdown]
# ### Task 04.11
# Section 9 protected half a MiB, because we knew where the tables are. A real shadow pager finds out:
# which pages are tables?
#
# *Source: Linux documentation, "The x86 kvm shadow mmu", on write-protected pages.*
#
# <details><summary>Hint 1: a nudge</summary>A page is a table because something says so.</details>
# <details><summary>Hint 2: the idea</summary>CR3 names one; every present entry above the PT that is no large page
# names another. (SDM vol. 3, "4-Level Paging")</details>
# <details><summary>Hint 3: nearly there</summary>The recursion of <code>pages</code>, but yield <code>table</code>
# first, and go down no further than the PT. The classic mistake yields the pages too.</details>

# %% exercise="04.11"
def table_pages(read, table: int, shift: int = 39):
    """Yields the physical address of every table in use below `table`, itself included."""
    ### BEGIN SOLUTION
    yield table
    for i in range(512 if shift > 12 else 0):
        entry = read(table + 8 * i)
        if entry & 1 and not (shift < 39 and entry & 0x80):
            yield from table_pages(read, entry & ADDRESS, shift - 9)
    ### END SOLUTION


# %% check="04.11"
check("04.11", table_pages)

# %% [markdown]
# ### Task 04.12
# The 80386 had two levels of 10 bits, and entries of 4 bytes. PS=1 in the directory maps 4 MiB.
#
# *Source: Intel SDM vol. 3, "32-Bit Paging".*
#
# <details><summary>Hint 1: a nudge</summary>How many entries of 4 bytes has a page?</details>
# <details><summary>Hint 2: the idea</summary>Bits 31 to 22 choose the directory's entry, 21 to 12 the table's. (SDM
# vol. 3, "32-Bit Paging")</details>
# <details><summary>Hint 3: nearly there</summary><code>read(table + 4 * (va &gt;&gt; shift &amp; 1023))</code> for
# shift 22 and 12. The classic mistake keeps 8 bytes and 511.</details>

# %% exercise="04.12"
def walk32(read, cr3: int, va: int):
    """The physical address of `va` by 32-bit paging with CR4.PSE=1, or None.

    read(place) gives the 4-byte entry at a physical address. No addresses above 4 GiB.
    """
    ### BEGIN SOLUTION
    table = cr3
    for shift in (22, 12):
        table = table & ~0xFFF
        entry = read(table + 4 * (va >> shift & 1023))
        if not entry & 1:
            return None
        if shift == 12 or entry & 0x80:
            return (entry & -(1 << shift)) | (va & (1 << shift) - 1)
        table = entry
    ### END SOLUTION


# %% check="04.12"
check("04.12", walk32)

# %% [markdown]
# And further, without checks:
#
# 1. **Five levels.** Add a level to `walk` (SDM vol. 3, "5-Level Paging"). Which bit of CR4 asks for it, and what is
#    canonical then?
# 2. **Cheaper.** `rebuild` makes 513 entries anew where one has changed. Renew only that one. When is that not enough?
# 3. **Lazy.** Start with an empty shadow. Who gets the first #PF here, and how would you tell the guest's faults from
#    yours?
