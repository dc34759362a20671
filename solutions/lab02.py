# %% [markdown]
# # Lab 02 · The CPU: modes
#
# Every PC wakes up as a 1978 machine and climbs, in a few instructions, to the 64-bit one. Here you put a virtual CPU into
# each mode yourself. At the end one guest says hello from all three.
#
# You need what lab 01 explains (exits, `KVM_RUN`), and no x86 beforehand.

# %% [markdown]
# ## 1 · Real mode: where every machine wakes up
#
# ![selector times sixteen plus offset](img/lab02/real-address.svg)
#
# The 8086 had 16-bit registers and 20 address lines, A0 to A19. So an address has two halves, a **selector** in a segment
# register and an **offset**, written 1234:0010. Today's CPUs still wake up so, in **real mode**.
#
# **Predict.** Which byte is FFFF:0010 on a CPU of today?
#
# 1. address 0
# 2. 0xFFFF0
# 3. 0x100000, above 1 MiB
# 4. none: an exception

# %%
from minivmm.lab import *

predict("1.a", 1)  # put your answer in place of the 1

# %% [markdown]
# ### Task 02.1
# Complete `linear`, the arithmetic in the picture.
#
# *Source: Intel SDM vol. 3, "Address Translation in Real-Address Mode".*
#
# <details><summary>Hint 1: a nudge</summary>How many bytes lie between segment 0x1234 and segment 0x1235?</details>
# <details><summary>Hint 2: the idea</summary>The CPU adds up an offset in 16 bits and throws the carry away. Only then
# comes the segment. The last sum is not cut: FFFF:FFFF lies above 1 MiB.</details>
# <details><summary>Hint 3: nearly there</summary><code>offset &amp; 0xFFFF</code>, plus <code>selector * 16</code>.
# The classic mistake is to mask the sum instead of the offset.</details>

# %% exercise="02.1"
def linear(selector: int, offset: int) -> int:
    """The linear address of selector:offset in real mode.

    `offset` may come with more than 16 bits: the upper ones are lost.
    """
    ### BEGIN SOLUTION
    return selector * 16 + (offset & 0xFFFF)
    ### END SOLUTION

# %% check="02.1"
check("02.1", linear)

# %%
run = run_guest("real-segments", memory=2 << 20, nonce=7)
lines = run.console.decode().splitlines()
addresses = [try_out(lambda: hex(linear(int(line[:4], 16), int(line[5:9], 16)))) for line in lines]
show(table(zip(lines, addresses), ("the guest says: where, which byte", "your address")))
reveal("1.a", 3, "0xFFFF0 + 0x10. An 8086 would find address 0, for want of a line A20.")

# %% [markdown]
# ## 2 · The part of a register that nobody sees
#
# ![a segment register and its hidden part](img/lab02/hidden-part.svg)
#
# The CPU doesn't multiply at each access. As a guest *loads* a segment register, base, limit and rights go into its
# **hidden part**. KVM lets you write that part, and checks little.
#
# **Predict.** CS, the code segment, holds selector 0x2000, but base 0. From where does the CPU fetch?
#
# 1. 0x20000 + IP
# 2. 0 + IP
# 3. from nowhere: KVM refuses

# %%
def fill(structure, **fields):
    """Sets fields of a structure by name: fill(sregs.cs, base=0, limit=0xFFFF)."""
    for name, value in fields.items():
        setattr(structure, name, value)

predict("2.a", 1)

# %% [markdown]
# ### Task 02.2
# Complete `real_segment`: a `struct kvm_segment` as real mode wants it, whatever it held before. `fill` sets many fields
# at once. The flags: `s` is 1 for code and data, `dpl` the ring (0, the kernel's), `present` 1 if there; `db` marks 32-bit
# and `l` 64-bit code, `g` a limit in pages, `unusable` an empty register.
#
# *Source: KVM API 4.13, "KVM_GET_SREGS"; SDM vol. 3, "Segment Registers".*
#
# <details><summary>Hint 1: a nudge</summary>The register held a flat 4 GiB segment. Which of its bits would hurt?</details>
# <details><summary>Hint 2: the idea</summary>A 16-bit segment: 64 KiB long, counted in bytes (g=0), 16-bit (db=0, l=0),
# there (present=1, unusable=0), code or data (s=1), for ring 0.</details>
# <details><summary>Hint 3: nearly there</summary><code>base=selector * 16, limit=0xFFFF</code>, then every other
# field by name. The classic mistake is a limit of 0x10000.</details>

