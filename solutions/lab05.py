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
# # Lab 05 · Buses and exits
#
# One device was easy to serve. A PC has dozens. Today you build the bus that keeps them apart, find out what an access
# costs, and end with a device of your own: the same letters, for a twentieth of the exits.
#
# ![A guest's access, the bus, and the devices on it](img/lab05/bus.svg)
#
# **Predict** first, in each section. A wrong answer costs nothing and teaches most.

# %% [markdown]
# ## 1 · Claims
#
# A device **claims** a range of addresses. A PC's first serial port has 0x3F8 to 0x3FF, in Python `range(0x3F8, 0x400)`:
# `stop` is the first address that it does *not* have. Two cards on one address were a riddle for an afternoon. Your bus
# refuses the second, and names both.
#
# **Predict.** One device has `range(0x60, 0x61)`. Another claims `range(0x61, 0x65)`.
#
# 1. they overlap at 0x61
# 2. they are neighbours
# 3. it depends on who comes first
#
# *Source: IBM PC/AT Technical Reference, "I/O Address Map".*

# %%
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field

from minivmm.lab import *
from minivmm.lab05 import *


@dataclass
class Bus:
    """One address space: the ports, or the guest's physical memory."""

    devices: list = field(default_factory=list)  # the one with the lowest address first
    unclaimed: dict = field(default_factory=dict)  # address: accesses that nobody answered


predict("5.a", 1)  # put your answer in place of the 1

# %% [markdown]
# ### Task 05.1
# ![Claims side by side, and claims that overlap](img/lab05/claims.svg)
#
# Complete `attach`. A device has a `name` and a `claim`. Whatever is refused leaves the bus as it was.
#
# *Source: IBM PC/AT Technical Reference, "I/O Address Map"; Python, "range".*
#
# <details><summary>Hint 1: a nudge</summary>Two ranges: when do they have no address in common? There are only two ways
# to lie apart.</details>
# <details><summary>Hint 2: the idea</summary>One ends before the other begins: <code>a.stop &lt;= b.start</code>, or the
# other way round. Whatever is neither overlaps, also the one that lies inside the other. (PC/AT Technical Reference, "I/O
# Address Map")</details>
# <details><summary>Hint 3: nearly there</summary><code>if device.claim.start &lt; other.claim.stop and other.claim.start
# &lt; device.claim.stop: raise ValueError(f"…")</code>, for each other; then <code>append</code>, and
# <code>bus.devices.sort(key=lambda each: each.claim.start)</code>. The classic mistake looks only whether the new
# <i>first</i> address is taken.</details>


# %% exercise="05.1"
def attach(bus, device) -> None:
    """Puts the device on the bus; bus.devices stays in the order of the first addresses.

    Raises ValueError for an empty claim, with the device's name, and for a claim that overlaps
    another device's, with both names.
    """
    ### BEGIN SOLUTION
    if not device.claim:
        raise ValueError(f"{device.name} claims no address")
    for other in bus.devices:
        if device.claim.start < other.claim.stop and other.claim.start < device.claim.stop:
            raise ValueError(f"{device.name} and {other.name} overlap")
    bus.devices.append(device)
    bus.devices.sort(key=lambda each: each.claim.start)
    ### END SOLUTION


# %% check="05.1"
check("05.1", attach)

# %%
PC = {"rtc": range(0x70, 0x72), "timer": range(0x40, 0x44), "keyboard": range(0x60, 0x61)}
PC |= {"status": range(0x64, 0x65), "console": range(0x3F8, 0x400), "pic": range(0x20, 0x22)}
pc = Bus()
with trying():
    for device, claim in PC.items():
        attach(pc, Registers(device, claim, width=1))
    show(table([(each.name, hex(each.claim.start), hex(each.claim.stop - 1)) for each in pc.devices]))
    attach(pc, Registers("modem", range(0x3FC, 0x404)))  # break it: two on one address
reveal("5.a", 2, "for the first has 0x60 only: its stop, 0x61, is not its own.")

# %% [markdown]
# ## 2 · Who is there?
#
# Every exit asks: whose address is this? A dictionary of all addresses would be quick, but a graphics card claims 256
# MiB. Going through the devices gets slower with each one. Yours are **sorted**.
#
# **Predict.** A thousand devices, in order. How many claims must you look at to find an address?
#
# 1. a thousand
# 2. about a hundred
# 3. about ten
#
# *Source: Python, "bisect — Array bisection algorithm".*

# %%
predict("5.b", 2)

# %% [markdown]
# ### Task 05.2
# ![Bisection: half of what is left, at each look](img/lab05/bisect.svg)
#
# Complete `find`. `bisect_right(items, x, key=…)` says how many items have a key of at most `x`, and looks at a few of
# them only.
#
# *Source: Python, "bisect — Array bisection algorithm".*
#
# <details><summary>Hint 1: a nudge</summary>Who could have the address? Only the last device that begins at or before
# it.</details>
# <details><summary>Hint 2: the idea</summary>The key is <code>claim.start</code>. Of n devices that begin at or before
# the address, the last one is number n - 1; and it may end before the address. (Python, "bisect")</details>
# <details><summary>Hint 3: nearly there</summary><code>place = bisect_right(bus.devices, address, key=lambda each:
# each.claim.start) - 1</code>; then <code>if place >= 0 and address in bus.devices[place].claim</code>. The classic
# mistake forgets <code>place >= 0</code>: number -1 is Python's last item, and an empty bus has none.</details>


# %% exercise="05.2"
def find(bus, address: int):
    """The device that claims the address, or None. bus.devices are in order.

    Looks at a few claims only, however many there are.
    """
    ### BEGIN SOLUTION
    place = bisect_right(bus.devices, address, key=lambda each: each.claim.start) - 1
    if place >= 0 and address in bus.devices[place].claim:
        return bus.devices[place]
    return None
    ### END SOLUTION


# %% check="05.2"
check("05.2", find)

# %%
owners = {}
with trying():
    for address in range(0x20, 0x80):
        device = find(pc, address)
        owners[address] = device.name[0] if device else "·"
