"""Lab 02, "The CPU: modes": its checks, and the hints that name the classic mistakes."""

from __future__ import annotations

from dataclasses import replace

from autograder.model import Check, Hint, Lab, Limits
from autograder.stages import lab02_cpu as cpu
from autograder.stages import lab02_descriptors as descriptors
from autograder.stages import lab02_modes as modes
from autograder.stages import lab02_real as real
from autograder.stages import lab02_tables as tables

ROOMY = Limits(memory_mib=384)  # guests with 64 MiB of RAM, of which they touch a page or two

SHIFT = Hint("shift", "A selector counts paragraphs of 16 bytes: the address is selector × 16 + offset.")
A20 = Hint(
    "a20", "FFFF:0010 is 0xFFFF × 16 + 0x10 = 0x100000, the first byte above 1 MiB: don't cut the sum to 20 bits."
)
HIDDEN = Hint(
    "leftovers", "KVM loads the hidden part exactly as you give it: set db, l, g, dpl, s, present and unusable too, or "
    "what the register held before stays."
)  # fmt: skip
BASE = Hint("base", "The base is the selector times 16; KVM doesn't compute it for you.")
DESCRIPTOR_HINTS = (
    Hint("layout", "From the lowest byte: limit 15…0 (two), base 15…0 (two), base 23…16, access, flags with limit "
         "19…16, base 31…24.", when="OverflowError"),
    Hint("base-high", "The base's top byte is the descriptor's last byte, bits 63…56: the base comes in three pieces."),
    Hint("limit-high", "Limit bits 19…16 share byte 6 with the flags: the limit has the low nibble."),
    Hint("nibbles", "Byte 6 is turned around: the flags are its high nibble, limit 19…16 its low one."),
    Hint("little-endian", "x86 is little endian: the lowest byte of the number comes first."),
    Hint("length", "Return bytes, eight of them: number.to_bytes(8, \"little\") does it.", when="TypeError"),
)  # fmt: skip
DECODE_HINTS = (
    Hint("fields", "Shift the field down to bit 0, then mask: number >> 45 & 3 is DPL. The access byte begins at bit "
         "40, the flags at 52."),
    Hint("scale", "struct kvm_segment wants the limit in bytes: with G=1, and only then, the field counts pages of "
         "4 KiB."),
    Hint("scale-ones", "With G=1 the low 12 bits of the limit are ones: field << 12 | 0xFFF. A limit is the last "
         "valid offset, not a size.", when="OverflowError"),
    Hint("base-high", "The base's bits 31…24 are the descriptor's last byte; bits 63…56 are easily forgotten."),
    Hint("limit-high", "The limit has 20 bits: the top four are bits 51…48 of the descriptor."),
)  # fmt: skip
MSR_HINTS = (
    Hint("entries", "One entry in struct kvm_msrs: nmsrs=1, entries=[{\"index\": …, \"data\": …}]. The ioctl "
         "returns 1 when it did your register; the value is in `data`, not in the result.",
         when="KeyError|ValueError"),
    Hint("data64", "An MSR has 64 bits, and so has `data`: keep the upper half."),
    Hint("count", "The ioctl returns how many registers it did. Anything but 1 means that KVM refused yours, and no "
         "errno tells you."),
)  # fmt: skip

SEGMENT_CHECKS = (
    Check("02.1", "selector and offset make an address", 1, "linear", "addresses", real.pairs,
          real.right_addresses, hints=(
              SHIFT, A20,
              Hint("offset-wrap", "In real mode an offset has 16 bits: 0xFFF0 + 0x20 is offset 0x0010. Mask it "
                   "before you add."),
          )),
    Check("02.1b", "your address finds what the guest wrote", 1, "linear", "bytes_by_name", real.places,
          real.found_by_name, hints=(SHIFT, A20), guests=("real-segments",)),
    Check("02.2", "a real-mode segment register, hidden part and all", 1, "real_segment", "real_fields",
          real.leftovers, real.real_fields, hints=(
              HIDDEN, BASE,
              Hint("limit", "In real mode the limit is 0xFFFF, the last offset that 16 bits can name: not 0x10000.",
                   when="OverflowError"),
              Hint("type", "The type is the argument's: 11 for code, 3 for data that may be written."),
              Hint("selector", "The visible part: `selector` as given."),
          )),
    Check("02.2b", "a guest that lives in a segment of your choice", 1, "real_segment", "hello_elsewhere",
          real.elsewhere, real.said_hello, hints=(BASE, HIDDEN), guests=("real-hello",)),
    Check("02.3", "eight bytes of a descriptor", 1, "encode_descriptor", "encode", descriptors.quads,
          descriptors.right_bytes, hints=DESCRIPTOR_HINTS),
    Check("02.3b", "the CPU reads your descriptor", 1, "encode_descriptor", "load_encoded", descriptors.loads,
          descriptors.read_by_the_cpu, hints=DESCRIPTOR_HINTS, guests=("segment-load",), limits=ROOMY),
    Check("02.4", "a descriptor taken apart", 1, "decode_descriptor", "decode", descriptors.eights,
          descriptors.right_fields, hints=DECODE_HINTS),
    Check("02.4b", "a guest reads through what you decoded", 1, "decode_descriptor", "load_decoded",
          descriptors.through, descriptors.read_through, hints=DECODE_HINTS, guests=("segment-base",)),
)  # fmt: skip

