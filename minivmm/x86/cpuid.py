"""CPUID: reading and changing the leaves that a vCPU will report.

Functions take any sequence of objects or mappings with the fields of struct kvm_cpuid_entry2 (such as what
KVM_GET_SUPPORTED_CPUID filled in) and never change them; what they return is a list of `Leaf`. `vars(leaf)` is the
mapping that a cffi array of such structures is made from.

Source: SDM vol. 2, CPUID; APM vol. 3, "Obtaining Processor Information Via the CPUID Instruction"; KVM API,
KVM_GET_SUPPORTED_CPUID and "KVM CPUID bits". Feature names are those of Linux's /proc/cpuinfo.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

HYPERVISOR_BASE = 0x4000_0000
KVM_SIGNATURE = "KVMKVMKVM"
SIGNIFICANT_INDEX = 1  # KVM_CPUID_FLAG_SIGNIFCANT_INDEX: the leaf has subleaves, picked by ECX


class LeafLike(Protocol):
    """The fields of struct kvm_cpuid_entry2 that matter here."""

    function: int
    index: int
    flags: int
    eax: int
    ebx: int
    ecx: int
    edx: int


@dataclass
class Leaf:
    """One leaf: what CPUID answers for EAX=`function`, and ECX=`index` where the flags say that it matters."""

    function: int
    index: int = 0
    flags: int = 0
    eax: int = 0
    ebx: int = 0
    ecx: int = 0
    edx: int = 0

    def __str__(self) -> str:
        values = f"eax {self.eax:#010x} ebx {self.ebx:#010x} ecx {self.ecx:#010x} edx {self.edx:#010x}"
        return f"CPUID {self.function:#010x}.{self.index}: {values}"


Entries = Iterable[LeafLike | Mapping[str, int]]

# Bit n is the n-th word, eight words a line; "-" is a bit without a name.
_FEATURES: dict[tuple[int, str], str] = {
    (1, "edx"): """
        fpu vme de pse tsc msr pae mce
        cx8 apic - sep mtrr pge mca cmov
        pat pse36 pn clflush - dts acpi mmx
        fxsr sse sse2 ss ht tm ia64 pbe""",
    (1, "ecx"): """
        pni pclmulqdq dtes64 monitor ds_cpl vmx smx est
        tm2 ssse3 cid sdbg fma cx16 xtpr pdcm
        - pcid dca sse4_1 sse4_2 x2apic movbe popcnt
        tsc_deadline_timer aes xsave osxsave avx f16c rdrand hypervisor""",
    (7, "ebx"): """
        fsgsbase tsc_adjust sgx bmi1 hle avx2 fdp_excptn_only smep
        bmi2 erms invpcid rtm cqm zero_fcs_fds mpx rdt_a
        avx512f avx512dq rdseed adx smap avx512ifma - clflushopt
        clwb intel_pt avx512pf avx512er avx512cd sha_ni avx512bw avx512vl""",
    (7, "ecx"): """
        prefetchwt1 avx512vbmi umip pku ospke waitpkg avx512_vbmi2 shstk
        gfni vaes vpclmulqdq avx512_vnni avx512_bitalg tme avx512_vpopcntdq -
        la57 - - - - - rdpid key_locker
        bus_lock_detect cldemote - movdiri movdir64b enqcmd sgx_lc pks""",
    (7, "edx"): """
        - sgx_keys avx512_4vnniw avx512_4fmaps fsrm uintr - -
        avx512_vp2intersect srbds_ctrl md_clear rtm_always_abort - tsx_force_abort serialize hybrid_cpu
        tsxldtrk - pconfig arch_lbr ibt - amx_bf16 avx512_fp16
        amx_tile amx_int8 spec_ctrl intel_stibp flush_l1d arch_capabilities core_capabilities spec_ctrl_ssbd""",
    (HYPERVISOR_BASE + 1, "eax"): """
        kvmclock nop_io_delay mmu_op kvmclock2 async_pf steal_time pv_eoi pv_unhalt
        - pv_tlb_flush async_pf_vmexit pv_send_ipi poll_control pv_sched_yield async_pf_int msi_ext_dest_id
        hc_map_gpa_range migration_control - - - - - -
        kvmclock_stable - - - - - - -""",
    (0x8000_0001, "edx"): """
        - - - - - - - -
        - - - syscall - - - -
        - - - mp nx - mmxext -
        - fxsr_opt pdpe1gb rdtscp - lm 3dnowext 3dnow""",
    (0x8000_0001, "ecx"): """
        lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse
        3dnowprefetch osvw ibs xop skinit wdt - lwp
        fma4 tce - nodeid_msr - tbm topoext perfctr_core
        perfctr_nb - bpext ptsc perfctr_llc mwaitx - -""",
}
FEATURES = {place: text.split() for place, text in _FEATURES.items()}


def leaves(entries: Entries) -> list[Leaf]:
    """A copy of the entries in plain Python."""
    fields = ("function", "index", "flags", "eax", "ebx", "ecx", "edx")
    return [
        Leaf(*(int(entry[name] if isinstance(entry, Mapping) else getattr(entry, name)) for name in fields))
        for entry in entries
    ]


def find(entries: Entries, function: int, index: int = 0) -> Leaf | None:
    """The leaf that answers EAX=`function`, ECX=`index`, or None where there is none."""
    for leaf in leaves(entries):
        if leaf.function == function and (not leaf.flags & SIGNIFICANT_INDEX or leaf.index == index):
            return leaf
    return None


def with_leaf(entries: Entries, leaf: Leaf) -> list[Leaf]:
    """A copy of `entries` in which `leaf` stands in place of the one with its function and index, or at the end."""
    copied = leaves(entries)
    for position, entry in enumerate(copied):
        same_index = entry.index == leaf.index or not entry.flags & SIGNIFICANT_INDEX
        if entry.function == leaf.function and same_index:
            copied[position] = leaf
            return copied
    return [*copied, leaf]


def vendor(entries: Entries) -> str:
    """The vendor string of leaf 0, such as "GenuineIntel"; empty where there is no leaf 0."""
    leaf = find(entries, 0)
    return _text(leaf.ebx, leaf.edx, leaf.ecx) if leaf else ""


def vendor_leaf(name: str, highest: int) -> Leaf:
    """Leaf 0 with a vendor string of at most 12 ASCII characters. Raises ValueError for a longer one."""
    ebx, edx, ecx = _registers(name, 3)
    return Leaf(0, eax=highest, ebx=ebx, ecx=ecx, edx=edx)


def brand(entries: Entries) -> str:
    """The processor's name as leaves 0x80000002 … 4 spell it; empty where they are missing."""
    entries = leaves(entries)
    parts = [find(entries, 0x8000_0002 + n) for n in range(3)]
    return "".join(_text(leaf.eax, leaf.ebx, leaf.ecx, leaf.edx) for leaf in parts if leaf).strip()