for line in range(0x20, 0x80, 16):
    print(f"{line:#x}", *(owners.get(address, "?") for address in range(line, line + 16)))
reveal("5.b", 3, "for each look halves what is left, and 2 to the 10 is 1024.")

# %% [markdown]
# **Break it on purpose.** Take `bisect_left` instead, which counts the keys *below* `x`. Which address of each device
# gets lost? Look at the map.
#
# ## 3 · An access becomes cycles
#
# A guest reads or writes 1, 2, 4 or 8 bytes, wherever it likes. A device takes up to `width` bytes in a **cycle**, and
# knows no neighbours. The bus lies in between: a PC's chipset made two cycles of 8 bits for a card that has no more
# wires.
#
# **Predict.** The guest reads 4 bytes at 0x61. The keyboard has port 0x60, its status port is 0x64. Who hears of it?
#
# 1. nobody: 0x61 is nobody's
# 2. the keyboard
# 3. the status port
#
# *Sources: IBM PC/AT Technical Reference, "I/O Channel" (16 to 8 bits); Intel SDM vol. 1, "I/O Port Addressing".*

# %%
predict("5.c", 1)

# %% [markdown]
# ### Task 05.3
# ![An access of four bytes over a device, a gap and another device](img/lab05/cycles.svg)
#
# Complete `cycles`. An access stays whole if *one* device has all its bytes, and they are 1, 2, 4 or 8, and no more than
# its `width`; or if nobody has any. Else cut it, whoever is where: the largest power of two below its size, and the
# rest; and each part likewise.
#
# *Source: Intel SDM vol. 1, "I/O Port Addressing".*
#
# <details><summary>Hint 1: a nudge</summary>A function may call itself. When must it not?</details>
# <details><summary>Hint 2: the idea</summary>Look at the owner of <b>every</b> byte, not of the ends only: in between
# there may be another. If it can't stay whole, the answer is the cycles of one part, plus those of the other. (SDM vol.
# 1, "I/O Port Addressing": consecutive bytes are consecutive ports)</details>
# <details><summary>Hint 3: nearly there</summary><code>device = find(bus, address)</code>; <code>one = all(find(bus,
# address + n) is device for n in range(size))</code>. The largest power of two below the size is <code>1 &lt;&lt; (size
# - 1).bit_length() - 1</code>. The classic mistake halves: of 7 bytes, that makes 3 and 4.</details>


# %% exercise="05.3"
def cycles(bus, address: int, size: int) -> list:
    """The cycles, (address, size), that an access of `size` bytes (1 to 8) becomes, in order."""
    ### BEGIN SOLUTION
    device = find(bus, address)
    one = all(find(bus, address + n) is device for n in range(size))
    if one and (device is None or (size <= device.width and size in (1, 2, 4, 8))):
        return [(address, size)]
    first = 1 << (size - 1).bit_length() - 1
    return cycles(bus, address, first) + cycles(bus, address + first, size - first)
    ### END SOLUTION


# %% check="05.3"
check("05.3", cycles)

# %%
with trying():
    for address, size in (0x61, 4), (0x40, 4), (0x44, 4), (0x3FF, 2):
        for at, length in cycles(pc, address, size):
            device = find(pc, at)
            print(f"{size} at {address:#x}: {length} at {at:#x}, {device.name if device else 'nobody'}")
reveal("5.c", 3, "for byte 3 of the access is at 0x64. The others float.")

# %% [markdown]
# **Break it on purpose.** Look at the owners of the two ends only. Which access finds you out?
#
# ## 4 · Reading
#
# A device counts from its own first address: port 0x3FD is register 5 of the console. Where nobody is, the data lines
# float high, and each bit reads 1. Guests look for devices this way: **count** what nobody answered, and you know what
# they hoped to find.
#
# **Predict.** The console's last register, at 0x3FF, holds 0x12. A guest reads 2 bytes there.
#
# 1. 0x0012
# 2. 0xFF12
# 3. 0x12FF
#
# *Source: Intel SDM vol. 1, "I/O Port Addressing"; PIIX4 datasheet, "Master Abort".*

# %%
predict("5.d", 1)

# %% [markdown]
# ### Task 05.4
# Complete `read`. Each cycle is one call of its owner's `read(offset, size)`, or one more in `bus.unclaimed[at]`, by the
# cycle's address. x86 is little-endian: the byte at the lowest address is the lowest of the value. (From here on, each
# part is checked among parts of ours: one mistake costs one check.)
#
# *Source: Intel SDM vol. 1, "Bit and Byte Order".*
#
# <details><summary>Hint 1: a nudge</summary>Start with 0, and put each cycle's part in its place.</details>
# <details><summary>Hint 2: the idea</summary>A cycle at <code>at</code> lies <code>at - address</code> bytes up, so its
# part is shifted by eight times that. <code>n</code> bytes of ones are <code>(1 &lt;&lt; 8 * n) - 1</code>. (SDM vol. 1,
# "Bit and Byte Order")</details>
# <details><summary>Hint 3: nearly there</summary><code>part = device.read(at - device.claim.start, length)</code>,
# <code>value |= part &lt;&lt; 8 * (at - address)</code>. The classic mistake passes the address where the device wants an
# offset.</details>


# %% exercise="05.4"
def read(bus, address: int, size: int) -> int:
    """What a read of `size` bytes finds. All ones, and a count in bus.unclaimed, where nobody is."""
    value = 0
    for at, length in cycles(bus, address, size):
        ### BEGIN SOLUTION
        device = find(bus, at)
        if device is None:
            bus.unclaimed[at] = bus.unclaimed.get(at, 0) + 1
            part = (1 << 8 * length) - 1
        else:
            part = device.read(at - device.claim.start, length)
        value |= part << 8 * (at - address)
        ### END SOLUTION
    return value


# %% check="05.4"
check("05.4", read)