MODE_CHECKS = (
    Check("02.5", "from reset to protected mode", 1, "enter_protected", "protected", modes.to_protected,
          modes.is_protected, guests=("protected-hello", "segment-load"), hints=(
              Hint("hidden", "Set the hidden part in full: base 0, limit 0xFFFFFFFF, s=1, present=1, dpl=0, db=1, "
                   "l=0, g=1, unusable=0; type 11 in CS, 3 in the others."),
              Hint("selector", "A selector is the entry's place in bytes: the GDT's entry 1 is 0x08, entry 2 is 0x10."),
              Hint("pe", "Protected mode is one bit: sregs.cr0 |= 1. Without it the segments are those of real mode."),
              Hint("db", "CS.DB decides how code is decoded: with 0 the CPU reads 16-bit code, in protected mode too."),
              Hint("limit-bytes", "struct kvm_segment holds the limit in bytes, already scaled: for 4 GiB that is "
                   "0xFFFFFFFF, the last valid offset. 0xFFFFF is what stands in the GDT.", when="OverflowError"),
              Hint("all-five", "Five registers take the data segment: DS, ES, FS, GS and SS. A forgotten SS is a "
                   "stack with the limit of real mode."),
              Hint("gdt-limit", "GDTR is sregs.gdt: the base is where the table lies, the limit its last valid "
                   "offset: the size less one.", when="AttributeError.*gdt"),
          )),
    Check("02.6", "three pages of page tables", 1, "identity_map", "tables", tables.places, tables.maps_itself, hints=(
        Hint("cr3", "Return the address of the top table, the PML4: the CPU's walk begins there."),
        Hint("step", "Entry n of the page directory maps n × 2 MiB: index << 21."),
        Hint("eight-bytes", "A table is a page of 512 entries of eight bytes, no more and no less: entry n lies at "
             "table + 8 × n."),
        Hint("large", "Bit 7 (PS, 0x80) ends the walk: a page directory entry has it, or it points to a fourth "
             "table; the levels above don't."),
        Hint("present", "Bit 0 of every entry on the way says that there is something: without it, a page fault."),
        Hint("writable", "Bit 1 is needed at every level: rights are ANDed on the way down. With bit 0 that makes 3."),
    )),
    Check("02.6b", "a 64-bit guest looks through your tables", 1, "identity_map", "checksum_through", tables.sums,
          tables.summed, guests=("checksum-long",), limits=ROOMY, hints=(
              Hint("cr3", "Return the address of the top table, the PML4: the CPU's walk begins there."),
              Hint("large", "No digits at all: a page fault that nobody handles. Are present, writable and PS (0x83) "
                   "in every entry, and does entry n map n × 2 MiB?"),
              Hint("step", "The guest ran and read other memory than you meant: entry n maps n × 2 MiB, index << 21."),
          )),
    Check("02.7", "from protected to 64-bit mode", 1, "enter_long", "long", modes.to_long, modes.is_long,
          guests=("long-hello",), hints=(
              Hint("cs-l", "CS decides: L=1 makes it 64-bit code. Long mode with L=0 is compatibility mode."),
              Hint("pae", "Long mode's page tables have 8-byte entries, those of PAE: set CR4 bit 5."),
              Hint("lme", "EFER bit 8, LME, asks for long mode; bit 10, LMA, says that it is on. You set both."),
              Hint("lma", "A guest gets LMA from the CPU as it sets CR0.PG. You are the CPU here: set EFER bit 10 "
                   "yourself."),
              Hint("pg", "Use |= on CR0: PG is bit 31, and PE, bit 0, has to stay."),
              Hint("l-and-d", "L=1 wants DB=0: both ones are reserved for a mode that never came."),
              Hint("cr3", "CR3 is the argument `cr3`."),
              Hint("selector", "The 64-bit code segment is the GDT's third: selector 0x18."),
          )),
    Check("02.8", "a name for every state", 1, "mode_name", "names", modes.states, modes.right_names, hints=(
        Hint("order", "Ask in this order: CR0.PE, then EFER.LMA, then CS.L."),
        Hint("lma", "LME only asks for long mode. Whether it is on, LMA says: EFER bit 10."),
        Hint("compatibility", "In long mode CS.L decides: 0 is compatibility mode, 16 or 32-bit code under 64-bit "
             "paging."),
        Hint("paging", "Paging alone is not long mode: 32-bit systems page too. EFER.LMA tells."),
    )),
    Check("02.8b", "named on the way up", 1, "mode_name", "watch_walk", modes.walk, modes.named_on_the_way,
          guests=("mode-walk",), hints=(
              Hint("order", "Ask in this order: CR0.PE, then EFER.LMA, then CS.L."),
              Hint("compatibility", "Between paging and the far jump the guest is in compatibility mode: LMA=1, "
                   "CS.L=0."),
          )),
)  # fmt: skip

