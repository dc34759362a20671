"""IN, OUT, INS and OUTS: what they move, and whether the guest may.

Source: SDM vol. 2 (each instruction), vol. 1, "I/O Protection Mechanism".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from minivmm.soft.engine import READ, WRITE
from minivmm.soft.processor import PROTECTION, GuestFault, Processor
from minivmm.x86.bits import RFLAGS_DF, RFLAGS_VM

_SEGMENT_PREFIXES = {0x26: "es", 0x2E: "cs", 0x36: "ss", 0x3E: "ds", 0x64: "fs", 0x65: "gs"}
_IO_MAP_BASE = 102  # offset in the TSS of where its I/O permission bitmap begins


@dataclass(frozen=True)
class PortInsn:
    """One of the four instructions. `port` is None where DX has it; `address_size` counts bits; sizes count bytes."""

    is_in: bool
    size: int
    port: int | None
    repeats: bool
    segment: str
    address_size: int


@lru_cache(1024)
def decode(code: bytes, bits: int) -> PortInsn:
    """Decodes the instruction `code` in a segment of 16, 32 or 64 `bits`."""
    operand_16, address_prefix, repeats, segment, at = bits == 16, False, False, "ds", 0
    while True:
        byte = code[at]
        if byte == 0x66:
            operand_16 = bits != 16
        elif byte == 0x67:
            address_prefix = True
        elif byte in (0xF2, 0xF3):
            repeats = True
        elif byte in _SEGMENT_PREFIXES:
            segment = _SEGMENT_PREFIXES[byte]
        elif not (bits == 64 and byte & 0xF0 == 0x40):
            break
        at += 1
    size = 1 if not byte & 1 else 2 if operand_16 else 4
    is_in = not byte & 2
    immediate = byte & 0xF8 == 0xE0
    address_size = {16: 32, 32: 16, 64: 32}[bits] if address_prefix else bits
    return PortInsn(is_in, size, code[at + 1] if immediate else None, repeats, segment, address_size)


def check_permission(cpu: Processor, port: int, size: int) -> None:
    """Raises GuestFault(#GP) where neither IOPL nor the TSS's bitmap lets the guest use the port."""
    env = cpu.env
    if not cpu.protected:
        return
    if cpu.cpl <= env.rflags >> 12 & 3 and not (env.rflags & RFLAGS_VM and not cpu.long):
        return
    tss = env.tr
    if not tss.flags >> 15 & 1 or tss.limit < _IO_MAP_BASE + 1:
        raise GuestFault(PROTECTION, 0)
    at = cpu.read_int(tss.base + _IO_MAP_BASE, 2) + port // 8
    if at + 1 > tss.limit or cpu.read_int(tss.base + at, 2) >> port % 8 & (1 << size) - 1:
        raise GuestFault(PROTECTION, 0)


@dataclass(frozen=True)
class StringStep:
    """What one exit of INS or OUTS moves: `count` items from or to the linear addresses from `address` on."""

    address: int
    count: int
    backward: bool


def next_items(cpu: Processor, insn: PortInsn) -> StringStep | None:
    """The items that the next exit carries, or None where REP has nothing to do.

    As KVM does it: OUTS one at a time; INS as many as fit the page of data and the page of guest memory, for each item
    must be known to fit before the device is asked.
    """
    env = cpu.env
    mask = (1 << insn.address_size) - 1
    left = env.rcx & mask if insn.repeats else 1
    if not left:
        return None
    backward = bool(cpu.flags & RFLAGS_DF)
    if insn.is_in:
        address = env.es.base + (env.rdi & mask)
        room = address % 4096 // insn.size + 1 if backward else (4096 - address % 4096) // insn.size
        count = 1 if backward else max(1, min(left, room, 4096 // insn.size))
    else:
        address = getattr(env, insn.segment).base + (env.rsi & mask)
        count = 1
    if not cpu.long:
        address &= 0xFFFFFFFF
    return StringStep(address, count, backward)


def outs_data(cpu: Processor, insn: PortInsn, step: StringStep) -> bytes:
    """What OUTS sends. Raises GuestFault where it can't be read."""
    return cpu.read(step.address, insn.size * step.count, user=cpu.cpl == 3, access=READ)


def check_ins(cpu: Processor, insn: PortInsn, step: StringStep) -> None:
    """Raises GuestFault where INS could not store its data: before the device gives it away."""
    cpu.translate(step.address, WRITE, user=cpu.cpl == 3)
    cpu.translate(step.address + insn.size * step.count - 1, WRITE, user=cpu.cpl == 3)


def advance(cpu: Processor, insn: PortInsn, step: StringStep) -> bool:
    """Moves the index and count registers on behind `step`. Returns whether the instruction is done."""
    env = cpu.env
    mask = (1 << insn.address_size) - 1
    # A 32-bit write clears the upper half of the register, a 16-bit one leaves it.
    keep = ~mask if insn.address_size == 16 else 0
    moved = insn.size * step.count * (-1 if step.backward else 1)
    index = "rdi" if insn.is_in else "rsi"
    value = getattr(env, index)
    setattr(env, index, value & keep | value + moved & mask)
    if not insn.repeats:
        return True
    left = (env.rcx & mask) - step.count
    env.rcx = env.rcx & keep | left & mask
    return not left & mask
