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
# # Lab 03 · Guest memory
#
# A guest believes that it owns memory from address 0 up. In truth all it has is what you lend it: pieces of your own
# process, called **slots**. In this lab you cut the pieces, leave holes, answer for what isn't there, protect a ROM,
# load a program, and finally watch where a guest writes.
#
# Each section asks you to **predict** first. A wrong answer costs nothing and teaches most.

# %% [markdown]
# ## 1 · RAM with a hole
#
# Not every physical address is RAM. A PC keeps 0xA0000–0xFFFFF for video memory and ROMs, and a piece below 4 GiB for
# devices. RAM that would lie there is not lost: it **moves up**, behind the hole.
#
# **Predict.** A VM has 4 GiB of RAM and a hole from 3 to 4 GiB. Its RAM ends at:
#
# 1. 3 GiB
# 2. 4 GiB
# 3. 5 GiB

# %%
from minivmm.lab import *

predict("3.a", 1)  # put your answer in place of the 1

# %% [markdown]
# ### Task 03.1
# ![RAM in your process is one piece; the guest sees it split around a hole](img/lab03/hole.svg)
#
# Complete `slots_around`. The buffer in your process has no hole: what comes behind the hole in the guest follows the
# low RAM directly. No RAM left for a slot? Then list none.
#
# *Source: KVM API 4.35, KVM_SET_USER_MEMORY_REGION; Intel chipset datasheets, "System Address Map".*
#
# <details><summary>Hint 1: a nudge</summary>Take 5 pages of RAM and a hole from page 3 to page 7. Which five page
# numbers has the guest?</details>
# <details><summary>Hint 2: the idea</summary>The lower slot ends where the hole starts, or where the RAM ends if that
# comes first. The rest begins at <code>hole_end</code>. (KVM API 4.35: the ranges of slots must not
# overlap.)</details>
# <details><summary>Hint 3: nearly there</summary><code>low = min(ram, hole_start)</code>; the upper slot is
# <code>(hole_end, ram - low, low)</code>. The classic mistakes: the GPA given as the offset, and an empty upper
# slot.</details>

# %% exercise="03.1"
def slots_around(ram: int, hole_start: int, hole_end: int) -> list:
    """The slots for `ram` bytes around the hole [hole_start, hole_end), lowest first.

    A list of (gpa, size, offset), all in bytes. RAM begins at GPA 0; `offset` is where a slot's
    first byte lies in a buffer of `ram` bytes.
    """
    ### BEGIN SOLUTION
    low = min(ram, hole_start)
    slots = [(0, low, 0)]
    if ram > low:
        slots.append((hole_end, ram - low, low))
    return slots
    ### END SOLUTION


# %% check="03.1"
check("03.1", slots_around)

# %%
def probe(slots):
    """Runs hole-prober in these slots. It prints "written > found" for four bytes: the last one
    below the hole, the hole's first, the hole's last, and the first one above."""
    machine, buffer = Machine(0), anonymous_memory(sum(size for _, size, _ in slots))
    for gpa, size, offset in slots:
        machine.memory.add(gpa, size, backing=memoryview(buffer)[offset : offset + size])
    machine.load_guest(guests.load("hole-prober"), nonce=7, address=0xA0000, size=0x60000)
    print(machine.run(1), machine.console.decode(), sep="\n")
    return memory_map(machine.memory.slots, 0x140000)

with trying():
    show(probe(slots_around(0x110000, 0xA0000, 0x100000)))
# Break it. The upper slot begins one page late: which of the four lines tells?
# A kernel that trusts its map dies here.
show(probe([(0, 0xA0000, 0), (0x101000, 0x10000, 0xA0000)]))
reveal("3.a", 3, "for the gibibyte that the hole pushes aside reappears from 4 to 5 GiB.")

# %% [markdown]
# ## 2 · Telling KVM
#
# ![One slot: guest-physical addresses on the left, your process on the right](img/lab03/slot.svg)
#
# A list is not yet memory. One ioctl ties a range of guest-physical addresses (**GPA**) to a range of your process
# (**HVA**, host virtual address). From then on the CPU translates; you won't hear of it again.
#
# **Predict.** A second slot overlaps the first by one page. KVM:
#
# 1. lets the newer one win
# 2. refuses
# 3. merges them

# %%
predict("3.b", 1)

