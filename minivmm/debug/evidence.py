"""What is left when a guest has died: registers, code, the exception KVM remembers, the exits that led there.

Source: KVM API 4.31 KVM_GET_VCPU_EVENTS; APM vol. 2, "Shutdown" (after it the saved guest state is undefined on AMD,
so KVM resets the vCPU).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from minivmm.debug.view import Reach, View
from minivmm.exits import Exit, InternalError, Shutdown
from minivmm.kvm import host
from minivmm.vcpu import Vcpu
from minivmm.x86 import bits, modes
from minivmm.x86.disassembly import MAX_INSTRUCTION, Instruction, instructions
from minivmm.x86.state import MemoryLike, reset_state

SHOWN = 6  # instructions
T = TypeVar("T")


def attempt(function: Callable[[], T], default: T) -> T:
    """What `function` returns, or `default` where it raises: an explanation with a gap beats a traceback."""
    try:
        return function()
    except Exception:
        return default


@dataclass(frozen=True)
class Evidence:
    """All that is known about one failure. `regs` and `sregs` are the vCPU's structures, copied.

    `vector` and `error_code` are of the last exception that KVM itself delivered, None where it remembers none: a
    processor with VT-x or AMD-V delivers most of them without KVM. `interpreted` says that this host's KVM runs ring 0
    in its emulator (kvm_pvm).
    """

    exit: Exit
    history: tuple[Exit, ...]
    memory: MemoryLike
    regs: Any
    sregs: Any
    vector: int | None = None
    error_code: int | None = None
    interpreted: bool = False

    @property
    def view(self) -> View:
        return View(self.memory, self.sregs, self.regs.rflags)

    @property
    def linear_rip(self) -> int:
        return modes.linear_address(self.sregs, "cs", self.regs.rip)

    @property
    def bits(self) -> int:
        """How the next instruction is decoded: 16, 32 or 64."""
        return modes.code_bits(self.sregs, self.regs)

    @property
    def ring(self) -> int:
        if not self.sregs.cr0 & bits.CR0_PE:
            return 0
        return 3 if self.regs.rflags & bits.RFLAGS_VM else int(self.sregs.ss.dpl)

    @property
    def user(self) -> bool:
        return self.ring == 3

    @property
    def was_reset(self) -> bool:
        """Whether KVM put the vCPU back to its reset state after the triple fault, as it does on AMD."""
        regs, sregs = reset_state()
        return (
            isinstance(self.exit, Shutdown)
            and self.regs.rip == regs.rip
            and self.sregs.cs.base == sregs.cs.base
            and not self.sregs.cr0 & bits.CR0_PE
        )

    def fetch(self) -> Reach:
        """Where RIP leads."""
        return self.view.reach(self.linear_rip, fetch=True, user=self.user)

    def code(self, size: int = SHOWN * MAX_INSTRUCTION) -> bytes:
        """The bytes at RIP, as many as can be fetched."""
        return self.view.read_some(self.linear_rip, size, fetch=True, user=self.user)

    def instruction_bytes(self) -> bytes:
        """The bytes at RIP, or where they can't be fetched, those that KVM handed out."""
        return self.code(MAX_INSTRUCTION) or kvm_bytes(self.exit)

    def listing(self, count: int = SHOWN) -> list[Instruction]:
        """The instruction at RIP and those behind it; empty where nothing can be fetched."""
        return instructions(self.code(), self.regs.rip, self.bits, count)

    def instruction(self) -> Instruction | None:
        """The instruction that failed."""
        return next(iter(instructions(self.instruction_bytes(), self.regs.rip, self.bits, 1)), None)


def kvm_bytes(exit: Exit) -> bytes:
    """The bytes of the instruction that KVM's emulator gave up at, if it says."""
    return exit.instruction if isinstance(exit, InternalError) else b""


def gather(vcpu: Vcpu, memory: MemoryLike, exit: Exit, history: Iterable[Exit]) -> Evidence | None:
    """Collects the evidence; None where the registers can't be read any more (the vCPU is closed)."""
    regs = attempt(vcpu.get_regs, None)
    sregs = attempt(vcpu.get_sregs, None)
    if regs is None or sregs is None:
        return None
    nothing: tuple[int | None, int | None] = (None, None)
    vector, error_code = attempt(lambda: _exception(vcpu), nothing)
    interpreted = attempt(lambda: host.look().is_pvm, False)
    return Evidence(exit, tuple(history), memory, regs, sregs, vector, error_code, interpreted)


def _exception(vcpu: Vcpu) -> tuple[int | None, int | None]:
    exception = vcpu.get_events().exception
    # A vector of 0 without any flag is a field that was never written, not a #DE.
    if not (exception.nr or exception.injected or exception.pending):
        return None, None
    return int(exception.nr), int(exception.error_code) if exception.has_error_code else None
