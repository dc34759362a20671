"""Whether translated code is still what memory holds (native/code_pages.c tells why that is a question)."""

from __future__ import annotations

from minivmm.soft.host_memory import is_mapped
from minivmm.soft.plain.constants import CTL_FLUSH_TLB, CTL_REMOVE_CACHE, PAGE, page_of
from minivmm.soft.plain.cpu import Cpu, ffi
from minivmm.soft.plain.memory import page_at

MANY_CODE_PAGES = 64


def _digest(cpu: Cpu, gpa: int) -> int | None:
    """64 bits of a page; None where there is none."""
    page = page_at(cpu, gpa)
    return None if page is None else hash(page)


def code_is_current(cpu: Cpu, gpa: int) -> bool:
    """Whether code from this page may run: it is as it was when it was translated, or new. Else drop that first."""
    known = cpu.code.get(gpa)
    if known is not None and known[0] == cpu.epoch:
        return True
    now = _digest(cpu, gpa)
    if now is None or (known is not None and known[1] != now):
        return False
    cpu.code[gpa] = cpu.epoch, now
    return True


def code_is_known(cpu: Cpu, gpa: int) -> bool:
    """Whether the page was compared in this epoch, so that the TLB may let fetches through."""
    known = cpu.code.get(gpa)
    return known is not None and known[0] == cpu.epoch


def flush_tlb(cpu: Cpu) -> None:
    cpu.control(CTL_FLUSH_TLB)


def _drop_code(cpu: Cpu, gpa: int) -> None:
    """Drops the translations of code in the page at `gpa`. The engine wants a linear address and asks the TLB for the
    physical one: for this call, the TLB maps one to one."""
    flush_tlb(cpu)
    cpu.c.physical = 1
    cpu.control(CTL_REMOVE_CACHE, gpa, gpa + PAGE)
    cpu.c.physical = 0
    flush_tlb(cpu)


def refresh_code(cpu: Cpu, gpa: int) -> None:
    _drop_code(cpu, gpa)
    now = _digest(cpu, gpa)
    if now is not None and gpa in cpu.code:
        cpu.code[gpa] = cpu.epoch, now


def soft_memory_changed(cpu: Cpu) -> None:
    """Memory may have been written by somebody else. A few pages are compared at once; of many, each at its next
    fetch."""
    if len(cpu.code) > MANY_CODE_PAGES:
        cpu.epoch += 1
        flush_tlb(cpu)
        return
    for gpa, (_, digest) in list(cpu.code.items()):
        now = _digest(cpu, gpa)
        if now is not None and now != digest:
            refresh_code(cpu, gpa)


def soft_begin(cpu: Cpu) -> int:
    """The start of KVM_RUN: userspace had its turn. 0 where it took away the memory behind a slot."""
    for i in range(cpu.c.slot_count):
        slot = cpu.c.slots[i]
        if not is_mapped(int(ffi.cast("uintptr_t", slot.host)), slot.size):
            return 0
    soft_memory_changed(cpu)
    return 1


def soft_forget_code(cpu: Cpu, gpa: int, size: int) -> None:
    """A slot went away, or changed: what was translated from it is void."""
    for page in [page for page in cpu.code if gpa <= page < gpa + size]:
        _drop_code(cpu, page)
        cpu.code[page] = cpu.epoch - 1, 0
    flush_tlb(cpu)


def soft_written(cpu: Cpu, gpa: int, size: int) -> None:
    """We wrote [gpa, gpa + size) ourselves, for the processor: a stack frame, say. Seldom is that a page of code."""
    for page in range(page_of(gpa), gpa + size, PAGE):
        if page in cpu.code:
            refresh_code(cpu, page)