# %% exercise="02.2"
def real_segment(segment, selector: int, type: int) -> None:
    """Makes `segment` what real mode loads for `selector`; `type` is 11 (code) or 3 (data).

    Sets selector, base, limit (the last valid offset), type, s, dpl, present, db, l, g, unusable.
    """
    ### BEGIN SOLUTION
    fill(segment, selector=selector, base=selector * 16, limit=0xFFFF, type=type)
    fill(segment, s=1, present=1, dpl=0, db=0, l=0, g=0, unusable=0)
    ### END SOLUTION

# %% check="02.2"
check("02.2", real_segment)

# %%
def hello_in(selector, **broken):
    with Machine() as machine:
        machine.load(selector * 16 + 0x1000, guest_image("real-hello", nonce=7))
        sregs = machine.vcpu.get_sregs()
        for name in ("cs", "ds", "es", "fs", "gs", "ss"):
            real_segment(getattr(sregs, name), selector, 11 if name == "cs" else 3)
        fill(sregs.ds, **broken)
        machine.vcpu.set_sregs(sregs)
        machine.vcpu.update(rip=0x1000, rsp=0xF000, rflags=2)
        return f"{machine.run(0.5).reason}, console {bytes(machine.console)}"

print(try_out(hello_in, 0x2000))
# Break it: DS points elsewhere. The guest looks there for its text and its port number: silence.
print(try_out(lambda: hello_in(0x2000, base=0)))
reveal("2.a", 2, "the base counts, not the selector. CS at reset: 0xF000, base 0xFFFF0000.")

# %% [markdown]
# ## 3 · Descriptors: eight bytes with a history
#
# ![the bits of a segment descriptor](img/lab02/descriptor.svg)
#
# In protected mode a selector points into the **global descriptor table** (GDT), eight bytes an entry: 0x08 is entry 1,
# 0x10 entry 2. The 386 had to keep the 286's layout, so base and limit lie in pieces.
#
# **Predict.** The G bit is set and the limit field holds 0xFFFFF. What is the last valid offset?
#
# 1. 0xFFFFF
# 2. 0xFFFFF000
# 3. 0xFFFFFFFF

# %%
predict("3.a", 1)

# %% [markdown]
# ### Task 02.3
# Complete `encode_descriptor`. `access` and `flags` come ready-made, as the picture has them: P, DPL, S, type are the byte
# `access`; G, D/B, L, AVL are the four bits of `flags`.
#
# *Source: SDM vol. 3, "Segment Descriptors"; AMD APM vol. 2, "Legacy Segment Descriptors".*
#
# <details><summary>Hint 1: a nudge</summary>Build one 64-bit number, piece by piece; bytes come last.</details>
# <details><summary>Hint 2: the idea</summary>Read the places off the picture: limit at 0 and 48, base at 16 and 56,
# access at 40, flags at 52.</details>
# <details><summary>Hint 3: nearly there</summary><code>(base &amp; 0xFFFFFF) &lt;&lt; 16 | (base &gt;&gt; 24)
# &lt;&lt; 56</code>, the limit likewise, then <code>.to_bytes(8, "little")</code>. The classic mistake forgets the
# base's top byte.</details>

# %% exercise="02.3"
def encode_descriptor(base: int, limit: int, access: int, flags: int) -> bytes:
    """The 8 bytes of a descriptor, lowest first.

    `base` has 32 bits, `limit` 20 (as in the table), `access` 8 and `flags` 4.
    """
    ### BEGIN SOLUTION
    number = limit & 0xFFFF | (base & 0xFFFFFF) << 16 | access << 40
    number |= (limit >> 16) << 48 | flags << 52 | (base >> 24) << 56
    return number.to_bytes(8, "little")
    ### END SOLUTION

# %% check="02.3"
check("02.3", encode_descriptor)