# %% [markdown]
# ### Task 03.2
# Fill a `struct kvm_userspace_memory_region` (fields `slot`, `flags`, `guest_phys_addr`, `memory_size`,
# `userspace_addr`) and hand it to KVM with KVM_SET_USER_MEMORY_REGION. You have `struct("name", field=…)`, `address_of(buffer)` and
# `ioctl(fd, request, pointer)`.
#
# *Source: KVM API 4.35, KVM_SET_USER_MEMORY_REGION.*
#
# <details><summary>Hint 1: a nudge</summary>Five fields, five things you were given. Which of the two addresses is the
# guest's?</details>
# <details><summary>Hint 2: the idea</summary>The slot's number is its name: a second call with the same number is about
# the *same* slot. (KVM API 4.35: an existing slot can be moved, its flags changed, not resized.)</details>
# <details><summary>Hint 3: nearly there</summary><code>region = struct("kvm_userspace_memory_region", slot=slot,
# …)</code>, then <code>ioctl(vm, KVM_SET_USER_MEMORY_REGION, region)</code>. The classic mistake forgets
# <code>flags</code>: everything works, but no ROM is read-only and no page is ever dirty.</details>

# %% exercise="03.2"
def set_slot(vm: int, slot: int, gpa: int, buffer, size: int, flags: int = 0) -> None:
    """Shows the first `size` bytes of `buffer` to the guest at `gpa`.

    It becomes slot number `slot` of the VM whose handle is `vm`.
    `flags` are KVM_MEM_* or 0. Size and GPA are in bytes, multiples of 4096.
    """
    ### BEGIN SOLUTION
    region = struct(
        "kvm_userspace_memory_region",
        slot=slot,
        flags=flags,
        guest_phys_addr=gpa,
        memory_size=size,
        userspace_addr=address_of(buffer),
    )
    ioctl(vm, KVM_SET_USER_MEMORY_REGION, region)
    ### END SOLUTION


# %% check="03.2"
check("03.2", set_slot)

# %%
machine, pages = Machine(0), anonymous_memory(0x4000)
with trying():
    set_slot(machine.vm.fd, 0, 0x1000, pages, 0x2000)
    # Break it: 0x2000 belongs to slot 0 already.
    set_slot(machine.vm.fd, 1, 0x2000, pages, 0x2000)
reveal("3.b", 2, "with EEXIST: an address belongs to one slot at most.")

# %% [markdown]
# ## 3 · From the guest's address to your byte
#
# "My buffer is at 0x123456", says a guest to its disk. Every device must find those bytes in *your* process. For the
# guest the CPU translates; for you nobody does.
#
# **Predict.** RAM of 0x110000 bytes lies around a hole from 0xA0000 to 0x100000. The byte at 0x100010 is in your
# buffer at:
#
# 1. 0x100010
# 2. 0xA0010
# 3. 0x10

# %%
predict("3.c", 1)

# %% [markdown]
# ### Task 03.3
# `slots` is a list as `slots_around` makes it. Return the place in the list of the slot that holds `gpa`, and the offset **into
# the buffer**; in a hole, None.
#
# *Source: KVM API 4.35 (guest_phys_addr, userspace_addr).*
#
# <details><summary>Hint 1: a nudge</summary>A slot of 0x1000 bytes at 0x5000: is 0x6000 in it?</details>
# <details><summary>Hint 2: the idea</summary>The distance from the slot's start is the same in the guest and in your
# process: that is all that a slot means.</details>
# <details><summary>Hint 3: nearly there</summary><code>if start &lt;= gpa &lt; start + size: return number, gpa -
# start + offset</code>. The classic mistake forgets <code>offset</code>. Below the hole it is 0, so all tests pass
# until RAM is larger than 3 GiB.</details>

# %% exercise="03.3"
def find(slots: list, gpa: int):
    """Where the byte at `gpa` is: (its slot's place in the list, offset into the buffer).

    None if no slot holds it. `slots` is a list of (gpa, size, offset), in bytes.
    """
    ### BEGIN SOLUTION
    for number, (start, size, offset) in enumerate(slots):
        if start <= gpa < start + size:
            return number, gpa - start + offset
    return None
    ### END SOLUTION


# %% check="03.3"
check("03.3", find)

# %%
slots = [(0x0, 0xA0000, 0x0), (0x100000, 0x70000, 0xA0000)]
with trying():
    for gpa in (0x0, 0x9FFFF, 0xA0000, 0x100010, 0x170000):
        place = find(slots, gpa)
        where = f"slot {place[0]}, byte {place[1]:#x} of the buffer" if place else "nobody's"
        print(f"{gpa:#8x}", where)
