"""Real mode: the interrupt vector table, four bytes a vector. Source: SDM vol. 3, "Interrupt and Exception Handling" in
the chapter on 8086 emulation."""

from __future__ import annotations

from minivmm.soft.event import Event
from minivmm.soft.processor import PROTECTION, GuestFault, Processor
from minivmm.soft.state import set_flags
from minivmm.x86.bits import RFLAGS_AC, RFLAGS_IF, RFLAGS_RF, RFLAGS_TF


def through_table(cpu: Processor, event: Event, flags: int) -> None:
    """Pushes FLAGS, CS and IP (no error code), and goes where the table says."""
    env = cpu.env
    if event.vector * 4 + 3 > env.idt.limit:
        raise GuestFault(PROTECTION, event.vector * 8 + 2)
    entry = cpu.read_int(env.idt.base + event.vector * 4, 4)
    stack = env.rsp
    for value in (flags, env.cs.selector, env.rip):
        stack = stack & ~0xFFFF | stack - 2 & 0xFFFF
        cpu.write(env.ss.base + (stack & 0xFFFF) & 0xFFFFFFFF, (value & 0xFFFF).to_bytes(2, "little"))
    env.rsp = stack
    env.cs.selector, env.cs.base = entry >> 16, entry >> 16 << 4
    env.rip = entry & 0xFFFF
    set_flags(env, flags & ~(RFLAGS_IF | RFLAGS_TF | RFLAGS_RF | RFLAGS_AC))
