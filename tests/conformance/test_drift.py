"""Stopped thousands of times at random moments, a guest neither loses nor repeats an instruction.

The loop counts in memory and in a register, and now and then reads and writes a port and the MMIO hole. Each stop looks
at both counts; each exit and each answer must come exactly once. MINIVMM_STOPS is the number of stops in each mode.
"""

from __future__ import annotations

import errno
import os
import threading

import pytest
from rig import HLT, LONG, PROTECTED, REAL, In, Load, Out, Store, asm16, asm32, asm64
from rig.events import events_of
from rig.layout import DATA, HOLE

from minivmm import exits

STOPS = int(os.environ.get("MINIVMM_STOPS") or (500 if "MINIVMM_BOX" in os.environ else 10_000))
EVERY = 64  # rounds between two visits to the port and the hole

LOOP = {
    16: asm16("""
        mov dx, 0x123
    on: inc dword ptr [DATA]; inc ecx; test cl, 0x3F; jnz on
        mov eax, ecx; out dx, eax; in eax, dx; add ebx, eax; mov es:[0], eax; mov eax, es:[0]; add ebx, eax
        cmp byte ptr [DATA + 16], 0; je on; hlt
    """),
    32: asm32("""
        mov dx, 0x123
    on: inc dword ptr [DATA]; inc ecx; test cl, 0x3F; jnz on
        mov eax, ecx; out dx, eax; in eax, dx; add ebx, eax; mov [HOLE], eax; mov eax, [HOLE]; add ebx, eax
        cmp byte ptr [DATA + 16], 0; je on; hlt
    """),
    64: asm64("""
        mov dx, 0x123; mov esi, HOLE
    on: inc dword ptr [DATA]; inc ecx; test cl, 0x3F; jnz on
        mov eax, ecx; out dx, eax; in eax, dx; add ebx, eax; mov [rsi], eax; mov eax, [rsi]; add ebx, eax
        cmp byte ptr [DATA + 16], 0; je on; hlt
    """),
}  # fmt: skip


class Kicker(threading.Thread):
    """Kicks a vCPU again and again, at moments that have nothing to do with the guest."""

    def __init__(self, cpu):
        super().__init__(daemon=True)
        self.cpu, self.over = cpu, threading.Event()

    def run(self):
        while not self.over.wait(0.0002):
            self.cpu.kick()


@pytest.mark.parametrize("mode", [REAL, PROTECTED, LONG])
def test_no_stop_loses_or_repeats_anything(start, mode):
    guest = start(mode, LOOP)
    cpu = guest.cpu
    if mode == REAL:
        sregs = cpu.sregs
        sregs.es.base, sregs.es.selector = HOLE, HOLE >> 4
        cpu.set_sregs(sregs)
    kicker = Kicker(cpu)
    kicker.start()
    seen, total, stops = [], 0, 0
    answers = iter(range(1, 1 << 30))
    try:
        while stops < STOPS:
            result = cpu.enter()
            if result == -errno.EINTR:
                cpu.page.immediate_exit = 0
                stops += 1
                assert ahead(guest) in (0, 1), f"after {stops} stops"
                continue
            assert result == 0
            seen += events_of(exits.decode(cpu.page), answers)
            assert len(seen) < 50 * STOPS + 10_000, "the kicks don't get through"
        guest.write(DATA + 16, b"\1")
    finally:
        kicker.over.set()
        kicker.join()
    cpu.page.immediate_exit = 0
    seen += cpu.trace(answers)
    assert seen.pop() == HLT
    assert guest.word(DATA) == cpu.regs.rcx & 0xFFFFFFFF == EVERY * len(seen) // 4
    for round_, events in enumerate(zip(*[iter(seen)] * 4, strict=True), 1):
        answer = 2 * round_ - 1
        wanted = (Out(0x123, 4, EVERY * round_), In(0x123, 4), Store(HOLE, 4, answer), Load(HOLE, 4))
        assert events == wanted
        total += 2 * answer + 1
    assert cpu.regs.rbx & 0xFFFFFFFF == total & 0xFFFFFFFF


def ahead(guest):
    """By how much the count in memory is ahead of the one in ECX: 1 between the two instructions, else 0."""
    return (guest.word(DATA) - guest.regs.rcx) & 0xFFFFFFFF
