"""Protected mode: 16- and 32-bit gates, a stack for each ring, virtual-8086 mode. Source: SDM vol. 3, "Exception- or
Interrupt-Handler Procedures", "Interrupt and Exception Handling in Virtual-8086 Mode"."""

from __future__ import annotations

from minivmm.soft.descriptors import Descriptor, read_descriptor
from minivmm.soft.event import Event
from minivmm.soft.gates import INTERRUPT_32, TASK_GATE, read_gate
from minivmm.soft.processor import INVALID_TSS, PROTECTION, STACK, GuestFault, Processor
from minivmm.soft.state import DESC_DB, set_flags, set_segment

_TSS_32 = 8  # the bit of the TSS descriptor's type that tells a 32-bit one from a 16-bit one


def through_gate(cpu: Processor, event: Event, flags: int) -> None:
    """Pushes the frame of the gate's size, on the stack of the inner ring where the privilege level changes."""
    env = cpu.env
    gate = read_gate(cpu, event)
    if gate.kind == TASK_GATE:
        raise GuestFault(PROTECTION, gate.code_error)  # hardware task switches on events are not emulated
    level = cpu.cpl if gate.code.conforming else gate.code.dpl
    from_8086 = cpu.virtual_8086
    if from_8086 and level:
        raise GuestFault(PROTECTION, gate.code_error)
    frame: list[int] = []
    if from_8086:
        frame += [env.gs.selector, env.fs.selector, env.ds.selector, env.es.selector]
    inward = level < cpu.cpl
    if inward:
        frame += [env.ss.selector, env.rsp]
        selector, stack, segment = _inner_stack(cpu, level, gate.external)
        new_ss = (selector & ~3 | level, segment.base, segment.limit, segment.high)
    else:
        stack, new_ss = env.rsp, (env.ss.selector, env.ss.base, env.ss.limit, env.ss.flags)
    frame += [flags, env.cs.selector, env.rip]
    if event.error is not None:
        frame.append(event.error)
    size = 4 if gate.kind >= INTERRUPT_32 else 2
    mask = 0xFFFFFFFF if new_ss[3] & DESC_DB else 0xFFFF
    for value in frame:
        stack = stack & ~mask | stack - size & mask
        cpu.write(new_ss[1] + (stack & mask) & 0xFFFFFFFF, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))
    if inward:
        set_segment(env.ss, *new_ss)
    if from_8086:
        for segment_register in (env.es, env.ds, env.fs, env.gs):
            set_segment(segment_register, 0, 0, 0, 0)
    env.rsp = stack
    set_segment(env.cs, gate.selector & ~3 | level, gate.code.base, gate.code.limit, gate.code.high)
    env.rip = gate.offset
    set_flags(env, flags & ~gate.cleared)


def _inner_stack(cpu: Processor, level: int, external: int) -> tuple[int, int, Descriptor]:
    """SS and ESP of `level` from the TSS, and the descriptor of that SS."""
    tss = cpu.env.tr
    wide = tss.flags >> 8 & _TSS_32
    offset, size = (4 + 8 * level, 4) if wide else (2 + 4 * level, 2)
    if offset + size + 1 > tss.limit:
        raise GuestFault(INVALID_TSS, tss.selector & ~3 | external)
    stack = cpu.read_int(tss.base + offset, size)
    selector = cpu.read_int(tss.base + offset + size, 2)
    segment = read_descriptor(cpu, selector, external=external, fault=INVALID_TSS)
    error = selector & ~3 | external
    if selector & 3 != level or segment.dpl != level or not segment.is_writable_data:
        raise GuestFault(INVALID_TSS, error)
    if not segment.present:
        raise GuestFault(STACK, error)
    return selector, stack, segment