# %%
FLAT = {
    "0x08 code32": (0, 0xFFFFF, 0x9B, 0xC),
    "0x10 data": (0, 0xFFFFF, 0x93, 0xC),
    "0x18 code64": (0, 0xFFFFF, 0x9B, 0xA),
}
encoded = [try_out(lambda: encode_descriptor(*fields).hex(" ")) for fields in FLAT.values()]
show(table(zip(FLAT, encoded), ("selector", "its descriptor, lowest byte first")))
reveal("3.a", 3, "0xFFFFF is the last page of 4 KiB, and its last byte is valid too.")

# %% [markdown]
# **Break it.** Leave the base's top byte out and run the check again. A guest whose segment lies below 16 MiB never
# notices; the one above reads nothing but zeros. Bugs in tables are patient.

# %% [markdown]
# ### Task 02.4
# Now the way back, which the CPU takes when a guest loads a selector: complete `decode_descriptor`.
#
# *Source: SDM vol. 3, "Segment Descriptors", on the G flag; KVM API 4.13, `struct kvm_segment`.*
#
# <details><summary>Hint 1: a nudge</summary>KVM's <code>limit</code> counts bytes, always. Does the
# table's?</details>
# <details><summary>Hint 2: the idea</summary>From bit 40: type (4 bits), s, dpl (2), present. From bit 52: avl, l, db, g.
# With g=1 scale the limit to bytes.</details>
# <details><summary>Hint 3: nearly there</summary><code>number &gt;&gt; 45 &amp; 3</code> is dpl; <code>limit &lt;&lt;
# 12 | 0xFFF</code> scales. The classic mistake leaves the low twelve bits 0.</details>

# %% exercise="02.4"
def decode_descriptor(raw: bytes) -> dict[str, int]:
    """Ten fields as struct kvm_segment has them: base, limit, type, s, dpl, present, avl, l, db, g.

    `limit` is the last valid offset in bytes, whatever the descriptor counts in.
    """
    number = int.from_bytes(raw, "little")
    ### BEGIN SOLUTION
    fields = {"type": number >> 40 & 15, "s": number >> 44 & 1}
    fields |= {"dpl": number >> 45 & 3, "present": number >> 47 & 1}
    fields |= {"avl": number >> 52 & 1, "l": number >> 53 & 1}
    fields |= {"db": number >> 54 & 1, "g": number >> 55 & 1}
    fields["base"] = number >> 16 & 0xFFFFFF | (number >> 56) << 24
    limit = number & 0xFFFF | (number >> 48 & 15) << 16
    fields["limit"] = limit << 12 | 0xFFF if fields["g"] else limit
    return fields
    ### END SOLUTION

# %% check="02.4"
check("02.4", decode_descriptor)

# %%
def parts(name):
    return decode_descriptor(encode_descriptor(*FLAT[name])).items()

for name in FLAT:
    shown = try_out(lambda: "  ".join(f"{key} {value:#x}" for key, value in parts(name)))
    print(f"{name:12} {shown}")

# %% [markdown]
# ## 4 · Protected mode
#
# ![four modes and the bits between them](img/lab02/modes.svg)
#
# One bit, CR0.PE, and selectors mean table entries. Six segment registers (CS, DS, ES, FS, GS, SS) wait for their
# descriptors; **flat** ones (base 0, 4 GiB) make them all but disappear.
#
# **Predict.** All is set, but CS.DB is 0. Code is decoded as:
#
# 1. 32-bit
# 2. 16-bit
# 3. nothing: KVM refuses

# %%
predict("4.a", 1)

# %% [markdown]
# ### Task 02.5
# Complete `enter_protected`: CS = 0x08, the five others 0x10, all flat; GDTR, which says where the GDT is (`sregs.gdt`, with
# `base` and `limit`); CR0.PE, bit 0. You are the CPU, so fill the hidden parts too (types 11 and 3).
#
# *Source: SDM vol. 3, "Switching to Protected Mode"; KVM API 4.14, "KVM_SET_SREGS".*
#
# <details><summary>Hint 1: a nudge</summary>What would the CPU have found under 0x08 and 0x10? You decoded it above.</details>
# <details><summary>Hint 2: the idea</summary>Same hidden part for all six: base 0, limit in *bytes*, s=1, present=1,
# dpl=0, db=1, l=0, g=1, unusable=0. GDTR's limit is the last valid offset.</details>
# <details><summary>Hint 3: nearly there</summary><code>fill(getattr(sregs, name), selector=0x10, type=3,
# **flat)</code> in a loop, <code>sregs.cr0 |= 1</code>. The classic mistake is limit 0xFFFFF: 1 MiB.</details>

