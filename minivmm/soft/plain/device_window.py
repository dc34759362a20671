"""Device memory: one instruction is stepped while its device page is mapped to a window (native/device_window.c)."""

from __future__ import annotations

from typing import Any

from minivmm.soft.plain.constants import PAGE, UC_MEM_WRITE_UNMAPPED
from minivmm.soft.plain.cpu import Cpu
from minivmm.soft.plain.memory import host_at

ASK_GPA = 0x7FFF_FFFF_E000
ANSWER_GPA = 0x7FFF_FFFF_C000
SIZE = 2 * PAGE


def _device_gpa(cpu: Cpu, offset: int) -> int:
    """What the `offset` in a window stands for."""
    return int(cpu.c.window_gpas[offset // PAGE & 1] + offset % PAGE)


def _note_access(cpu: Cpu, gpa: int, size: int, value: int, is_write: bool) -> None:
    c = cpu.c
    if c.access_count >= len(c.accesses):
        return
    access = c.accesses[c.access_count]
    c.access_count += 1
    access.gpa, access.size, access.value, access.is_write = gpa, size, value, is_write


def on_ask(cpu: Cpu, kind: int, gpa: int, size: int, value: int) -> int:
    """Nothing lies behind the window of questions: what the instruction asks for is noted, and not done."""
    if 0 <= gpa - ASK_GPA < SIZE:
        _note_access(cpu, _device_gpa(cpu, gpa - ASK_GPA), size, value & (1 << 64) - 1, kind == UC_MEM_WRITE_UNMAPPED)
    return 0


def _answered(cpu: Cpu, gpa: int) -> int | None:
    """The byte at `gpa`: ROM has it, or an answer; else it has to be asked for first."""
    rom: Any = host_at(cpu, gpa)
    if rom is not None:
        return int(rom[0])
    c = cpu.c
    for i in range(c.answer_count):
        answer = c.answers[i]
        if 0 <= gpa - answer.gpa < answer.size:
            return int(answer.value >> 8 * (gpa - answer.gpa) & 0xFF)
    return None


def _is_answered_in_part(cpu: Cpu, gpa: int) -> bool:
    """Whether any byte of the aligned element that `gpa` is in has an answer."""
    start = gpa & ~(cpu.c.element - 1)
    return any(_answered(cpu, start + i) is not None for i in range(cpu.c.element))


def on_window_read(cpu: Cpu, offset: int, size: int) -> int:
    """The engine cuts an unaligned access in two aligned ones, which together read more than the guest does, and those
    of 8 bytes in halves: a read is missed only if no byte of its aligned element was answered."""
    c, gpa = cpu.c, _device_gpa(cpu, offset)
    found = [_answered(cpu, gpa + i) for i in range(size)]
    if found.count(None) == size and not c.window_missed and not _is_answered_in_part(cpu, gpa):
        c.window_missed = 1
        _note_access(cpu, gpa, size, 0, False)
    return int.from_bytes(bytes(byte or 0 for byte in found), "little")


def on_window_write(cpu: Cpu, offset: int, size: int, value: int) -> None:
    _note_access(cpu, _device_gpa(cpu, offset), size, value, True)