reveal("3.c", 2, "for the buffer has no hole: the upper slot starts at its byte 0xA0000.")

# %% [markdown]
# ## 4 · Where nobody is at home
#
# The CPU can't finish an access outside every slot. It becomes **KVM_EXIT_MMIO**, and you play the hardware. The shared
# page says `run.mmio.phys_addr`, `len`, `is_write`, and has eight bytes of `data`.
#
# **Predict.** 8 bytes are written at 0xD0000FFC. How many exits?
#
# 1. one
# 2. two, of 4 bytes
# 3. eight, of 1 byte

# %%
predict("3.d", 1)

# %% [markdown]
# ### Task 03.4
# ![An eight-byte write across a page boundary becomes two exits](img/lab03/mmio.svg)
#
# Serve one MMIO exit from `registers`, whose first byte is at the address `base`. On a write, store the `len` bytes. On
# a read, put them into `run.mmio.data`. Bytes outside the registers: writes are dropped, reads give 0xFF.
#
# *Source: KVM API, "5. The kvm_run structure", KVM_EXIT_MMIO.*
#
# <details><summary>Hint 1: a nudge</summary>What is <code>registers[-1]</code> in Python, and what would hardware
# say?</details>
# <details><summary>Hint 2: the idea</summary>Handle one byte at a time: <code>data[i]</code> belongs to the address
# <code>phys_addr + i</code>. Then widths, byte order and half-claimed accesses take care of themselves. All ones is
# what a bus reads when nobody drives its lines.</details>
# <details><summary>Hint 3: nearly there</summary><code>at = mmio.phys_addr + i - base</code>, and it is inside if
# <code>0 &lt;= at &lt; len(registers)</code>. The classic mistake ignores <code>len</code> and copies all eight bytes
# over the neighbours.</details>

# %% exercise="03.4"
def serve_mmio(run, registers: bytearray, base: int) -> None:
    """Serves the MMIO exit in the page `run`: byte i of `registers` is at the GPA base + i.

    A byte outside `registers` reads as 0xFF, and a write to it is dropped.
    `registers` keeps its length.
    """
    ### BEGIN SOLUTION
    mmio = run.mmio
    for i in range(mmio.len):
        at = mmio.phys_addr + i - base
        inside = 0 <= at < len(registers)
        if not mmio.is_write:
            mmio.data[i] = registers[at] if inside else 0xFF
        elif inside:
            registers[at] = mmio.data[i]
    ### END SOLUTION


# %% check="03.4"
check("03.4", serve_mmio)

# %%
registers, base = bytearray(0x2000), 0xD0000000
serve = lambda page: serve_mmio(page, registers, base)
with trying():
    run = run_guest("mmio-prober", on_mmio=serve, nonce=7, address=base)
    print(run.console.decode())
    exits = [exit for exit in run.exits if exit.name == "KVM_EXIT_MMIO"]
    show(timeline(exits), hexdump(registers[:16], base))
# Break it: `at = (mmio.phys_addr & 0xFFF) + i`. Reads stay right; compare exit 10 with the dump.
reveal("3.d", 2, "for the two pages could belong to different devices, or one of them to RAM.")


# %% [markdown]
# ## 5 · A ROM
#
# Firmware must survive the guest. A slot with **KVM_MEM_READONLY** reads like RAM, at full speed. A write leaves memory
# as it was, and comes out as an MMIO exit: you decide what it means.
#
# **Predict.** A guest writes one byte to such a slot and reads it back. Exits?
#
# 1. none
# 2. one
# 3. two

# %%
predict("3.e", 1)

# %% [markdown]
# ### Task 03.5
# ![Reads of a ROM go straight to memory, writes come out to you](img/lab03/rom.svg)
#
# Another device may own the address, so say whether the exit was yours. A write to the ROM goes to the log, as
# `(address, bytes)`, and nowhere else.
#
# *Source: KVM API 4.35, KVM_MEM_READONLY.*
#
# <details><summary>Hint 1: a nudge</summary>Can a *read* of the ROM ever reach you?</details>
# <details><summary>Hint 2: the idea</summary><code>address in rom</code> asks a Python range directly, and its end is
# not part of it. <code>data</code> always has eight bytes; <code>len</code> says how many this write has.</details>
# <details><summary>Hint 3: nearly there</summary><code>log.append((mmio.phys_addr,
# bytes(mmio.data[0:mmio.len])))</code>. The classic mistakes keep all eight bytes, and answer True for exits beside
# the ROM.</details>