# %% exercise="02.5"
def enter_protected(sregs, gdt_base: int, gdt_size: int) -> None:
    """Puts `sregs` (any real-mode state) into flat 32-bit protected mode.

    The GDT has `gdt_size` bytes at `gdt_base`.
    """
    ### BEGIN SOLUTION
    flat = {"base": 0, "limit": 0xFFFFFFFF, "s": 1, "present": 1}
    flat |= {"dpl": 0, "db": 1, "l": 0, "g": 1, "unusable": 0}
    fill(sregs.cs, selector=0x08, type=11, **flat)
    for name in ("ds", "es", "fs", "gs", "ss"):
        fill(getattr(sregs, name), selector=0x10, type=3, **flat)
    fill(sregs.gdt, base=gdt_base, limit=gdt_size - 1)
    sregs.cr0 |= 1
    ### END SOLUTION

# %% check="02.5"
check("02.5", enter_protected)

# %%
image = guest_image("protected-hello", nonce=7)
at = image.index(b"\xb8\x01\x00\xeb\x00\x40\x90")  # what they leave in EAX proves the mode
for bits in (32, 16):
    print(f"Seven bytes, read as {bits}-bit code:")
    show(disassemble(image[at : at + 7], 0x1000 + at, bits))
# Break it: paging without protection. KVM would say EINVAL and no more; the rules say why.
print(broken_rules(struct("kvm_sregs", cr0=1 << 31))[0])
reveal("4.a", 2, "CS.DB picks the decoder: the same bytes are other instructions.")

# %% [markdown]
# ## 5 · Long mode: first the map
#
# ![an address in four parts, and its way through three tables](img/lab02/page-walk.svg)
#
# 64-bit mode has no life without paging. The simplest map sends each address to itself, in **pages of 2 MiB**. CR3 holds
# the address of the top table, the PML4; its entry points to a PDPT, and that one's to a page directory.
#
# **Predict.** How many eight-byte entries map the first GiB?
#
# 1. one
# 2. 512
# 3. 514
# 4. 262 144

# %%
predict("5.a", 1)

# %% [markdown]
# ### Task 02.6
# Complete `identity_map`: PML4 at `where`, PDPT and page directory in the next two pages. They are zeroed already.
#
# *Source: SDM vol. 3, "4-Level Paging and 5-Level Paging", the formats of PML4E, PDPTE and PDE.*
#
# <details><summary>Hint 1: a nudge</summary>Two of the tables hold a single entry.</details>
# <details><summary>Hint 2: the idea</summary>An entry is the address below it, plus flags: present (1), writable (2), and
# where the walk ends, page size (0x80). Entries are 8 bytes apart.</details>
# <details><summary>Hint 3: nearly there</summary><code>write_u64(directory + 8 * index, index &lt;&lt; 21 |
# 0x83)</code>, 512 times. The classic mistake: without 0x80 the CPU takes your page for a table.</details>

# %% exercise="02.6"
def identity_map(write_u64, where: int) -> int:
    """Maps the first GiB to itself, writable. Returns what CR3 wants.

    `write_u64(gpa, value)` writes an entry at a guest-physical address.
    """
    ### BEGIN SOLUTION
    pdpt, directory = where + 0x1000, where + 0x2000
    write_u64(where, pdpt | 3)
    write_u64(pdpt, directory | 3)
    for index in range(512):
        write_u64(directory + 8 * index, index << 21 | 0x83)
    return where
    ### END SOLUTION

# %% check="02.6"
check("02.6", identity_map)

# %%
entries = {}
try_out(identity_map, entries.__setitem__, 0x80000)
address = 0x1234_5678
at = (0x80000, 0x81000 + 8 * (address >> 30), 0x82000 + 8 * (address >> 21 & 511))
names = (f"{name} on the way to {address:#x}" for name in ("PML4", "PDPT", "directory"))
rows = [(name, hex(gpa), hex(entries.get(gpa, 0))) for name, gpa in zip(names, at)]
show(table(rows, ("table", "entry at", "holds")))
reveal("5.a", 3, "one, one and 512. With 4 KiB pages the last level alone needs 262 144.")

