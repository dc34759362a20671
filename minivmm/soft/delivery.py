"""Delivering exceptions and interrupts to the guest: the engine only says that there is one.

An event goes through the interrupt vector table in real mode (delivery_real.py), through the IDT otherwise
(delivery_protected.py, delivery_long.py). What can go wrong on the way is an exception itself; two of some kinds make a
double fault, and a third ends it.

Source: SDM vol. 3, "Interrupt and Exception Handling", table "Conditions for Generating a Double Fault".
"""

from __future__ import annotations

from collections.abc import Callable

from minivmm.soft import delivery_long, delivery_protected, delivery_real
from minivmm.soft.event import Event
from minivmm.soft.processor import (
    BREAKPOINT,
    DEBUG,
    DIVIDE,
    DOUBLE_FAULT,
    INVALID_TSS,
    NOT_PRESENT,
    OVERFLOW,
    PAGE_FAULT,
    PROTECTION,
    STACK,
    GuestFault,
    Processor,
)
from minivmm.soft.state import set_flags
from minivmm.x86.bits import RFLAGS_RF

CONTRIBUTORY = {DIVIDE, INVALID_TSS, NOT_PRESENT, STACK, PROTECTION}
WITH_ERROR_CODE = {DOUBLE_FAULT, INVALID_TSS, NOT_PRESENT, STACK, PROTECTION, PAGE_FAULT, 17, 21}
TRAPS = {DEBUG, BREAKPOINT, OVERFLOW}  # reported behind the instruction: no RF in the saved flags


class TripleFault(Exception):
    """A fault while a double fault was delivered: the processor shuts down."""


def deliver(cpu: Processor, event: Event) -> None:
    """Takes the processor to the handler of `event`, or of what comes of trying. Raises TripleFault."""
    while True:
        try:
            _attempt(cpu, event)
            return
        except GuestFault as fault:
            event = _after(event, fault)


def _after(event: Event, fault: GuestFault) -> Event:
    """What to deliver when delivering `event` ended in `fault`."""
    if event.vector == DOUBLE_FAULT and not event.external:
        raise TripleFault
    first_is_exception = not event.external and not event.soft
    if first_is_exception and event.vector in CONTRIBUTORY and fault.vector in CONTRIBUTORY:
        return Event(DOUBLE_FAULT, 0)
    if first_is_exception and event.vector == PAGE_FAULT and fault.vector in CONTRIBUTORY | {PAGE_FAULT}:
        return Event(DOUBLE_FAULT, 0, cr2=fault.cr2)
    return fault.event


def _attempt(cpu: Processor, event: Event) -> None:
    flags = cpu.flags
    env = cpu.look()
    set_flags(env, flags)
    if event.cr2 is not None:
        env.cr2 = event.cr2
    cpu.cpu.exception.old_exception = -1  # the engine must not count this one into a double fault of its own
    cpu.put()  # CR2 stays, even where the rest fails
    is_fault = not event.external and not event.soft and event.vector not in TRAPS
    through: Callable[[Processor, Event, int], None]
    if not cpu.protected:
        through = delivery_real.through_table
    elif cpu.long:
        through = delivery_long.through_gate
    else:
        through = delivery_protected.through_gate
    through(cpu, event, flags | RFLAGS_RF if is_fault and cpu.protected else flags)
    cpu.put()
