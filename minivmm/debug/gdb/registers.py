"""A vCPU's registers as gdb reads and writes them: little-endian bytes, in the order of a target description."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from minivmm.debug.gdb.features import SELECTORS, Description
from minivmm.debug.gdb.model import Cpu
from minivmm.debug.view import View
from minivmm.kvm.errors import KvmError
from minivmm.x86.bits import CR0_PE, EFER_LMA, RFLAGS_VM
from minivmm.x86.gdt import read_descriptor
from minivmm.x86.state import MemoryLike

ALIASES = {"eip": "rip", "eflags": "rflags"} | {f"e{name}": f"r{name}" for name in ("ax", "bx", "cx", "dx")}
ALIASES |= {f"e{name}": f"r{name}" for name in ("si", "di", "bp", "sp")}
FPU_FIELDS = {"fctrl": "fcw", "fstat": "fsw", "fop": "last_opcode", "mxcsr": "mxcsr"}
EMPTY, VALID = 3, 0  # a tag of the x87 tag word (SDM vol. 1, "x87 FPU Tag Word")


class RegisterError(ValueError):
    """A register that can't be written as asked; the text says why."""


class Registers:
    """The registers of one stopped vCPU.

    Each structure is fetched from KVM once, when it is needed; `flush` writes back those that have been changed.
    """

    def __init__(self, cpu: Cpu, memory: MemoryLike) -> None:
        self._cpu = cpu
        self._memory = memory
        self._changed: set[str] = set()

    @cached_property
    def regs(self) -> Any:
        return self._cpu.get_regs()

    @cached_property
    def sregs(self) -> Any:
        return self._cpu.get_sregs()

    @cached_property
    def fpu(self) -> Any:
        """None where this KVM doesn't tell."""
        try:
            return self._cpu.get_fpu()
        except KvmError:
            return None

    def flush(self) -> None:
        """Raises ValueError (InvalidStateError) or KvmError where the new values break a rule."""
        changed, self._changed = self._changed, set()
        for name in sorted(changed):
            getattr(self._cpu, f"set_{name}")(getattr(self, name))

    # ---- one register ----

    def read(self, name: str, size: int) -> bytes | None:
        """The register's bytes; None where they can't be known."""
        value = self._value(name)
        if value is None:
            return None
        return (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    def write(self, name: str, data: bytes) -> None:
        """Changes the copy. Raises RegisterError."""
        value = int.from_bytes(data, "little")
        if value == int.from_bytes(self.read(name, len(data)) or b"", "little"):
            return  # gdb writes all registers back to change one
        general = ALIASES.get(name, name)
        if general.startswith("r"):
            setattr(self.regs, general, value)
            self._changed.add("regs")
        elif name in SELECTORS:
            self._load_segment(name, value)
            self._changed.add("sregs")
        elif "_" in name or name.startswith(("cr", "efer")):
            self._write_system(name, value)
            self._changed.add("sregs")
        else:
            self._write_fpu(name, data)
            self._changed.add("fpu")

    def _value(self, name: str) -> int | None:
        general = ALIASES.get(name, name)
        if general.startswith("r"):
            return int(getattr(self.regs, general))
        if name in SELECTORS:
            return int(getattr(self.sregs, name).selector)
        if "_" in name or name.startswith(("cr", "efer")):
            holder, field = self._system(name)
            return int(getattr(holder, field))
        return self._fpu_value(name) if self.fpu is not None else None

    # ---- system registers ----

    def _system(self, name: str) -> tuple[Any, str]:
        """The structure and the field that hold a system register."""
        if "_" not in name:
            return self.sregs, name
        which, field = name.split("_")
        return getattr(self.sregs, {"gdtr": "gdt", "idtr": "idt"}.get(which, which)), field

    def _write_system(self, name: str, value: int) -> None:
        holder, field = self._system(name)
        try:
            setattr(holder, field, value)
        except OverflowError:
            raise RegisterError(f"{value:#x} does not fit into {name}") from None

    def _load_segment(self, name: str, selector: int) -> None:
        """Loads a segment register, hidden part and all, as a MOV would (SDM vol. 3, "Segment Registers")."""
        segment = getattr(self.sregs, name)
        if selector > 0xFFFF:
            raise RegisterError(f"{selector:#x} is not a selector: those have 16 bits")
        if not self.sregs.cr0 & CR0_PE or self.regs.rflags & RFLAGS_VM:
            segment.selector, segment.base = selector, selector << 4
            return
        is_long = bool(self.sregs.efer & EFER_LMA)
        table, view = self.sregs.gdt, View(self._memory, self.sregs)  # GDTR holds a linear address
        read_descriptor(view, table.base, table.limit, selector, long=is_long).fill(segment, selector)

    # ---- the FPU ----

    def _fpu_value(self, name: str) -> int:
        fpu = self.fpu
        if name in FPU_FIELDS:
            return int(getattr(fpu, FPU_FIELDS[name]))
        if name.startswith("st"):
            return int.from_bytes(bytes(fpu.fpr[int(name[2:])])[:10], "little")
        if name.startswith("xmm"):
            return int.from_bytes(bytes(fpu.xmm[int(name[3:])]), "little")
        words = {"fiseg": fpu.last_ip >> 32, "fioff": fpu.last_ip, "foseg": fpu.last_dp >> 32, "fooff": fpu.last_dp}
        return int(words[name]) & 0xFFFF_FFFF if name in words else self._tag_word()

    def _tag_word(self) -> int:
        # KVM has FXSAVE's short form, a bit a register; what kind of number it is, gdb works out by itself.
        return sum((VALID if self.fpu.ftwx >> n & 1 else EMPTY) << 2 * n for n in range(8))

    def _write_fpu(self, name: str, data: bytes) -> None:
        fpu = self.fpu
        if fpu is None:
            raise RegisterError(f"this KVM does not let us set {name}")
        if name in FPU_FIELDS:
            width = 4 if name == "mxcsr" else 2
            setattr(fpu, FPU_FIELDS[name], int.from_bytes(data[:width], "little"))
        elif name.startswith("st"):
            fpu.fpr[int(name[2:])] = list(data[:10]) + [0] * 6
        elif name.startswith("xmm"):
            fpu.xmm[int(name[3:])] = list(data[:16])
        elif name == "ftag":
            tags = int.from_bytes(data, "little")
            fpu.ftwx = sum(1 << n for n in range(8) if tags >> 2 * n & 3 != EMPTY)
        else:
            raise RegisterError(f"{name} tells where the last FPU instruction was: it can't be set")


def read_all(registers: Registers, description: Description) -> str:
    """The answer to `g`: every register in hex, x where it is unknown."""
    return "".join(shown(registers.read(one.name, one.size), one.size) for one in description.registers)


def write_all(registers: Registers, description: Description, data: bytes) -> None:
    """What `G` asks for. Raises RegisterError; nothing has reached the vCPU then."""
    if len(data) < sum(one.size for one in description.registers):
        raise RegisterError("that is not all of the registers")
    at = 0
    for one in description.registers:
        registers.write(one.name, data[at : at + one.size])
        at += one.size


def shown(value: bytes | None, size: int) -> str:
    return "xx" * size if value is None else value.hex()