# %% [markdown]
# ## 6 · Long mode: then the switches
#
# A guest sets CR4.PAE (bit 5), CR3, EFER.LME (bit 8), CR0.PG (bit 31), in this order; the CPU answers with EFER.LMA (bit
# 10), "active". EFER is the extended feature enable register. A VMM writes the *result* of all that, LMA included.
#
# **Predict.** All of them are set, but CS is still the 32-bit segment. The CPU runs:
#
# 1. 64-bit code
# 2. 32-bit code
# 3. nothing: an exception, #GP

# %%
predict("6.a", 1)

# %% [markdown]
# ### Task 02.7
# Complete `enter_long`. `sregs` is in protected mode; the GDT has a 64-bit code segment under 0x18 (L=1, DB=0).
#
# *Source: SDM vol. 3, "Initializing IA-32e Mode"; APM vol. 2, "Enabling and Activating Long Mode".*
#
# <details><summary>Hint 1: a nudge</summary>Four registers and CS; nothing else changes.</details>
# <details><summary>Hint 2: the idea</summary>PAE is CR4 bit 5; LME and LMA are EFER bits 8 and 10; PG is CR0 bit 31. Of CS,
# the selector, L and DB.</details>
# <details><summary>Hint 3: nearly there</summary><code>sregs.efer |= 1 &lt;&lt; 8 | 1 &lt;&lt; 10</code>. The classic
# mistake leaves LMA to the CPU, as a guest may; KVM_SET_SREGS then says EINVAL.</details>

# %% exercise="02.7"
def enter_long(sregs, cr3: int) -> None:
    """Takes `sregs` from flat protected mode to 64-bit mode, with page tables at `cr3`."""
    ### BEGIN SOLUTION
    sregs.cr3 = cr3
    sregs.cr4 |= 1 << 5
    sregs.efer |= 1 << 8 | 1 << 10
    sregs.cr0 |= 1 << 31
    fill(sregs.cs, selector=0x18, l=1, db=0)
    ### END SOLUTION

# %% check="02.7"
check("02.7", enter_long)

# %%
def forget(register, bit):
    sregs = struct("kvm_sregs", cr0=0x11, tr={"type": 11, "present": 1})
    enter_protected(sregs, 0x7F000, 32)
    enter_long(sregs, 0x80000)
    setattr(sregs, register, getattr(sregs, register) & ~(1 << bit))
    return broken_rules(sregs)[0]
for register, bit in (("cr4", 5), ("efer", 10), ("cr0", 0)):  # Break it, one bit at a time.
    print(f"without {register} bit {bit}: {try_out(forget, register, bit)}")
reveal("6.a", 2, "compatibility mode: 32-bit code. A far jump to 0x18 ends it.")

# %% [markdown]
# ## 7 · Which mode is this?
#
# When a guest dies, the first question is what it *was*: 16, 32 or 64-bit code, and by whose rules. Three bits tell, asked
# in the right order. You have set all three.

# %% [markdown]
# ### Task 02.8
# Complete `mode_name`.
#
# *Source: SDM vol. 3, "Modes of Operation"; APM vol. 2, "Operating Modes".*
#
# <details><summary>Hint 1: a nudge</summary>Follow the arrows in the picture of section 4: which bit does each arrow set?</details>
# <details><summary>Hint 2: the idea</summary>CR0.PE (bit 0), then EFER.LMA (bit 10), then CS.L. A 32-bit system with
# paging is still in protected mode.</details>
# <details><summary>Hint 3: nearly there</summary>Without PE: real. Without LMA: protected. Else CS.L decides. The classic
# mistake asks LME, which is only a wish.</details>

# %% exercise="02.8"
def mode_name(sregs) -> str:
    """The mode that `sregs` describes: "real", "protected", "compatibility" or "long"."""
    ### BEGIN SOLUTION
    if not sregs.cr0 & 1:
        return "real"
    if not sregs.efer & 1 << 10:
        return "protected"
    return "long" if sregs.cs.l else "compatibility"
    ### END SOLUTION

# %% check="02.8"
check("02.8", mode_name)