CPU_CHECKS = (
    Check("02.9", "a hypervisor that gives its name", 1, "announce", "announced", cpu.signatures, cpu.announces, hints=(
        Hint("registers", "Twelve bytes: EBX holds the first four, ECX the next, EDX the last, each little endian, "
             "padded with zeros.",
             when="KeyError|TypeError|struct"),
        Hint("order", "Leaf 0 spells its vendor EBX, EDX, ECX; leaf 0x40000000 goes EBX, ECX, EDX. Only one can be "
             "habit."),
        Hint("highest", "EAX of leaf 0x40000000 is the highest hypervisor leaf that there is: 0x40000001."),
        Hint("duplicate", "Leave the host's own entry for 0x40000000 out: KVM takes the first that matches."),
        Hint("others", "Copy the other entries as they are, subleaves included."),
    )),
    Check("02.10", "the guest's CPUID is what you say", 1, "set_cpuid", "cpuid", cpu.cpuids, cpu.read_back,
          guests=("cpuid-reader", "mode-walk"), hints=(
              Hint("nent", "`nent` says how many entries count; with 0 the guest's CPUID answers zeros.", when="E2BIG"),
              Hint("call", "One ioctl on the vCPU handle: ioctl(vcpu, KVM_SET_CPUID2, cpuid), where cpuid is what "
                   "ffi.new made, not the list.", when="KvmError|TypeError"),
              Hint("flags", "A leaf with subleaves needs its index and KVM_CPUID_FLAG_SIGNIFCANT_INDEX in flags: "
                   "pass whole entries."),
          )),
    Check("02.11", "reading a model-specific register", 1, "read_msr", "msr", cpu.reads, cpu.was_read,
          guests=("msr-reader",), hints=MSR_HINTS),
    Check("02.12", "writing a model-specific register", 1, "write_msr", "msr", cpu.writes, cpu.was_written,
          guests=("msr-reader",), hints=MSR_HINTS),
    Check("02.13", "one guest, three modes", 2, "run_in", "three_modes", cpu.three, cpu.spoke,
          guests=("real-hello", "protected-hello", "long-hello"), hints=(
              Hint("real", "Real mode: all six segment registers with selector 0, RIP 0x1000, and a stack below 64 "
                   "KiB."),
              Hint("protected", "Protected mode: the GDT into memory, enter_protected, then set_sregs. Is RSP set?"),
              Hint("long", "Long mode is protected mode and then enter_long over identity_map's tables.",
                   when="InvalidStateError"),
          )),
)  # fmt: skip

ENDLESS = Hint("endless", "Something never ends: look at your loops and what should stop them.", when="still running")

LAB = Lab(
    "02",
    "The CPU: modes",
    checks=tuple(
        replace(check, hints=(*check.hints, ENDLESS)) for check in (*SEGMENT_CHECKS, *MODE_CHECKS, *CPU_CHECKS)
    ),
)
