"""A processor: the engine's CPU, with what the engine leaves out.

Below it is the engine, which runs code; above it, the vCPU, which speaks the KVM API. In between, here: linear memory
as the processor itself reads it, and the words that event delivery and the emulated instructions share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minivmm.soft import state
from minivmm.soft.binding import ffi, lib
from minivmm.soft.engine import FETCH, READ, RFLAGS, RIP, WRITE, Engine, Stop
from minivmm.soft.event import Event
from minivmm.soft.memory import GuestSlots
from minivmm.x86.bits import CR0_PE, EFER_LMA, RFLAGS_VM

if TYPE_CHECKING:
    from minivmm.soft.memory_operands import Instruction

PAGE = 4096

DIVIDE, DEBUG, NMI, BREAKPOINT, OVERFLOW, BOUND, UNDEFINED, NO_FPU, DOUBLE_FAULT = range(9)
INVALID_TSS, NOT_PRESENT, STACK, PROTECTION, PAGE_FAULT = 10, 11, 12, 13, 14
MASK64 = (1 << 64) - 1
DR6_BS = 1 << 14  # a single step was what trapped


class GuestFault(Exception):
    """An exception for the guest: its vector, its error code (None where it has none), and CR2 for a page fault."""

    def __init__(self, vector: int, error: int | None = None, cr2: int | None = None) -> None:
        self.vector, self.error, self.cr2 = vector, error, cr2
        super().__init__(f"exception {vector}")

    @property
    def event(self) -> Event:
        """What is to be delivered for it."""
        return Event(self.vector, self.error, cr2=self.cr2)


class Processor:
    """One processor. `env` is its state between `look` and `put`; the plain registers have their own short ways."""

    def __init__(self, engine: Engine, memory: GuestSlots) -> None:
        self.engine = engine
        self.env = engine.env
        self.cpu = engine.cpu
        self.memory = memory
        self.dr = [0, 0, 0, 0, 0, 0, 0xFFFF0FF0, 0x400]  # debug registers; the engine's own stay at rest
        self._gpa = ffi.new("uint64_t *")
        self.limited = False  # segment limits are checked at each instruction (segment_limits.py)

    # ---- state ----

    def look(self) -> Any:
        """The whole state, to read or change."""
        self.engine.look()
        return self.env

    def put(self) -> None:
        """Takes the changed state back, hflags and translation mode included."""
        state.refresh(self.env)
        cpu, env = self.cpu, self.env
        if (cpu.cr0, cpu.cr4, cpu.efer) != (env.cr0, env.cr4, env.efer):
            cpu.cr0, cpu.cr4, cpu.efer = env.cr0, env.cr4, env.efer
            lib.soft_flush_tlb(cpu)
        lib.soft_put(cpu)
        self.notice_segments()

    def notice_segments(self) -> None:
        """Finds out whether segments have limits that matter; `env` must be up to date."""
        checked = self.protected and not self.long and not self.env.rflags & RFLAGS_VM
        self.limited = checked and not state.is_flat(self.env)

    @property
    def flags(self) -> int:
        return self.engine.get(RFLAGS)

    @property
    def rip(self) -> int:
        return self.engine.get(RIP)

    @rip.setter
    def rip(self, value: int) -> None:
        self.engine.set(RIP, value)

    @property
    def cpl(self) -> int:
        """The current privilege level; `env` must be up to date."""
        return int(self.env.hflags & 3)

    @property
    def long(self) -> bool:
        return bool(self.cpu.efer & EFER_LMA)

    @property
    def protected(self) -> bool:
        return bool(self.cpu.cr0 & CR0_PE)

    @property
    def bits(self) -> int:
        """How wide the current code segment is: 16, 32 or 64; `env` must be up to date."""
        flags = self.env.hflags
        return 64 if flags & state.HF_CS64 else 32 if flags & state.HF_CS32 else 16

    @property
    def in_shadow(self) -> bool:
        """Whether STI or MOV SS holds off interrupts for one instruction; `env` must be up to date."""
        return bool(self.env.hflags & state.HF_SHADOW)

    # ---- linear memory ----

    def translate(self, address: int, access: int = READ, *, user: bool = False) -> int:
        """The GPA of a linear address. Raises GuestFault as the access itself would."""
        failed = lib.soft_translate(self.cpu, address & MASK64, access, user, self._gpa)
        if failed == Stop.PAGE_FAULT:
            raise GuestFault(PAGE_FAULT, self.cpu.fault_code, address & (MASK64 if self.long else 0xFFFFFFFF))
        if failed:
            raise GuestFault(PROTECTION, 0)
        return int(self._gpa[0])

    def _pieces(self, address: int, size: int, access: int, user: bool) -> list[tuple[int, int]]:
        pieces = []
        while size:
            piece = min(size, PAGE - address % PAGE)
            pieces.append((self.translate(address, access, user=user), piece))
            address += piece
            size -= piece
        return pieces

    def read(self, address: int, size: int, *, user: bool = False, access: int = READ) -> bytes:
        """Bytes at a linear address; what lies outside memory reads as ones."""
        pieces = self._pieces(address, size, access, user)
        return b"".join(self.memory.read(gpa, length) for gpa, length in pieces)

    def read_int(self, address: int, size: int) -> int:
        """A number at a linear address, read with the processor's own rights."""
        return int.from_bytes(self.read(address, size), "little")

    def write(self, address: int, data: bytes, *, user: bool = False) -> None:
        """Writes at a linear address: all of it, or a GuestFault and nothing."""
        at = 0
        for gpa, length in self._pieces(address, len(data), WRITE, user):
            self.memory.write(gpa, data[at : at + length])
            lib.soft_written(self.cpu, gpa, length)
            at += length

    def fetch(self, size: int = 15) -> bytes:
        """The bytes of code at CS:RIP, as many of them as can be had; `env` must be up to date."""
        address, code = self.env.cs.base + self.env.rip, b""
        try:
            while len(code) < size:
                piece = min(size - len(code), PAGE - (address + len(code)) % PAGE)
                code += self.read(address + len(code), piece, user=self.cpl == 3, access=FETCH)
        except GuestFault:
            pass
        return code

    def decode(self, code: bytes) -> Instruction:
        """What the instruction that `code` begins with touches in memory; `env` must be up to date."""
        from minivmm.soft.memory_operands import decode  # only now: few guests need it, and it takes 3 MiB

        return decode(code, self.bits)

    # ---- the end of an emulated instruction ----

    def retire(self, length: int) -> None:
        """Goes on behind an instruction of `length` bytes that was emulated.

        Raises GuestFault(DEBUG) where the guest is single-stepping itself: the trap comes after the instruction.
        """
        if lib.soft_retire(self.cpu, length):
            raise self.single_step_trap()

    def single_step_trap(self) -> GuestFault:
        """What a guest that steps itself gets behind an instruction."""
        self.dr[6] |= DR6_BS
        return GuestFault(DEBUG)

    @property
    def virtual_8086(self) -> bool:
        return self.protected and not self.long and bool(self.env.rflags & RFLAGS_VM)
