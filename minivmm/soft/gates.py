"""The gate of an event in the IDT, checked. Source: SDM vol. 3, "IDT Descriptors", "Flag Usage By Exception- or
Interrupt-Handler Procedure"; the error codes: "Error Code"."""

from __future__ import annotations

from dataclasses import dataclass

from minivmm.soft.descriptors import Descriptor, read_descriptor
from minivmm.soft.event import Event
from minivmm.soft.processor import NOT_PRESENT, PROTECTION, GuestFault, Processor
from minivmm.x86.bits import RFLAGS_IF, RFLAGS_NT, RFLAGS_RF, RFLAGS_TF, RFLAGS_VM

TASK_GATE, INTERRUPT_16, TRAP_16, INTERRUPT_32, TRAP_32 = 5, 6, 7, 14, 15


@dataclass(frozen=True)
class Gate:
    """Where an event goes: `kind` is the gate's type, `ist` the stack that it asks for in long mode (0 for none)."""

    kind: int
    selector: int
    offset: int
    ist: int
    code: Descriptor
    external: int  # the EXT bit of error codes on the way

    @property
    def cleared(self) -> int:
        """The flags that are off in the handler: IF, too, unless it is a trap gate."""
        always = RFLAGS_TF | RFLAGS_NT | RFLAGS_RF | RFLAGS_VM
        return always if self.kind & 1 else always | RFLAGS_IF

    @property
    def code_error(self) -> int:
        return self.selector & ~3 | self.external


def read_gate(cpu: Processor, event: Event) -> Gate:
    """The gate of `event` and the code segment behind it. Raises GuestFault as the processor would."""
    env, long = cpu.env, cpu.long
    size = 16 if long else 8
    external = 0 if event.soft else 1
    error = event.vector * 8 + 2 + external
    if event.vector * size + size - 1 > env.idt.limit:
        raise GuestFault(PROTECTION, error)
    raw = cpu.read_int(env.idt.base + event.vector * size, size)
    low, high, top = raw & 0xFFFFFFFF, raw >> 32 & 0xFFFFFFFF, raw >> 64 & 0xFFFFFFFF
    kind = high >> 8 & 0x1F
    allowed = (INTERRUPT_32, TRAP_32) if long else (TASK_GATE, INTERRUPT_16, TRAP_16, INTERRUPT_32, TRAP_32)
    if kind not in allowed or (event.soft and high >> 13 & 3 < cpu.cpl):
        raise GuestFault(PROTECTION, error)
    if not high >> 15 & 1:
        raise GuestFault(NOT_PRESENT, error)
    selector = low >> 16
    offset = low & 0xFFFF | high & 0xFFFF0000 | top << 32
    if kind in (INTERRUPT_16, TRAP_16):
        offset &= 0xFFFF
    if kind == TASK_GATE:
        return Gate(kind, selector, 0, 0, Descriptor(0, 0), external)
    return Gate(kind, selector, offset, high & 7 if long else 0, _code(cpu, selector, external), external)


def _code(cpu: Processor, selector: int, external: int) -> Descriptor:
    code = read_descriptor(cpu, selector, external=external)
    error = selector & ~3 | external
    if not code.is_code or code.dpl > cpu.cpl:
        raise GuestFault(PROTECTION, error)
    if not code.present:
        raise GuestFault(NOT_PRESENT, error)
    if cpu.long and (not code.high & 1 << 21 or code.high & 1 << 22):
        raise GuestFault(PROTECTION, error)  # an IDT of long mode leads to 64-bit code only
    return code