# %%
with trying():
    find(pc, 0x3FF).write(7, 1, 0x12)
    print(f"{read(pc, 0x3FF, 2):#06x}")
    for com in (0x3F8, 0x2F8, 0x3E8, 0x2E8):  # where a PC looks for serial ports, by their line status
        print(f"{com + 5:#x} reads {read(pc, com + 5, 1):#04x}")
    print("asked in vain:", {hex(address): times for address, times in pc.unclaimed.items()})
reveal("5.d", 2, "for the upper byte is nobody's: it floats.")

# %% [markdown]
# **Break it on purpose.** Give the device the address for the offset. What would a C array have done?
#
# ## 5 · Writing
#
# The same, the other way: each cycle takes its bytes from the value. A device gets a number that fits its cycle.
#
# **Predict.** Two devices of 2 bytes each lie side by side. The guest writes 0x44332211 over both. The second gets:
#
# 1. 0x2211
# 2. 0x4433
# 3. 0x44332211
#
# *Source: Intel SDM vol. 1, "Bit and Byte Order".*

# %%
predict("5.e", 1)

# %% [markdown]
# ### Task 05.5
# Complete `write`: each cycle that has an owner is one call of its `write(offset, size, value)`. What nobody takes is
# lost, but counted as a read is.
#
# *Source: Intel SDM vol. 1, "I/O Port Addressing", "Bit and Byte Order".*
#
# <details><summary>Hint 1: a nudge</summary><code>read</code>, backwards: shift to the right.</details>
# <details><summary>Hint 2: the idea</summary>First shift the part down, then cut off what lies above it:
# <code>&amp;</code> with <code>length</code> bytes of ones. (SDM vol. 1, "Bit and Byte Order")</details>
# <details><summary>Hint 3: nearly there</summary><code>part = value >> 8 * (at - address) &amp; (1 &lt;&lt; 8 * length) -
# 1</code>. The classic mistake forgets the mask, and an 8-bit device is given 24 bits.</details>


# %% exercise="05.5"
def write(bus, address: int, size: int, value: int) -> None:
    """A write of `size` bytes: to each device its part. Where nobody is, a count in bus.unclaimed."""
    for at, length in cycles(bus, address, size):
        ### BEGIN SOLUTION
        device = find(bus, at)
        if device is None:
            bus.unclaimed[at] = bus.unclaimed.get(at, 0) + 1
        else:
            part = value >> 8 * (at - address) & (1 << 8 * length) - 1
            device.write(at - device.claim.start, length, part)
        ### END SOLUTION


# %% check="05.5"
check("05.5", write)

# %%
pair = Bus([Registers("low", range(0, 2), width=2), Registers("high", range(2, 4), width=2)])
with trying():
    write(pair, 0, 4, 0x44332211)
    write(pair, 1, 2, 0xBBAA)
    show(table([(each.name, kind, offset, size, hex(value)) for each in pair.devices
                for kind, offset, size, value in each.log], ("device", "cycle", "offset", "size", "value")))
reveal("5.e", 2, "for its bytes are the upper two. The lowest address has the lowest byte.")

# %% [markdown]
# **Break it on purpose.** Forget the mask, and read the failure.
#
# ## 6 · Strings
#
# A disk used to be read by one instruction: `rep insw` takes 256 words from one port. KVM hands you many items in **one
# exit**: `count` of `size` bytes each, one behind the other, from `data_offset` on.
#
# **Predict.** A `rep insw` reads three words from port 0x500. The third comes from port …
#
# 1. 0x500
# 2. 0x502
# 3. 0x504
#
# *Sources: Intel SDM vol. 2, INS; KVM API, "5. The kvm_run structure", KVM_EXIT_IO.*

# %%
predict("5.f", 3)

# %% [markdown]
# ### Task 05.6
# ![A string of three words: the data moves on, the port stays](img/lab05/string.svg)
#
# Complete `serve_port`. Its exit is in `run.io`; `run.page` are the bytes of the whole page. `direction` is
# KVM_EXIT_IO_IN or KVM_EXIT_IO_OUT, as the guest sees it.
#
# *Source: KVM API, "5. The kvm_run structure", KVM_EXIT_IO.*
#
# <details><summary>Hint 1: a nudge</summary>A loop over the items. What differs from one to the next: the port, or the
# place in the page?</details>
# <details><summary>Hint 2: the idea</summary>Item n lies at <code>data_offset + n * size</code>. Each one is an access of
# its own to the same port: <code>read</code> gives a number, <code>.to_bytes(size, "little")</code> its bytes. (SDM vol.
# 2, INS: only DI changes)</details>
# <details><summary>Hint 3: nearly there</summary><code>for at in range(io.data_offset, io.data_offset + io.size *
# io.count, io.size)</code>. Two classic mistakes, both found in VMMs that people use: the port moves on, or the same
# item is sent again and again.</details>


# %% exercise="05.6"
def serve_port(bus, run) -> None:
    """Serves the port exit in the page: every item of it, in order."""
    io = run.io
    ### BEGIN SOLUTION
    for at in range(io.data_offset, io.data_offset + io.size * io.count, io.size):
        if io.direction == KVM_EXIT_IO_IN:
            run.page[at : at + io.size] = read(bus, io.port, io.size).to_bytes(io.size, "little")
        else:
            write(bus, io.port, io.size, int.from_bytes(run.page[at : at + io.size], "little"))
    ### END SOLUTION


# %% check="05.6"
check("05.6", serve_port)

# %%
# On a Bench, a guest runs on your functions: it looks them up by name, in globals(), whenever it needs one.
tape = Tape("tape", range(0x500, 0x510), width=2, text=b"the port stays where it is")
with trying():
    bench = Bench(globals(), "string-echo", ports=[tape], nonce=7, width=2, count=13)
    bench.play()
    for access, exits in Counter(sample[:2] for sample in bench.samples).items():
        print(*access, "exits:", exits)
    print(bytes(tape.written))  # encrypted with the nonce, so that nobody can guess
reveal("5.f", 1, "for the port stays: only the address in memory moves on.")