def brand_leaves(name: str) -> list[Leaf]:
    """The three leaves that spell a brand string of at most 48 ASCII characters. Raises ValueError for a longer one."""
    words = _registers(name, 12)
    return [Leaf(0x8000_0002 + n, 0, 0, *words[4 * n : 4 * n + 4]) for n in range(3)]


def hypervisor(entries: Entries) -> str | None:
    """The hypervisor's signature at leaf 0x40000000, such as "KVMKVMKVM"; None where no hypervisor shows itself."""
    leaf = find(entries, HYPERVISOR_BASE)
    return _text(leaf.ebx, leaf.ecx, leaf.edx) if leaf else None


def hypervisor_leaf(signature: str = KVM_SIGNATURE, highest: int = HYPERVISOR_BASE + 1) -> Leaf:
    """Leaf 0x40000000 with a signature of at most 12 ASCII characters. Raises ValueError for a longer one.

    A guest looks here only if leaf 1 has the hypervisor bit (ECX bit 31) set. Note that the order of the registers is
    EBX, ECX, EDX, unlike that of leaf 0.
    """
    ebx, ecx, edx = _registers(signature, 3)
    return Leaf(HYPERVISOR_BASE, eax=highest, ebx=ebx, ecx=ecx, edx=edx)


def features(entries: Entries) -> list[str]:
    """The names of the features that leaves 1, 7, 0x40000001 and 0x80000001 announce, in the order of their bits."""
    entries = leaves(entries)
    is_kvm = hypervisor(entries) == KVM_SIGNATURE
    found = []
    for (function, register), names in FEATURES.items():
        # The leaves above 0x40000000 belong to the hypervisor that signs them: another one's bits mean other things.
        leaf = find(entries, function) if is_kvm or function != HYPERVISOR_BASE + 1 else None
        value = getattr(leaf, register) if leaf else 0
        found += [name for bit, name in enumerate(names) if value >> bit & 1 and name != "-"]
    return found


def feature_bit(name: str) -> tuple[int, str, int]:
    """Where a feature is announced: (function, register, bit). Raises KeyError for a name that is not known."""
    for (function, register), names in FEATURES.items():
        if name in names and name != "-":
            return function, register, names.index(name)
    raise KeyError(f"no CPUID feature is called {name!r} here")


def physical_bits(entries: Entries) -> int:
    """MAXPHYADDR, the width of a physical address in bits: leaf 0x80000008, or 36 where there is none."""
    leaf = find(entries, 0x8000_0008)
    return leaf.eax & 0xFF if leaf else 36


def _text(*registers: int) -> str:
    data = b"".join(register.to_bytes(4, "little") for register in registers)
    return data.rstrip(b"\0").decode("ascii", "replace")


def _registers(text: str, count: int) -> list[int]:
    data = text.encode("ascii", "replace")
    if len(data) > 4 * count:
        raise ValueError(f"{text!r} has {len(data)} characters, but {4 * count} fit into {count} registers")
    data = data.ljust(4 * count, b"\0")
    return [int.from_bytes(data[n : n + 4], "little") for n in range(0, len(data), 4)]
