"""Long mode: 64-bit gates, stacks from the TSS, and a frame that is always the same. Source: SDM vol. 3, "64-Bit Mode
Stack Frame", "Interrupt Stack Table"."""

from __future__ import annotations

import struct

from minivmm.soft.event import Event
from minivmm.soft.gates import read_gate
from minivmm.soft.processor import INVALID_TSS, MASK64, PROTECTION, STACK, GuestFault, Processor
from minivmm.soft.state import set_flags, set_segment
from minivmm.x86.canonical import is_canonical

_RSP0, _IST1 = 4, 36  # offsets in a 64-bit TSS


def through_gate(cpu: Processor, event: Event, flags: int) -> None:
    """Pushes SS:RSP, RFLAGS, CS:RIP and the error code on the stack that the gate or the TSS names."""
    env = cpu.env
    gate = read_gate(cpu, event)
    level = cpu.cpl if gate.code.conforming else gate.code.dpl
    inward = level < cpu.cpl
    if gate.ist:
        stack = _from_tss(cpu, _IST1 + 8 * (gate.ist - 1), gate.external)
    elif inward:
        stack = _from_tss(cpu, _RSP0 + 8 * level, gate.external)
    else:
        stack = env.rsp
    frame = [] if event.error is None else [event.error]
    frame += [env.rip, env.cs.selector, flags, env.rsp, env.ss.selector]
    first_push = (stack & ~15) - 8 & MASK64
    stack = first_push - 8 * (len(frame) - 1) & MASK64
    if not (is_canonical(first_push) and is_canonical(stack)):
        raise GuestFault(STACK, gate.external)
    if not is_canonical(gate.offset):
        raise GuestFault(PROTECTION, gate.external)
    # The processor pushes with the rights of the level that it goes to.
    cpu.write(stack, struct.pack(f"<{len(frame)}Q", *frame), user=level == 3)
    if inward:
        set_segment(env.ss, level, 0, 0, level << 13)
    env.rsp = stack
    set_segment(env.cs, gate.selector & ~3 | level, gate.code.base, gate.code.limit, gate.code.high)
    env.rip = gate.offset
    set_flags(env, flags & ~gate.cleared)


def _from_tss(cpu: Processor, offset: int, external: int) -> int:
    tss = cpu.env.tr
    if offset + 7 > tss.limit:
        raise GuestFault(INVALID_TSS, tss.selector & ~3 | external)
    stack = cpu.read_int(tss.base + offset, 8)
    if not is_canonical(stack):
        raise GuestFault(STACK, external)
    return stack
