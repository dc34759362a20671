"""What x86 is, apart from any hypervisor: modes, segments, page tables, CPUID, MSRs, and all of it in words.

Nothing here talks to KVM. The functions take any object with the field names of the KVM API's structures: a cffi
pointer, or the dataclasses of `state.py`. Manual sections are cited by title, because Intel renumbers them.

The names below are imported on first use: the grader starts many short-lived interpreters, and most need few of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minivmm.x86.canonical import is_canonical, sign_extend
    from minivmm.x86.descriptors import Descriptor, DescriptorError
    from minivmm.x86.disassembly import disassemble, instructions
    from minivmm.x86.gates import Gate
    from minivmm.x86.gdt import Gdt, flat_gdt, read_descriptor
    from minivmm.x86.modes import code_bits, linear_address, long_mode, mode_of, paging_of, protected_mode, real_mode
    from minivmm.x86.paging import MappingError, PageTableBuilder, Walk, translate, walk
    from minivmm.x86.registers import state_text
    from minivmm.x86.rules import Rule, broken_rules, errors
    from minivmm.x86.state import Regs, Segment, Sregs, Table, reset_state

__all__ = [
    "Descriptor",
    "DescriptorError",
    "Gate",
    "Gdt",
    "MappingError",
    "PageTableBuilder",
    "Regs",
    "Rule",
    "Segment",
    "Sregs",
    "Table",
    "Walk",
    "broken_rules",
    "code_bits",
    "disassemble",
    "errors",
    "flat_gdt",
    "instructions",
    "is_canonical",
    "linear_address",
    "long_mode",
    "mode_of",
    "paging_of",
    "protected_mode",
    "read_descriptor",
    "real_mode",
    "reset_state",
    "sign_extend",
    "state_text",
    "translate",
    "walk",
]

_HOMES = {
    "canonical": ("is_canonical", "sign_extend"),
    "descriptors": ("Descriptor", "DescriptorError"),
    "disassembly": ("disassemble", "instructions"),
    "gates": ("Gate",),
    "gdt": ("Gdt", "flat_gdt", "read_descriptor"),
    "modes": ("code_bits", "linear_address", "long_mode", "mode_of", "paging_of", "protected_mode", "real_mode"),
    "paging": ("MappingError", "PageTableBuilder", "Walk", "translate", "walk"),
    "registers": ("state_text",),
    "rules": ("Rule", "broken_rules", "errors"),
    "state": ("Regs", "Segment", "Sregs", "Table", "reset_state"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