# %%
def walk(**change):
    modes = []
    with Machine() as machine:
        if "cpuid" in change:
            machine.vcpu.set_cpuid(change["cpuid"])
        machine.load_guest(guests.load("mode-walk"), nonce=7)
        machine.on_exit = lambda exit: modes.append(mode_name(machine.vcpu.get_sregs()))
        machine.run(1.0)
        print(machine.console.decode())
    return timeline(modes)

show(try_out(walk))  # r, p, c, l: a boot loader's climb. A line: EFER, CR0, CS, a checksum.

# %% [markdown]
# ## 8 · CPUID: what the guest believes
#
# ![twelve letters in three registers](img/lab02/signature.svg)
#
# CPUID is the CPU's own description: the guest puts a number into EAX, a **leaf**, and four registers answer. In a VM the
# answers are *yours*: a list of leaves that the guest reads instead.
#
# **Predict.** The list is empty. How far does mode-walk, the guest above, get?
#
# 1. long mode
# 2. protected mode
# 3. nowhere

# %%
predict("8.a", 1)

# %% [markdown]
# ### Task 02.9
# Hypervisors sign leaf 0x40000000. Complete `announce`: a new list in which that leaf carries `name`.
#
# *Source: kernel documentation, "KVM CPUID bits"; KVM API 4.46, "KVM_GET_SUPPORTED_CPUID".*
#
# <details><summary>Hint 1: a nudge</summary>The host's list may hold such a leaf already. Two would be one too many.</details>
# <details><summary>Hint 2: the idea</summary>Pad the name with zeros to 12 bytes; EBX, ECX and EDX take four each, little
# endian. EAX is the highest hypervisor leaf.</details>
# <details><summary>Hint 3: nearly there</summary><code>name.encode().ljust(12, b"\0")</code>, then
# <code>int.from_bytes(text[0:4], "little")</code>. The classic mistake is leaf 0's order: EBX, EDX, ECX.</details>

# %% exercise="02.9"
def announce(entries: list[dict], name: str) -> list[dict]:
    """A copy of `entries` with one leaf 0x40000000; `entries` and the other leaves don't change.

    It has function 0x40000000, index 0, flags 0, eax 0x40000001, and `name`, at most 12 ASCII
    letters, in ebx, ecx and edx.
    """
    ### BEGIN SOLUTION
    text = name.encode().ljust(12, b"\0")
    ebx, ecx, edx = (int.from_bytes(text[at : at + 4], "little") for at in (0, 4, 8))
    leaf = {"function": 0x40000000, "index": 0, "flags": 0}
    leaf |= {"eax": 0x40000001, "ebx": ebx, "ecx": ecx, "edx": edx}
    return [entry for entry in entries if entry["function"] != 0x40000000] + [leaf]
    ### END SOLUTION

# %% check="02.9"
check("02.9", announce)

# %%
show(try_out(lambda: walk(cpuid=[])))  # Break it: a CPU that says nothing of itself
reveal("8.a", 2, "CPUID says zeros, so the guest sees no long mode and stops: the x.")

# %% [markdown]
# So far it is a list in your memory. KVM gets a structure with an array at its end, and from then on the guest's CPUID
# instruction reads from that copy.

# %% [markdown]
# ### Task 02.10
# Complete `set_cpuid`: hand the list to KVM. `ffi.new("struct kvm_cpuid2 *", {"entries": [dict, …]})` makes the structure
# from dicts. Another field says how many.
#
# *Source: KVM API 4.20, "KVM_SET_CPUID".*
#
# <details><summary>Hint 1: a nudge</summary>How would C know the length of an array at the end of a structure?</details>
# <details><summary>Hint 2: the idea</summary><code>nent</code> counts the entries. The call is made on the vCPU: two
# vCPUs may differ.</details>
# <details><summary>Hint 3: nearly there</summary><code>{"nent": len(entries), "entries": entries}</code>, and
# <code>ioctl(vcpu, KVM_SET_CPUID2, …)</code>. The classic mistake: nent 0 succeeds, and erases all.</details>

# %% exercise="02.10"
def set_cpuid(vcpu: int, entries: list[dict]) -> None:
    """What CPUID answers on this vCPU (a handle) from now on: KVM_SET_CPUID2."""
    ### BEGIN SOLUTION
    cpuid = ffi.new("struct kvm_cpuid2 *", {"nent": len(entries), "entries": entries})
    ioctl(vcpu, KVM_SET_CPUID2, cpuid)
    ### END SOLUTION

