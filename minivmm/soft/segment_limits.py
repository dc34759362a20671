"""Segment limits and rights in protected mode: the engine checks neither, so we do, instruction by instruction.

That is slow, and needed only where a segment is not flat. So the engine stops wherever a segment register is loaded in
protected mode, and state.is_flat says whether it may be left alone after that.

Source: SDM vol. 3, "Limit Checking", "Type Checking".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minivmm.soft.processor import PROTECTION, STACK, GuestFault, Processor
from minivmm.soft.state import DESC_CODE, DESC_DB, DESC_P

if TYPE_CHECKING:
    from minivmm.soft.memory_operands import Operand

WHOLE = 0xFFFFFFFF
_WRITABLE = _READABLE = 1 << 9  # of data, of code
_EXPAND_DOWN = 1 << 10


def check(cpu: Processor, code: bytes) -> None:
    """Raises GuestFault where the instruction `code`, at CS:RIP, goes beyond a segment or against its type."""
    env = cpu.env
    if cpu.bits == 64:
        return
    instruction = cpu.decode(code)
    if env.rip + instruction.length - 1 > env.cs.limit:
        raise GuestFault(PROTECTION, 0)
    for operand in instruction.operands:
        _check_operand(env, operand)


def _check_operand(env: Any, operand: Operand) -> None:
    segment, offset = getattr(env, operand.segment), operand.offset(env)
    outside = GuestFault(STACK if operand.segment == "ss" else PROTECTION, 0)
    flags = segment.flags
    if not flags & DESC_P:
        raise outside
    is_code = flags & DESC_CODE
    may_not_write = is_code or not flags & _WRITABLE
    may_not_read = is_code and not flags & _READABLE
    if may_not_write if operand.writes else may_not_read:
        raise GuestFault(PROTECTION, 0)
    last = offset + operand.size - 1
    if not is_code and flags & _EXPAND_DOWN:
        top = WHOLE if flags & DESC_DB else 0xFFFF
        if offset <= segment.limit or last > top:
            raise outside
    elif last > segment.limit:
        raise outside