# %% exercise="03.5"
def rom_write(run, rom: range, log: list) -> bool:
    """True if the MMIO exit in the page `run` is in `rom`, a range of guest-physical addresses.

    Then appends (address, the bytes written) to `log`. For any other address: False, and no entry.
    """
    ### BEGIN SOLUTION
    mmio = run.mmio
    if mmio.phys_addr not in rom:
        return False
    log.append((mmio.phys_addr, bytes(mmio.data[0 : mmio.len])))
    return True
    ### END SOLUTION


# %% check="03.5"
check("03.5", rom_write)

# %%
def write_to_a_rom(read_only):
    """rom-writer writes five bytes over the text and reads them back: "written > found"."""
    machine, log = Machine(), []
    rom = machine.memory.add(0xFFFF0000, 0x1000, name="rom", read_only=read_only)
    machine.memory.write(rom.gpa, b"Do not write!")
    serve = lambda page: rom_write(page, range(rom.gpa, rom.end), log)
    options = {"machine": machine, "on_mmio": serve, "address": rom.gpa, "size": 5}
    print(run_guest("rom-writer", nonce=7, **options).console.decode())
    rows = [(hex(gpa), data.hex()) for gpa, data in log]
    return table(rows, ("address", "written")), hexdump(rom.data[:16], rom.gpa)

with trying():
    show(*write_to_a_rom(read_only=True))
# Break it: the flag forgotten. No exit, no log, no firmware, no error.
show(*write_to_a_rom(read_only=False))
reveal("3.e", 2, "for the write only; the read is served from the slot, without you.")


# %% [markdown]
# ## 6 · A program in pieces
#
# ![Segments of a file at their places in memory; the bss has no bytes in the file](img/lab03/elf.svg)
#
# An ELF file is no picture of memory. Program headers say which bytes go where (`p_paddr`), how many there are
# (`p_filesz`), and how much room they get (`p_memsz`). The rest is the **bss**: zeros that nobody stores.
#
# **Predict.** A loader forgets the bss. Who notices?
#
# 1. nobody
# 2. every guest
# 3. the next guest in the same memory

# %%
import io

from elftools.elf.elffile import ELFFile

elf = ELFFile(io.BytesIO(guest_image("elf-segments", nonce=7)))
columns = ("p_type", "p_paddr", "p_filesz", "p_memsz")
parts = elf.iter_segments()
rows = [[part["p_type"], *(hex(part[name]) for name in columns[1:])] for part in parts]
show(table(rows, columns, caption=f"e_entry {elf['e_entry']:#x}"))
predict("3.f", 1)

# %% [markdown]
# ### Task 03.6
# Load every `PT_LOAD` segment, clear its bss, and return the entry. `elf.iter_segments()` gives the segments,
# `segment["p_paddr"]` a field, `segment.data()` the bytes in the file; `write(gpa, data)` writes to guest memory.
#
# *Source: System V ABI, "Program Header", "Program Loading"; man 5 elf.*
#
# <details><summary>Hint 1: a nudge</summary>In the table above, one segment has two different sizes.</details>
# <details><summary>Hint 2: the idea</summary><code>p_vaddr</code> is where the program sees the segment once paging
# is on, <code>p_paddr</code> where it lies in physical memory. The entry is in the file's own header,
# <code>elf["e_entry"]</code>. (man 5 elf)</details>
# <details><summary>Hint 3: nearly there</summary>After the data: <code>write(p_paddr + len(data), bytes(p_memsz -
# len(data)))</code>. The classic mistake leaves this out, for fresh memory is zero anyway.</details>

# %% exercise="03.6"
def load_elf(elf, write) -> int:
    """Loads `elf` (pyelftools' ELFFile) by calling write(gpa, data).

    Returns the address of the first instruction. Physical addresses only: nothing translates yet.
    Segments of other types than PT_LOAD, and bytes outside the segments, are left alone.
    """
    ### BEGIN SOLUTION
    for segment in elf.iter_segments():
        if segment["p_type"] == "PT_LOAD":
            data = segment.data()
            write(segment["p_paddr"], data)
            write(segment["p_paddr"] + len(data), bytes(segment["p_memsz"] - len(data)))
    return elf["e_entry"]
    ### END SOLUTION


# %% check="03.6"
check("03.6", load_elf)