# %% check="02.10"
check("02.10", set_cpuid)

# %%
def signed(name):
    with Machine() as machine:
        set_cpuid(machine.vcpu.fd, announce(machine.vm.supported_cpuid(), name))
        machine.load_guest(guests.load("cpuid-reader"), nonce=7, option=0x40000000)
        sent = []
        machine.on_exit = lambda exit: sent.append(getattr(exit, "data", b""))
        machine.run(1.0)
    return hexdump(b"".join(sent[:4]))
show(try_out(signed, "my own VMM"))  # what the guest read: EAX, EBX, ECX, EDX

# %% [markdown]
# ## 9 · Model-specific registers
#
# What has no name in the instruction set has a number: syscall entry, segment bases, EFER itself. Those are the MSRs. The
# guest uses RDMSR and WRMSR; you use two ioctls that take many registers at once.
#
# **Predict.** KVM_SET_MSRS meets a register that KVM doesn't have. It:
#
# 1. raises EINVAL
# 2. returns a smaller number
# 3. ignores it silently

# %%
predict("9.a", 1)

# %% [markdown]
# ### Task 02.11
# Complete `read_msr`, for one register. `struct kvm_msrs` is a count, `nmsrs`, and `entries`, each with `index` and `data`.
#
# *Source: KVM API 4.18, "KVM_GET_MSRS".*
#
# <details><summary>Hint 1: a nudge</summary>The ioctl's *result* says something, too.</details>
# <details><summary>Hint 2: the idea</summary>Fill in the index, let KVM fill in the data. The result is how many registers
# it did.</details>
# <details><summary>Hint 3: nearly there</summary><code>ffi.new("struct kvm_msrs *", {"nmsrs": 1, "entries":
# [{"index": index}]})</code>; afterwards <code>msrs.entries[0].data</code>. The classic mistake doesn't look at the
# result and returns 0.</details>

# %% exercise="02.11"
def read_msr(vcpu: int, index: int) -> int:
    """The 64-bit value of one MSR of the vCPU (a handle): KVM_GET_MSRS.

    Raises KeyError where KVM doesn't have it.
    """
    ### BEGIN SOLUTION
    msrs = ffi.new("struct kvm_msrs *", {"nmsrs": 1, "entries": [{"index": index}]})
    if ioctl(vcpu, KVM_GET_MSRS, msrs) != 1:
        raise KeyError(f"this KVM has no MSR {index:#x}")
    return msrs.entries[0].data
    ### END SOLUTION

# %% check="02.11"
check("02.11", read_msr)

# %% [markdown]
# **Break it.** Return the data without a look at the result, and check again. A VMM that takes 0 for the value of a
# register that isn't there will save it, and restore it, and nobody will know why the guest is different.

# %% [markdown]
# ### Task 02.12
# And the other way round: `write_msr`. A refusal should be loud: a VMM that believes it has set a register is hard to
# debug.
#
# *Source: KVM API 4.19, "KVM_SET_MSRS".*
#
# <details><summary>Hint 1: a nudge</summary>The same structure, filled a little more.</details>
# <details><summary>Hint 2: the idea</summary><code>data</code> has 64 bits. KVM stops at the first register that it
# refuses, and returns how many came before.</details>
# <details><summary>Hint 3: nearly there</summary><code>{"index": index, "data": value}</code>; if the result isn't 1,
# raise ValueError. The classic mistake is to wait for an errno.</details>

# %% exercise="02.12"
def write_msr(vcpu: int, index: int, value: int) -> None:
    """Sets one MSR of the vCPU (a handle) to a 64-bit value: KVM_SET_MSRS.

    Raises ValueError where KVM refuses.
    """
    ### BEGIN SOLUTION
    msrs = ffi.new("struct kvm_msrs *", {"nmsrs": 1, "entries": [{"index": index, "data": value}]})
    if ioctl(vcpu, KVM_SET_MSRS, msrs) != 1:
        raise ValueError(f"KVM refuses {value:#x} for MSR {index:#x}")
    ### END SOLUTION

# %% check="02.12"
check("02.12", write_msr)