# %% [markdown]
# All 13 words came in by one exit, and left by 13: KVM reads ahead for an INS, and hands on an OUTS item by item. How
# many there are, `count` says.
#
# **Break it on purpose.** Let the port move on with the items, as one published VMM does. The tape lies at 0x500 to
# 0x50F: after eight words, who answers? Then run the cell of the check: it says what your guest saw.
#
# ## 7 · Memory-mapped devices
#
# Most devices today live in the guest's physical memory, where no slot is. Such an exit has no items: `phys_addr`,
# `len`, `is_write`, and `data`, eight bytes of which `len` count.
#
# **Predict.** The guest writes 8 bytes at 0xD0000FFF. KVM_RUN returns
#
# 1. once, with 8 bytes
# 2. twice, with 4 and 4
# 3. twice, with 1 and 7
#
# *Source: KVM API, "5. The kvm_run structure", KVM_EXIT_MMIO.*

# %%
predict("5.g", 1)

# %% [markdown]
# ### Task 05.7
# ![Eight bytes over a page boundary: two exits](img/lab05/crossing.svg)
#
# Complete `serve_mmio`. Give the answer to a read in the first `len` bytes of `mmio.data`. `bytes(mmio.data)` copies it
# out; `mmio.data = …` takes eight bytes.
#
# *Source: KVM API, "5. The kvm_run structure", KVM_EXIT_MMIO.*
#
# <details><summary>Hint 1: a nudge</summary>Your bus does the work already. The rest is bytes to number, and number to
# bytes.</details>
# <details><summary>Hint 2: the idea</summary><code>len</code> may be anything from 1 to 8. What lies behind it in
# <code>data</code> is left over from some earlier exit. (KVM API, KVM_EXIT_MMIO)</details>
# <details><summary>Hint 3: nearly there</summary><code>int.from_bytes(bytes(mmio.data)[: mmio.len], "little")</code>; and
# for a read <code>mmio.data = read(…).to_bytes(8, "little")</code>. The classic mistake takes 8 for
# <code>len</code>, and writes over the neighbours.</details>


# %% exercise="05.7"
def serve_mmio(bus, run) -> None:
    """Serves the MMIO exit in the page."""
    mmio = run.mmio
    ### BEGIN SOLUTION
    if mmio.is_write:
        write(bus, mmio.phys_addr, mmio.len, int.from_bytes(bytes(mmio.data)[: mmio.len], "little"))
    else:
        mmio.data = read(bus, mmio.phys_addr, mmio.len).to_bytes(8, "little")
    ### END SOLUTION


# %% check="05.7"
check("05.7", serve_mmio)

# %%
left = Registers("left", range(0xD0000FF0, 0xD0001000), width=8)
right = Registers("right", range(0xD0001000, 0xD0001010), width=4)
with trying():
    bench = Bench(globals(), "mmio-walker", mmio=[left, right], nonce=21, count=60, size=28)
    bench.play()
    show(timeline([exit for exit in bench.trace if exit.size in (3, 5, 6, 7)]))
    print("7 bytes from 0xd0001000 on:", *(f"{size} at {at:#x}" for at, size in cycles(bench.mmio, 0xD0001000, 7)))
reveal("5.g", 3, "for the two pages may lie anywhere: each is looked up by itself, as in lab 04.")

# %% [markdown]
# **Break it on purpose.** Write 8 bytes in place of `mmio.len`. Whose registers get overwritten? (All of `data` as the
# value, but `mmio.len` as the size, does no harm: your `write` cuts it off.)
#
# ## 8 · Where the time goes
#
# `bench.samples` has kind, place and nanoseconds of each exit: how long your VMM kept the guest waiting. Thousands of
# numbers say nothing; their **percentiles** do. 99 in 100 don't exceed the 99th.
#
# **Predict.** 99 exits took 10 µs each, and one took 10 ms. The mean is 110 µs. What is the 50th percentile?
#
# 1. 10 µs
# 2. 110 µs
# 3. 5 ms
#
# *Source: NIST/SEMATECH e-Handbook of Statistical Methods, "Percentiles".*

# %%
predict("5.h", 2)

# %% [markdown]
# ### Task 05.8
# ![Many quick exits and a few slow ones: the mean fits neither](img/lab05/percentile.svg)
#
# Complete `percentile`, by *nearest rank*: the smallest of the values that at least `percent` in 100 of them don't
# exceed. No averages: it is one of the values.
#
# *Source: NIST/SEMATECH e-Handbook of Statistical Methods, "Percentiles".*
#
# <details><summary>Hint 1: a nudge</summary>In order, the answer is one of them. Which number? Try it with four values
# and 50 percent.</details>
# <details><summary>Hint 2: the idea</summary>The rank, counted from 1, is percent × n / 100, rounded <b>up</b>.
# <code>-(-a // b)</code> rounds a division up, exactly; fractions don't: 7 / 100 * 100 is a little more than 7. (NIST,
# "Percentiles")</details>
# <details><summary>Hint 3: nearly there</summary><code>rank = -(-percent * len(values) // 100)</code>, and Python counts
# from 0: <code>sorted(values)[rank - 1]</code>. The classic mistake takes item <code>percent * n // 100</code>, which for
# 100 percent isn't there.</details>