# %%
def start(write_zeros, used=bytes([0xCC])):
    """Runs elf-segments in used memory. It prints a checksum of each of its parts."""
    machine = Machine()
    machine.load(0, used * (1 << 20))
    cut = (lambda data: data) if write_zeros else (lambda data: data.rstrip(b"\0"))
    machine.enter("long", load_elf(elf, lambda gpa, data: machine.load(gpa, cut(data))))
    print(machine.run(2), machine.console.decode(), sep="\n")


with trying():
    start(write_zeros=True)
    # Break it: no bss, and the last line differs. Add used=bytes(1), fresh memory: the bug hides.
    start(write_zeros=False)
reveal("3.f", 3, "for Linux hands out zeroed pages: a fresh VM hides the bug, a reboot shows it.")

# %% [markdown]
# ## 7 · Who wrote where?
#
# ![One bit for each page, in whole 64-bit words, lowest bit first](img/lab03/dirty.svg)
#
# A slot with **KVM_MEM_LOG_DIRTY_PAGES** keeps a diary: one bit a page, set when the guest writes there. Migration,
# snapshots and screen updates live on it.
#
# **Predict.** You read the log twice in a row. The second time it is:
#
# 1. the same
# 2. empty
# 3. an error

# %%
predict("3.g", 1)

# %% [markdown]
# ### Task 03.7
# Ask for the log of one slot with KVM_GET_DIRTY_LOG. `struct kvm_dirty_log` has `slot` and `dirty_bitmap`, a pointer:
# `ffi.from_buffer(bitmap)` makes one. KVM writes whole 64-bit words and **doesn't know how long your buffer is**.
#
# *Source: KVM API 4.8, KVM_GET_DIRTY_LOG.*
#
# <details><summary>Hint 1: a nudge</summary>65 pages: how many 64-bit words?</details>
# <details><summary>Hint 2: the idea</summary>Make a bytearray of the right size, let <code>log.dirty_bitmap</code>
# point to it, and return it after the ioctl. (KVM API 4.8: "a bitmap containing any pages dirtied since the last
# call".)</details>
# <details><summary>Hint 3: nearly there</summary><code>bytearray((pages + 63) // 64 * 8)</code>. The classic mistake
# is <code>pages // 8</code>: KVM then writes over whatever lies behind, and Python dies much later, somewhere
# else.</details>

