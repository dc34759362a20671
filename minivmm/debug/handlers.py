"""The way of an exception to its handler: IDT, gate, code segment, stack. What is the first obstacle on it?

Source: SDM vol. 3, "Interrupt and Exception Handling", "64-Bit Mode IDT", "Interrupt Stack Table"; vol. 3,
"Real-Address Mode Operation" for the interrupt vector table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from minivmm.debug.evidence import Evidence
from minivmm.debug.vectors import WITH_ERROR_CODE, name_of
from minivmm.x86 import bits
from minivmm.x86.canonical import is_canonical
from minivmm.x86.descriptors import Descriptor, DescriptorError
from minivmm.x86.gates import Gate
from minivmm.x86.gdt import read_descriptor

IDT = 'SDM vol. 3, "Interrupt Descriptor Table (IDT)"'
GATE = 'SDM vol. 3, "IDT Descriptors"'
HANDLER = 'SDM vol. 3, "Exception- or Interrupt-Handler Procedures"'
STACK = 'SDM vol. 3, "64-Bit Mode Stack Frame"'
TSS = 'SDM vol. 3, "Task-State Segment (TSS)"'


class Obstacle(NamedTuple):
    """What stands in the way, as a clause; what to do; where the rule stands."""

    sentence: str
    remedy: str
    source: str


def obstacle(evidence: Evidence, vector: int) -> Obstacle | None:
    """The first thing that keeps the processor from calling the handler of `vector`; None where the way is free."""
    protected = bool(evidence.sregs.cr0 & bits.CR0_PE)
    return next(_protected(evidence, vector) if protected else _real(evidence, vector), None)


def _real(evidence: Evidence, vector: int) -> Iterator[Obstacle]:
    limit = evidence.sregs.idt.limit
    if 4 * vector + 3 > limit:
        yield Obstacle(
            f"the interrupt vector table ends at offset {limit:#x}, before the entry of {name_of(vector)}",
            "In real mode leave the table at address 0 with limit 0x3ff.",
            'SDM vol. 3, "Interrupt and Exception Handling" in real-address mode',
        )


def _protected(evidence: Evidence, vector: int) -> Iterator[Obstacle]:
    long = bool(evidence.sregs.efer & bits.EFER_LMA)
    idt, size = evidence.sregs.idt, 16 if long else 8
    if size * (vector + 1) - 1 > idt.limit:
        gates = (idt.limit + 1) // size
        room = f"has room for {gates} gate{'s' * (gates != 1)} only" if gates else "has no gates"
        yield Obstacle(
            f"the IDT (limit {idt.limit:#x}) {room}",
            "Build an IDT and load it with LIDT (or sregs.idt) before anything can fault.",
            IDT,
        )
        return
    at = idt.base + size * vector
    data = evidence.view.read_some(at, size)
    if len(data) < size:
        yield Obstacle(
            f"the gate of {name_of(vector)} would lie at {at:#x}, {evidence.view.reach(at).problem}",
            "Put the IDT into RAM, map it, and check the base in LIDT's operand.",
            IDT,
        )
        return
    yield from _through_gate(evidence, vector, data, long)


def _through_gate(evidence: Evidence, vector: int, data: bytes, long: bool) -> Iterator[Obstacle]:
    fill = Obstacle("", f"Fill in the gate of {name_of(vector)}: offset, code selector, type 14, present.", GATE)
    if not any(data):
        yield fill._replace(sentence=f"the IDT's gate {vector} is empty (all zeros)")
        return
    try:
        gate = Gate.decode(data)
    except DescriptorError as error:
        yield fill._replace(sentence=f"the IDT's entry {vector} is no gate ({error})")
        return
    if not gate.present:
        yield fill._replace(sentence=f"the IDT's gate {vector} ({gate.describe()}) has P=0")
        return
    try:
        gdt = evidence.sregs.gdt
        target = read_descriptor(evidence.view, gdt.base, gdt.limit, gate.selector, long=long)
        problem = _not_code(target, long)
    except ValueError as error:
        target, problem = Descriptor(), str(error)
    if problem:
        yield Obstacle(
            f"gate {vector} leads to the code segment {gate.selector:#x}, but {problem}",
            "Give the gate the selector of a present code segment in your GDT (L=1 in long mode).",
            HANDLER,
        )
        return
    if long and not is_canonical(gate.offset, 57 if evidence.sregs.cr4 & bits.CR4_LA57 else 48):
        yield fill._replace(sentence=f"the handler's address {gate.offset:#x} in gate {vector} is not canonical")
        return
    yield from _stack(evidence, vector, gate, target, long)


def _not_code(target: Descriptor, long: bool) -> str:
    if not target.is_code:
        return f"that entry of the GDT is no code segment ({target.describe()})"
    if not target.present:
        return "that entry of the GDT has P=0"
    if long and (not target.l or target.db):
        return "in long mode a handler's code segment must have L=1 and D=0"
    return ""


def _stack(evidence: Evidence, vector: int, gate: Gate, target: Descriptor, long: bool) -> Iterator[Obstacle]:
    """The frame is pushed on the present stack, or on the TSS's for an inner ring or an IST gate."""
    sregs, where = evidence.sregs, "RSP"
    width = 8 if long else 4
    inner = evidence.ring > target.dpl and not target.type & 4
    base = 0 if long else sregs.ss.base
    top = evidence.regs.rsp
    if inner or gate.ist:
        field = 0x24 + 8 * (gate.ist - 1) if gate.ist else 4
        where = f"IST{gate.ist} in the TSS" if gate.ist else ("RSP0" if long else "ESP0") + " in the TSS"
        try:
            if not sregs.tr.present or field + width - 1 > sregs.tr.limit:
                raise ValueError(f"TR's TSS ends at offset {sregs.tr.limit:#x}")
            top = int.from_bytes(evidence.view.read(sregs.tr.base + field, width), "little")
        except ValueError as error:
            yield Obstacle(
                f"{name_of(vector)} wants the stack {where}, and it can't be read: {error}",
                "Build a TSS, write the stack pointer into it, and load it with LTR (or sregs.tr).",
                TSS,
            )
            return
        base = 0
    if long:
        top &= ~15  # the processor aligns the stack before it pushes
    elif not sregs.ss.db and where == "RSP":
        top &= 0xFFFF
    words = (5 if long else 5 if inner else 3) + (vector in WITH_ERROR_CODE)
    for linear in (base + top - 1, base + top - width * words):
        linear &= (1 << 64) - 1 if long else 0xFFFF_FFFF
        if problem := evidence.view.reach(linear, write=True).problem:
            yield Obstacle(
                f"the frame of {name_of(vector)} goes on the stack {where} = {top:#x}, but {linear:#x} can't be "
                f"written, {problem}",
                "Point the stack pointer just above RAM that is mapped and writable.",
                STACK,
            )
            return