# %% exercise="05.8"
def percentile(values: list, percent: int) -> int:
    """The percentile (1 to 100) of `values`: at least one, in any order, some perhaps alike.

    The list stays as it is.
    """
    ### BEGIN SOLUTION
    rank = -(-percent * len(values) // 100)
    return sorted(values)[rank - 1]
    ### END SOLUTION


# %% check="05.8"
check("05.8", percentile)

# %%
waits = [10_000] * 99 + [10_000_000]
with trying():
    show(table([(percent, percentile(waits, percent)) for percent in (50, 90, 99, 100)], ("percentile", "ns")))
reveal("5.h", 1, "for it is the exit in the middle. The mean describes no exit at all.")

# %% [markdown]
# Who is to blame? Look at each *kind and place* of exit by itself. What is slow once a day doesn't matter; what is quick,
# a million times, may.
#
# ### Task 05.9
# Complete `tally`: a row for each kind and place, the largest total first.
#
# *Source: `perf kvm stat`, which does the same in the kernel; B. Gregg, "Systems Performance".*
#
# <details><summary>Hint 1: a nudge</summary>First sort the samples into heaps, then make a row of each heap.</details>
# <details><summary>Hint 2: the idea</summary>A dictionary from (kind, place) to a list of times;
# <code>heaps.setdefault(key, []).append(ns)</code> begins a list where there is none. (<code>perf kvm stat report</code>
# shows its exits so)</details>
# <details><summary>Hint 3: nearly there</summary><code>(*key, len(each), percentile(each, 50), percentile(each, 99),
# sum(each))</code>, then <code>sorted(rows, key=lambda row: -row[-1])</code>. The classic mistake sorts by how often, and
# blames the wrong device.</details>


# %% exercise="05.9"
def tally(samples: list) -> list:
    """Rows (kind, place, count, p50, p99, total) of samples (kind, place, ns), the largest total first."""
    ### BEGIN SOLUTION
    heaps = {}
    for kind, place, ns in samples:
        heaps.setdefault((kind, place), []).append(ns)
    rows = [(*key, len(each), percentile(each, 50), percentile(each, 99), sum(each)) for key, each in heaps.items()]
    return sorted(rows, key=lambda row: -row[-1])
    ### END SOLUTION


# %% check="05.9"
check("05.9", tally)

# %%
class Sleepy(Registers):
    """A device that dozes off, once."""

    def read(self, offset, size):
        if not self.log:
            time.sleep(0.02)
        return super().read(offset, size)


with trying():
    bench = Bench(globals(), "bus-prober", ports=[Sleepy("sleepy", range(0x500, 0x502))], nonce=3, count=400, size=8)
    bench.play()
    show(table(tally(bench.samples)[:6], ("exit", "place", "count", "p50, ns", "p99, ns", "total, ns")))

# %% [markdown]
# Who dozed? The median is as good as the others'; only the total and the 99th percentile give it away. And look at port
# 0x3f8: thousands of exits, for a few lines of text.
#
# ## 9 · The whole price
#
# Your own time is only a part. The processor must leave the guest, the kernel come back to your process, and the same
# again on the way in.
#
# ![What one exit passes through](img/lab05/price.svg)
#
# To weigh it, run a loop with an OUT in each round, and the same loop without. `out-loop` does either.
#
# **Predict.** You time a loop five times. Once in between, your machine was busy elsewhere. The best estimate is …
#
# 1. the mean
# 2. the median
# 3. the minimum
#
# *Source: KVM API, 4.10, KVM_RUN; Python, "timeit", the note on repeat().*

# %%
predict("5.i", 1)

# %% [markdown]
# ### Task 05.10
# Complete `cost`. Both loops do the same but for the exits.
#
# *Source: Python, "timeit", the note on repeat().*
#
# <details><summary>Hint 1: a nudge</summary>Of each list you need one number only.</details>
# <details><summary>Hint 2: the idea</summary>Other programs can make a run longer, never shorter: the minimum is nearest
# to the truth. What both loops have in common falls out in a difference. (Python, "timeit")</details>
# <details><summary>Hint 3: nearly there</summary><code>(min(loud) - min(quiet)) / rounds</code>. The classic mistake
# divides the loud loop alone, and takes the start of the guest for exits.</details>


# %% exercise="05.10"
def cost(rounds: int, loud: list, quiet: list) -> float:
    """What one exit costs, in ns. `loud` and `quiet` are times, in ns, of whole runs of `rounds` rounds."""
    ### BEGIN SOLUTION
    return (min(loud) - min(quiet)) / rounds
    ### END SOLUTION


# %% check="05.10"
check("05.10", cost)

# %%
def times(option):
    """How long 2000 rounds take, three times: with exits (option 1), and without."""
    runs = [Bench(globals(), "out-loop", nonce=7, count=2000, option=option) for _ in range(3)]
    return [time_of(run.play) for run in runs]


with trying():
    price = cost(2000, times(1), times(0))
    print(f"an exit costs {price / 1000:.1f} µs here: time for some {round(price * 3, -3):,.0f} instructions")
reveal("5.i", 3, "for noise only ever adds.")

# %% [markdown]
# A real VT-x or AMD-V comes and goes in about a microsecond; C adds little, Python ten times as much. Either way: what
# makes a VM slow is **how often** it leaves, not how fast you are.
#
# **Break it on purpose.** Leave the quiet loop out of `cost`, and take 20 rounds. What are you weighing now?
#
# ## 10 · Writes that wait
#
# Most writes want no answer. In a *zone* that you name, by `ioctl(vm, KVM_REGISTER_COALESCED_MMIO,
# struct("kvm_coalesced_mmio_zone", addr=…, size=…))`, KVM notes them in a **ring**, and the guest goes on: no exit. The
# ring is a page that you share: `first`, `last`, and slots of 24 bytes. KVM adds at `last`, you take at `first`.
#
# **Predict.** The header has 8 bytes of the page's 4096. How many writes can wait at once?
#
# 1. 170
# 2. 169
# 3. as many as the guest likes
#
# *Source: KVM API 4.116, KVM_REGISTER_COALESCED_MMIO; linux/kvm.h, struct kvm_coalesced_mmio_ring.*

# %%
SLOTS = (4096 - 8) // 24
show(predict("5.j", 1))
print(SLOTS, "slots")

# %% [markdown]
# ### Task 05.11
# ![A ring of slots: KVM writes at last, you read at first](img/lab05/ring.svg)
#
# Complete `drain`. An entry, `ring.coalesced_mmio[n]`, has `phys_addr`, `len`, `data` (8 bytes, of which `len` count)
# and `pio`: 1 for a port. Do each write, oldest first, and move `first` on. After the last slot comes slot 0.
#
# *Source: KVM API 4.116, KVM_REGISTER_COALESCED_MMIO; linux/kvm.h, struct kvm_coalesced_mmio_ring.*
#
# <details><summary>Hint 1: a nudge</summary>When is there nothing left to do?</details>
# <details><summary>Hint 2: the idea</summary>The ring is empty when <code>first == last</code>. The indices wrap around, so
# <code>first</code> may well be larger than <code>last</code>. (linux/kvm.h)</details>
# <details><summary>Hint 3: nearly there</summary><code>while ring.first != ring.last</code>, and
# <code>ring.first = (ring.first + 1) % SLOTS</code>. The classic mistake is <code>&lt;</code>: all is well until the ring
# wraps for the first time, and then nothing is ever taken out.</details>


# %% exercise="05.11"
def drain(ring, ports, mmio) -> None:
    """Does every write that waits in the ring, on the bus that it is for, and empties it."""
    ### BEGIN SOLUTION
    while ring.first != ring.last:
        entry = ring.coalesced_mmio[ring.first]
        value = int.from_bytes(bytes(entry.data)[: entry.len], "little")
        write(ports if entry.pio else mmio, entry.phys_addr, entry.len, value)
        ring.first = (ring.first + 1) % SLOTS
    ### END SOLUTION


# %% check="05.11"
check("05.11", drain)

# %%
zone = range(0xD0000000, 0xD0000004)
mixer = Mixer(address=0xD0000000, port=0x600)
with trying():
    bench = Bench(globals(), "mixer", ports=[mixer.port], mmio=[mixer.memory_mapped], zones=[zone], nonce=7, size=9)
    print("the ring is filled by", bench.vm.backend.name if bench.coalescing.native else "the bench: this KVM has none")
    bench.go()  # it has written to memory, which waits, and then to the port
    print(f"first {bench.ring.first}, last {bench.ring.last}: one waits, and the device has seen {mixer.taken}")
    drain(bench.ring, bench.ports, bench.mmio)
    print(f"first {bench.ring.first}, last {bench.ring.last}: drained, and the device has seen {mixer.taken}")
reveal("5.j", 2, "for one slot stays free: else a full ring would look like an empty one.")

# %% [markdown]
# **Break it on purpose.** Write `<` for `!=` in `drain`. It passes many a test: until the ring wraps.
#
# ## 11 · The loop, once more
#
# A write that waits is still the guest's *earlier* deed. If it now reads what the write should have changed, order
# matters.
#
# **Predict.** The guest writes to the zone, then reads a total, which is an exit. When do you empty the ring?
#
# 1. once the read is served
# 2. before you serve anything
# 3. when it is full
#
# *Source: KVM API 4.116, KVM_REGISTER_COALESCED_MMIO.*

# %%
predict("5.k", 1)

# %% [markdown]
# ### Task 05.12
# ![The same exit, with the ring drained too late and in time](img/lab05/order.svg)
#
# Complete `work`, the run loop. `go()` runs the guest until its next exit, which is in the page. HLT ends it. An exit
# that you don't know must raise.
#
# *Sources: KVM API, "5. The kvm_run structure"; 4.116, KVM_REGISTER_COALESCED_MMIO.*
#
# <details><summary>Hint 1: a nudge</summary>Every exit is a reason to look into the ring. HLT is one, too.</details>
# <details><summary>Hint 2: the idea</summary>Four steps: go, drain, look at <code>run.exit_reason</code> (KVM_EXIT_HLT,
# KVM_EXIT_IO, KVM_EXIT_MMIO), serve. (KVM API, "5. The kvm_run structure")</details>
# <details><summary>Hint 3: nearly there</summary><code>drain</code> comes right behind <code>go()</code>. The classic
# mistake drains only before reads, and returns at HLT with the guest's last words still in the ring.</details>


# %% exercise="05.12"
def work(go, run, ring, ports, mmio) -> None:
    """Runs the guest to its HLT. Writes that wait in the ring happen before the exit that comes after them.

    Raises RuntimeError, with the exit reason (its number) in the text, for an exit that nobody handles.
    """
    ### BEGIN SOLUTION
    while True:
        go()
        drain(ring, ports, mmio)
        if run.exit_reason == KVM_EXIT_HLT:
            return
        if run.exit_reason == KVM_EXIT_IO:
            serve_port(ports, run)
        elif run.exit_reason == KVM_EXIT_MMIO:
            serve_mmio(mmio, run)
        else:
            raise RuntimeError(f"nobody handles exit reason {run.exit_reason}")
    ### END SOLUTION


# %% check="05.12"
check("05.12", work, Bus, attach, find, cycles, read, write, serve_port, serve_mmio, drain)

# %%
def mix(loop, **zones):
    """`mixer` in this loop: its totals, and how many exits it took."""
    mixer = Mixer(address=0xD0000000, port=0x600)
    devices = {"ports": [mixer.port], "mmio": [mixer.memory_mapped]} | zones
    bench = Bench(globals() | {"work": loop}, "mixer", **devices, nonce=7, size=100)
    return *bench.work().split(), bench.exits.total()


def late(go, run, ring, ports, mmio):  # break it: what waits is done too late
    work(go, run, empty_ring(), ports, mmio)
    drain(ring, ports, mmio)


with trying():
    zones = {"zones": [zone], "port_zones": [range(0x600, 0x604)]}
    rows = ("no ring", *mix(work)), ("a ring", *mix(work, **zones)), ("too late", *mix(late, **zones))
    show(table(rows, ("", "1st total", "2nd", "3rd", "exits")))
reveal("5.k", 2, "for it came first. A guest must never see that you are lazy.")

# %% [markdown]
# The same totals, and 400 exits fewer. Drained too late, they are wrong, and many exits are back: 169 writes wait, and
# the ring is full. QEMU does this for graphics memory and for the e1000 network card; kvmtool, too, drains before it
# looks at the exit.
#
# ## 12 · A device of your own
#
# The ring is a trick of the host's; a guest that *knows* it is in a VM can do better. It leaves its data in memory, which
# costs nothing, and makes one exit to say so: a **doorbell**. All of virtio (lab 09) is built on this.
#
# **Predict.** 1000 letters, 64 at a time. How often does it ring?
#
# 1. 15 times
# 2. 16 times
# 3. 64 times
#
# *Source: virtio 1.2, "Driver Notifications".*

# %%
predict("5.l", 1)

# %% [markdown]
# ### Task 05.13
# ![Letters one by one, and a batch with one ring of the bell](img/lab05/postbox.svg)
#
# Complete `Postbox`. It has two registers of 4 bytes, at offsets 0 and 4. Accesses of another size or in between read 0
# and do nothing. The guest chooses buffer and length, so **trust neither**: what is not all in `memory` (a writable
# buffer, from address 0) sends nothing.
#
# *Sources: virtio 1.2, "Driver Notifications", "Virtio Over MMIO" (MagicValue).*
#
# <details><summary>Hint 1: a nudge</summary>Two registers, two directions: four short cases. Which of them sends?</details>
# <details><summary>Hint 2: the idea</summary>The number that spells POST is <code>int.from_bytes(b"POST",
# "little")</code>. Python's slices don't complain about a length that is too large, so you must. (virtio 1.2 has a
# MagicValue, too: it spells "virt")</details>
# <details><summary>Hint 3: nearly there</summary>On the bell: <code>fits = self.buffer + value &lt;=
# len(self.memory)</code>, <code>self.sent = value if fits else 0</code>, then <code>self.send(bytes(self.memory[self.buffer
# : self.buffer + self.sent]))</code>. The classic mistake trusts the length: in C, that reads your own memory out to the
# guest.</details>


# %% exercise="05.13"
class Postbox:
    """Port + 0 reads as "POST", and takes the address of a buffer. Port + 4 takes a length, and sends so many letters
    from the buffer at once; it reads as how many the last length has sent, 0 where they were refused."""

    name, width = "postbox", 4

    def __init__(self, port: int, memory, send):
        self.claim = range(port, port + 8)
        self.memory, self.send = memory, send  # send(bytes) takes letters
        self.buffer = self.sent = 0

    def read(self, offset: int, size: int) -> int:
        ### BEGIN SOLUTION
        if size != 4:
            return 0
        return {0: int.from_bytes(b"POST", "little"), 4: self.sent}.get(offset, 0)
        ### END SOLUTION

    def write(self, offset: int, size: int, value: int) -> None:
        ### BEGIN SOLUTION
        if (offset, size) == (0, 4):
            self.buffer = value
        elif (offset, size) == (4, 4):
            self.sent = value if self.buffer + value <= len(self.memory) else 0
            self.send(bytes(self.memory[self.buffer : self.buffer + self.sent]))
        ### END SOLUTION


# %% check="05.13"
check("05.13", Postbox)

# %%
def post(size, boxed=True):
    """1000 letters of `postman`, `size` at a time: the letters, and how many exits they took."""
    bench, sent = Bench(globals(), "postman", nonce=7, count=1000, size=size), []
    if boxed:
        attach(bench.ports, Postbox(0x700, bench.memory, sent.append))
    bench.work()
    return bench.console.encode() + b"".join(sent), bench.exits.total()


# %%
with trying():
    text, plain = post(1, boxed=False)
    rows = [("one by one", plain, "", "")]
    for size in 1, 10, 64, 500:
        same, exits = post(size)
        rows.append((f"{size} at a time", exits, f"{plain / exits:.1f} ×", "the same letters" if same == text else "WRONG"))
    show(table(rows, ("", "exits", "fewer", "")))
reveal("5.l", 2, "for the last 40 letters need a ring, too.")

# %% [markdown]
# **That is your machine**: your bus, your loop, your device, and a guest that found it by itself, by four letters at a
# port. It knows why it is fast, and so do you.
#
# **Break it on purpose.** Take out the test of the length, and check again. In Python the damage is small. The same line
# in C has been found in real VMMs, again and again: it hands the host's memory to the guest (lab 16).
#
# ## Stretch
#
# Worth no points; each has its check.
#
# ### Task 05.14: the shape of it
# Percentiles hide that there are *two* kinds of exits, quick and slow. A histogram shows the humps. Count the values by
# powers of two: 5, 6 and 7 belong to 4. Values are at least 1.
#
# *Source: B. Gregg, "Systems Performance", on latency distributions; `bpftrace`, hist().*
#
# <details><summary>Hint 1: a nudge</summary>What do 4, 5, 6 and 7 have in common, in binary?</details>
# <details><summary>Hint 2: the idea</summary>Their length. <code>value.bit_length()</code> is 3 for all of them.</details>
# <details><summary>Hint 3: nearly there</summary><code>sorted(Counter(1 &lt;&lt; value.bit_length() - 1 for value in
# values).items())</code>. The classic mistake uses <code>log2</code>, which rounds: large values land in the wrong
# bucket.</details>


# %% exercise="05.14"
def histogram(values: list) -> list:
    """(power of two, how many values are at least that and below twice it), in order, the empty ones left out."""
    ### BEGIN SOLUTION
    return sorted(Counter(1 << value.bit_length() - 1 for value in values).items())
    ### END SOLUTION


# %% check="05.14"
check("05.14", histogram)

# %%
class Disk(Registers):  # each read takes it a millisecond
    def read(self, offset, size):
        return time.sleep(0.001) or super().read(offset, size)


with trying():
    bench = Bench(globals(), "bus-prober", ports=[Disk("disk", range(0x500, 0x508))], nonce=3, count=300, size=8)
    bench.play()
    for bucket, count in histogram([ns for _, _, ns in bench.samples]):
        print(f"{bucket:10,} ns {'█' * -(-count // 40)} {count}")

# %% [markdown]
# ### Task 05.15: remember the way
# A guest comes back to the same few registers. Remember who was found at an address, so that no claim is looked at the
# next time; and forget it in time.
#
# *Source: minivmm's own `bus.py`, "found once, then remembered".*
#
# <details><summary>Hint 1: a nudge</summary>A dictionary, and one question: when is what it says no longer true?</details>
# <details><summary>Hint 2: the idea</summary>That nobody is there is worth remembering, too. And an <code>attach</code>
# makes it false.</details>
# <details><summary>Hint 3: nearly there</summary><code>if address not in self.known: self.known[address] = find(self.bus,
# address)</code>; <code>attach</code> and <code>detach</code> clear it. The classic mistake clears it at
# <code>detach</code> only: a device that is plugged in stays invisible.</details>


# %% exercise="05.15"
class Routes:
    """A bus that remembers. bus.devices are always what they would be without."""

    def __init__(self, bus):
        self.bus, self.known = bus, {}

    def find(self, address: int):
        """As `find`; looks at no claim for an address that was asked for since the last change."""
        ### BEGIN SOLUTION
        if address not in self.known:
            self.known[address] = find(self.bus, address)
        return self.known[address]
        ### END SOLUTION

    def attach(self, device) -> None:
        """As `attach`."""
        ### BEGIN SOLUTION
        attach(self.bus, device)
        self.known.clear()
        ### END SOLUTION

    def detach(self, device) -> None:
        """Takes the device off the bus: nobody has its addresses now."""
        ### BEGIN SOLUTION
        self.bus.devices.remove(device)
        self.known.clear()
        ### END SOLUTION


# %% check="05.15"
check("05.15", Routes)

# %% [markdown]
# ### Task 05.16: too few wires
# Early cards looked at ten address lines of sixteen. So a card at 0x2E8 also answered at 0x6E8, 0xAE8, … List all the
# claims that it has in the 64 Ki ports. (Some firms made a feature of it.)
#
# *Source: IBM PC/AT Technical Reference, "I/O Address Map": the note on 10-bit decoding.*
#
# <details><summary>Hint 1: a nudge</summary>Two addresses look the same to the card if their low bits are the
# same.</details>
# <details><summary>Hint 2: the idea</summary>The aliases lie <code>1 &lt;&lt; lines</code> apart. A claim may be given by
# one of its aliases.</details>
# <details><summary>Hint 3: nearly there</summary><code>base = claim.start &amp; (1 &lt;&lt; lines) - 1</code>, then one
# range for each of <code>range(base, 0x10000, 1 &lt;&lt; lines)</code>. The classic mistake begins at the claim and
# misses the aliases below it.</details>


# %% exercise="05.16"
def aliases(claim: range, lines: int = 10) -> list:
    """The ranges, in order, at which a card answers that looks at the low `lines` address lines only."""
    ### BEGIN SOLUTION
    base = claim.start & (1 << lines) - 1
    return [range(at, at + len(claim)) for at in range(base, 0x10000, 1 << lines)]
    ### END SOLUTION


# %% check="05.16"
check("05.16", aliases)

# %% [markdown]
# ### Task 05.17: no exit at all
# A doorbell need not wake you: with KVM_IOEVENTFD the kernel itself wakes whichever thread waits, and the guest goes on.
# It must know the bell from other writes. `bell` is a `struct kvm_ioeventfd`, with `addr`, `len`, `datamatch` and
# `flags`. A `len` of 0 takes every size.
#
# *Source: KVM API 4.59, KVM_IOEVENTFD.*
#
# <details><summary>Hint 1: a nudge</summary>Four conditions; two of them are not always asked.</details>
# <details><summary>Hint 2: the idea</summary>KVM_IOEVENTFD_FLAG_PIO says that the bell is a port, and
# KVM_IOEVENTFD_FLAG_DATAMATCH that the value counts. (KVM API 4.59)</details>
# <details><summary>Hint 3: nearly there</summary><code>bell.len in (0, size)</code>, and <code>bool(bell.flags &amp;
# KVM_IOEVENTFD_FLAG_PIO) == pio</code>. The classic mistake compares the value though nobody asked for it.</details>


# %% exercise="05.17"
def rings(bell, pio: bool, address: int, size: int, value: int) -> bool:
    """Whether this write, to a port (pio) or to memory, rings the bell."""
    ### BEGIN SOLUTION
    if bool(bell.flags & KVM_IOEVENTFD_FLAG_PIO) != pio or bell.addr != address or bell.len not in (0, size):
        return False
    return not bell.flags & KVM_IOEVENTFD_FLAG_DATAMATCH or bell.datamatch == value
    ### END SOLUTION


# %% check="05.17"
check("05.17", rings)

# %% [markdown]
# ### Task 05.18: the other end of the ring
# Be the kernel: put a write into the ring, or say that it is full. Then KVM makes an exit of it, as ever.
#
# *Source: linux/kvm.h, struct kvm_coalesced_mmio_ring; KVM API 4.116, KVM_REGISTER_COALESCED_MMIO.*
#
# <details><summary>Hint 1: a nudge</summary>Which slot is the next one, and who stands behind it?</details>
# <details><summary>Hint 2: the idea</summary>The ring is full if the slot behind <code>last</code> is
# <code>first</code>. First the entry, then <code>last</code>: the other side may look at any time.</details>
# <details><summary>Hint 3: nearly there</summary><code>behind = (ring.last + 1) % SLOTS</code>; <code>entry.data =
# data.ljust(8, b"\0")</code>. The classic mistake lets <code>last</code> catch up with <code>first</code>, and 170
# writes are gone at once.</details>


# %% exercise="05.18"
def push(ring, address: int, data: bytes, pio: int) -> bool:
    """Adds a write of 1 to 8 bytes at `last`. False, and nothing changes, where the ring is full."""
    ### BEGIN SOLUTION
    behind = (ring.last + 1) % SLOTS
    if behind == ring.first:
        return False
    entry = ring.coalesced_mmio[ring.last]
    entry.phys_addr, entry.len, entry.pio, entry.data = address, len(data), pio, data.ljust(8, b"\0")
    ring.last = behind
    return True
    ### END SOLUTION


# %% check="05.18"
check("05.18", push)

# %% [markdown]
# ## And on
#
# 1. Let the postbox answer: a second buffer, that you fill, and a register which says how much is in it. When should it
#    raise an interrupt?
# 2. A device of *your* choosing: a die, a thermometer, a tiny display. Which registers, how wide, and what costs an
#    exit? Attach it, and write a guest for it.
# 3. `tally` your exits while a guest of lab 03 runs. Which device would you move into the kernel first?