# %% exercise="03.7"
def read_dirty_log(vm: int, slot: int, pages: int) -> bytearray:
    """The dirty bitmap of slot number `slot`, which has `pages` pages.

    One bit a page, in as many whole 64-bit words as that takes.
    """
    ### BEGIN SOLUTION
    bitmap = bytearray((pages + 63) // 64 * 8)
    log = struct("kvm_dirty_log", slot=slot)
    log.dirty_bitmap = ffi.from_buffer(bitmap)
    ioctl(vm, KVM_GET_DIRTY_LOG, log)
    return bitmap
    ### END SOLUTION


# %% check="03.7"
check("03.7", read_dirty_log)

# %% [markdown]
# ### Task 03.8
# Now the bits. Bit 0 of byte 0 is the slot's first page, at `first_gpa`.
#
# *Source: KVM API 4.8: "Bit 0 is the first page in the memory slot."*
#
# <details><summary>Hint 1: a nudge</summary>Which page is dirty if the bitmap is <code>00 01</code>?</details>
# <details><summary>Hint 2: the idea</summary>Little-endian words of 64 bits and single bytes agree: bit n is bit n % 8 of
# byte n // 8, counted from the lowest.</details>
# <details><summary>Hint 3: nearly there</summary><code>first_gpa + 4096 * n</code> for every n where <code>bitmap[n
# // 8] &gt;&gt; n % 8 &amp; 1</code>. The classic mistake counts bits from the left, as we write numbers.</details>

# %% exercise="03.8"
def dirty_pages(bitmap: bytes, first_gpa: int) -> list:
    """The guest-physical addresses of the pages whose bit is set, in ascending order.

    Bit 0 stands for the page at `first_gpa`.
    """
    ### BEGIN SOLUTION
    bits = range(8 * len(bitmap))
    return [first_gpa + 4096 * n for n in bits if bitmap[n // 8] >> n % 8 & 1]
    ### END SOLUTION


# %% check="03.8"
check("03.8", dirty_pages)

# %%
slot = (machine := Machine()).memory.add(0x200000, 0x100000, log_dirty=True)
run_guest("page-toucher", machine=machine, nonce=7, address=slot.gpa, size=slot.size, count=12)
diary = lambda: dirty_pages(read_dirty_log(machine.vm.fd, slot.number, 256), slot.gpa)
with trying():
    show(heat_map([(gpa - slot.gpa) // 4096 for gpa in diary()], 256))
    print("read again:", diary())
    machine.memory.write(slot.gpa, b"yours")  # Break it: is what *you* write in the diary?
    print("after a write of your own:", diary())
reveal("3.g", 2, "for reading starts a new diary: lose the bitmap, and those pages are lost.")

# %% [markdown]
# ## 8 · The heat of a guest
#
# All together: RAM around a hole, slots with a diary, a guest that runs for some rounds. After each you ask every slot
# which pages it wrote to. Those that come again and again are **hot**: a migration sends them last.
#
# **Predict.** The guest is told to write above the hole only. How many pages *below* the hole will be dirty?
#
# 1. none
# 2. one
# 3. as many as above

# %%
predict("3.h", 1)

# %% [markdown]
# ### Task 03.9
# Write `heat`, with your own `slots_around`, `set_slot`, `read_dirty_log` and `dirty_pages`. All slots share one
# buffer, `anonymous_memory(ram)`. Each shows it from its own offset on: `memoryview(memory)[offset:]`.
#
# *Source: KVM API 4.8 and 4.35.*
#
# <details><summary>Hint 1: a nudge</summary>Where must the reading of the log stand: inside the loop over the rounds, or
# after it?</details>
# <details><summary>Hint 2: the idea</summary>Two loops over the slots: one makes them, before the first round; one
# asks them, after each round. <code>Counter.update(list)</code> counts each element of a list once. (KVM API
# 4.8)</details>
# <details><summary>Hint 3: nearly there</summary><code>counts.update(dirty_pages(read_dirty_log(vm, number, size //
# 4096), gpa))</code>. The classic mistake reads the log once at the end: the hottest page then counts 1.</details>

# %% exercise="03.9"
from collections import Counter


def heat(vm: int, ram: int, hole: tuple, play, rounds: int) -> dict:
    """Gives `vm` new RAM, `ram` bytes around `hole` (start, end); then plays the rounds.

    Calls play(memory, n) for n = 0, 1, … below `rounds`; `memory` is the buffer behind the slots.
    Returns {GPA of a page: in how many rounds the guest wrote to it}.
    """
    ### BEGIN SOLUTION
    memory, counts = anonymous_memory(ram), Counter()
    slots = slots_around(ram, *hole)
    for number, (gpa, size, offset) in enumerate(slots):
        set_slot(vm, number, gpa, memoryview(memory)[offset:], size, KVM_MEM_LOG_DIRTY_PAGES)
    for n in range(rounds):
        play(memory, n)
        for number, (gpa, size, _) in enumerate(slots):
            counts.update(dirty_pages(read_dirty_log(vm, number, size // 4096), gpa))
    return counts
    ### END SOLUTION


# %% check="03.9"
check("03.9", heat)

# %%
def play(memory, n):
    """One round: our Machine learns of your low RAM; page-toucher writes above the hole."""
    machine.memory.slots.clear()
    machine.memory.adopt(0, 0, memoryview(memory)[:0xA0000], name="yours")
    where = {"address": 0x100000, "size": 0x60000 >> n % 4}  # mostly at the start
    run_guest("page-toucher", machine=machine, nonce=n << 32 | n, count=40, **where)


# %%
machine = Machine(0)
with trying():
    counts = heat(machine.vm.fd, 0x100000, (0xA0000, 0x100000), play, rounds=16)
    show(heat_map({gpa // 4096: count for gpa, count in counts.items()}, 0x160))
reveal("3.h", 2, "page 0x7e, and in every round.")

# %% [markdown]
# One square is one page. Those from 0x100 (256) on hold the guest's data. But page 0x7e (126), far below, is hot in
# *every* round, and no line of the guest names it. Why?
#
# <details><summary>The answer</summary>The stack begins at 0x7F000 and grows down: every <code>call</code> writes its
# return address into that page.</details>
#
# ## Stretch
#
# 1. **A mirror.** Show one buffer at two GPAs. Write through one, read through the other. Early PCs did this above 1 MiB
#    by accident: look for "A20".
# 2. **Flash.** Let `rom_write` put a byte into the ROM if the guest has written 0x40 before, as flash chips do.
# 3. **A slot that moves.** Call `set_slot` again with another GPA, then with size 0. What is left at the old place?
# 4. **Pre-copy.** Copy all memory, then what got dirty, round after round. When is it time to stop the guest?