# %%
def set_and_run(value):
    with Machine() as machine:
        machine.load_guest(guests.load("msr-reader"), nonce=7, value=0xC0000082, option=0)
        write_msr(machine.vcpu.fd, 0xC0000082, value)  # LSTAR: where SYSCALL jumps to
        machine.run(1.0)
        return machine.console.decode()
print(try_out(set_and_run, 0x7FFF_1234_5678))
# Break it: an address that can't be (SDM vol. 1, "Canonical Addressing").
print(try_out(set_and_run, 1 << 63))
reveal("9.a", 2, "it counts what it set, and no errno tells: look at the result.")

# %% [markdown]
# ## 10 · One guest, three modes
#
# real-hello, protected-hello and long-hello are *one* source, assembled three times. The seven bytes of section 4 leave 2,
# 0xEB0002 or 0xEB0001 in EAX; the guest prints it XORed with its nonce, the random number before it.
#
# **Predict.** long-hello's bytes, run in protected mode:
#
# 1. the same text
# 2. something else, or a crash
# 3. KVM refuses

# %%
def make_gdt():
    """The table that the flat segments stand in; entry 0 is never used."""
    return bytes(8) + b"".join(encode_descriptor(*fields) for fields in FLAT.values())

predict("10.a", 1)

# %% [markdown]
# ### Task 02.13
# Complete `run_in` from your own parts, `make_gdt` included. `machine.load(gpa, data)` writes memory,
# `machine.memory.write_int(gpa, 8, value)` an entry; end with `machine.vcpu.set_sregs(sregs)` and
# `machine.vcpu.update(rip=…, rsp=…, rflags=2)`.
#
# *Source: SDM vol. 3, "Mode Switching"; KVM API 4.12 and 4.14.*
#
# <details><summary>Hint 1: a nudge</summary>Long mode is protected mode, and then one step more.</details>
# <details><summary>Hint 2: the idea</summary>GDT and tables need room: 0x7F000 and 0x80000 to 0x82FFF are free. A stack at
# 0xF000 suits all three modes.</details>
# <details><summary>Hint 3: nearly there</summary>In real mode all six registers take selector 0. The classic mistake
# sets <code>sregs</code> and forgets to hand it back.</details>

# %% exercise="02.13"
def run_in(mode: str, image: bytes) -> bytes:
    """Runs an image at 0x1000 in "real", "protected" or "long" mode; returns what it printed."""
    with Machine() as machine:
        machine.load(0x1000, image)
        sregs = machine.vcpu.get_sregs()
        ### BEGIN SOLUTION
        if mode == "real":
            for name in ("cs", "ds", "es", "fs", "gs", "ss"):
                real_segment(getattr(sregs, name), 0, 11 if name == "cs" else 3)
        else:
            machine.load(0x7F000, make_gdt())
            enter_protected(sregs, 0x7F000, len(make_gdt()))
        if mode == "long":
            enter_long(sregs, identity_map(lambda a, n: machine.memory.write_int(a, 8, n), 0x80000))
        machine.vcpu.set_sregs(sregs)
        machine.vcpu.update(rip=0x1000, rsp=0xF000, rflags=2)
        ### END SOLUTION
        machine.run(1.0)
        return bytes(machine.console)

# %% check="02.13"
check("02.13", run_in)

# %%
for mode in ("real", "protected", "long"):
    print(f"{mode:10}", try_out(run_in, mode, guest_image(f"{mode}-hello", nonce=7)))

print("mixed up  ", try_out(run_in, "protected", guest_image("long-hello", nonce=7)))  # Break it.
reveal("10.a", 2, "the decoder takes the bytes as they come; none names its mode.")

# %% [markdown]
# ## Stretch
#
# 1. **Unreal mode.** Real mode, but DS with limit 0xFFFFFFFF and g=1. Reach a byte above 1 MiB from 16-bit code. Old
#    games did. Does the limit survive when the guest loads DS? Try, then look at `sregs.ds`.

# %% [markdown]
# 2. **A ring 3 start.** Which fields of CS and SS, and which bit of every page-table entry, let `long-hello` run in ring 3?
#    Its `out` raises #GP there: which field of RFLAGS lets it through, and why does nothing help its `hlt`?
# 3. **The missing walk.** Map one GiB with *one* PDPT entry (SDM vol. 3, PS in a PDPTE). Which CPUID bit promises it?
