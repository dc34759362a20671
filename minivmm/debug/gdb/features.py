"""Which registers gdb sees, in which order and width: the target description.

gdb knows three x86 architectures, and takes the one that the vCPU is in when it attaches. When the guest changes its
mode later (a boot loader that climbs to long mode) gdb's picture no longer fits; `disconnect` and `target remote` give
it the new one.

Source: the GDB manual, appendix G "Target Descriptions", sections "Standard Target Features", "i386 Features".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

GENERAL_64 = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)), "rip")
GENERAL_32 = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip")
SELECTORS = ("cs", "ss", "ds", "es", "fs", "gs")
FPU_CONTROL = ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")
BASES = ("fs_base", "gs_base")
# What only the ring 0 of a machine has. gdb has no standard feature for these, and shows them all the same.
SYSTEM = ("cr0", "cr2", "cr3", "cr4", "cr8", "efer", "gdtr_base", "gdtr_limit", "idtr_base", "idtr_limit")
SEGMENT_BASES = ("cs_base", "ss_base", "ds_base", "es_base")
POINTERS = {"rip": "code_ptr", "eip": "code_ptr", "rsp": "data_ptr", "rbp": "data_ptr", "esp": "data_ptr"}


@dataclass(frozen=True)
class Register:
    """One register as gdb sees it: `bits` wide, of gdb's type `type`, in the feature `feature`."""

    name: str
    bits: int
    type: str
    feature: str

    @property
    def size(self) -> int:
        """In bytes."""
        return self.bits // 8


@dataclass(frozen=True)
class Description:
    """A target description. The index of a register in `registers` is its number in the protocol."""

    architecture: str
    registers: tuple[Register, ...]

    @property
    def xml(self) -> str:
        """The document that gdb asks for with qXfer:features:read:target.xml."""
        features: dict[str, list[str]] = {}
        for one in self.registers:
            line = f'<reg name="{one.name}" bitsize="{one.bits}" type="{one.type}"{_group(one)}/>'
            features.setdefault(one.feature, []).append(line)
        return "\n".join(
            [
                '<?xml version="1.0"?>',
                '<!DOCTYPE target SYSTEM "gdb-target.dtd">',
                "<target>",
                f"<architecture>{self.architecture}</architecture>",
                "<osabi>none</osabi>",  # else gdb looks for the system calls of its own host
                *(
                    f'<feature name="{name}">\n{_types(name)}{_lines(rows)}</feature>'
                    for name, rows in features.items()
                ),
                "</target>",
            ]
        )


@cache
def description(bits: int) -> Description:
    """For code of 16, 32 or 64 bits."""
    if bits == 64:
        return Description("i386:x86-64", (*_core(GENERAL_64, 64), *_sse(16), *_segments(), *_system(64)))
    architecture = "i386" if bits == 32 else "i8086"
    return Description(architecture, (*_core(GENERAL_32, 32), *_sse(8), *_system(32)))


def _core(general: tuple[str, ...], width: int) -> list[Register]:
    feature = "org.gnu.gdb.i386.core"
    return [
        *(Register(name, width, POINTERS.get(name, f"int{width}"), feature) for name in general),
        Register("eflags", 32, "i386_eflags", feature),
        *(Register(name, 32, "int32", feature) for name in SELECTORS),
        *(Register(f"st{n}", 80, "i387_ext", feature) for n in range(8)),
        *(Register(name, 32, "int", feature) for name in FPU_CONTROL),
    ]


def _sse(count: int) -> list[Register]:
    feature = "org.gnu.gdb.i386.sse"
    return [
        *(Register(f"xmm{n}", 128, "uint128", feature) for n in range(count)),
        Register("mxcsr", 32, "int", feature),
    ]


def _segments() -> list[Register]:
    return [Register(name, 64, "int", "org.gnu.gdb.i386.segments") for name in BASES]


def _system(bits: int) -> list[Register]:
    names = (*SYSTEM, *SEGMENT_BASES, *(() if bits == 64 else BASES))
    return [Register(name, 64, "uint64", "org.minivmm.system") for name in names]


def _group(register: Register) -> str:
    if register.feature == "org.minivmm.system":
        return ' group="system"'
    return ' group="float"' if register.name in FPU_CONTROL else ""


def _types(feature: str) -> str:
    """What gdb needs to print RFLAGS in letters: bit 1 is always set and has no name."""
    if feature != "org.gnu.gdb.i386.core":
        return ""
    flags = {"CF": 0, "": 1, "PF": 2, "AF": 4, "ZF": 6, "SF": 7, "TF": 8, "IF": 9, "DF": 10, "OF": 11}
    flags |= {"NT": 14, "RF": 16, "VM": 17, "AC": 18, "VIF": 19, "VIP": 20, "ID": 21}
    fields = _lines([f'<field name="{name}" start="{bit}" end="{bit}"/>' for name, bit in flags.items()])
    return f'<flags id="i386_eflags" size="4">\n{fields}</flags>\n'


def _lines(rows: list[str]) -> str:
    return "".join(f"{row}\n" for row in rows)
