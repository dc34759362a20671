"""Two processors, one program: random programs leave the same registers, flags, memory and exits on soft as on KVM.

Runs wherever both backends are. The number of programs in each mode is MINIVMM_DIFFERENTIAL (default: few, and always
the same). A failure shows the shortest program that differs, disassembled.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rig import LONG, PROTECTED, REAL, Guest, Trapped, asm
from rig.generator import BASE, Program, programs
from rig.layout import CODE, DATA, HOLE, STACK

from minivmm.accel import NoBackendError, choose
from minivmm.kvm import ioctls as io
from minivmm.x86.disassembly import disassemble

WANTED = os.environ.get("MINIVMM_DIFFERENTIAL")
IN_BOX = "MINIVMM_BOX" in os.environ
EXAMPLES = int(WANTED or (20 if IN_BOX else 60))
REGISTERS = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", *(f"r{n}" for n in range(8, 16)))
FLAGS = 0xCD5 | 2  # the arithmetic flags, DF, and the one that is always set

given_programs = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=WANTED is None,
    database=None,
    phases=[Phase.generate] if IN_BOX else list(Phase),  # to shrink a program takes the box minutes
    suppress_health_check=list(HealthCheck),
)

# QEMU (7.2, in the box) does a rotation to memory twice when its store is the first to its page, and the second time
# without the carry: so no program is the first to store anywhere.
TOUCH = asm("or byte ptr [DATA], 0; or byte ptr [STACK - 8], 0; hlt")


@dataclass
class Outcome:
    """What a program left behind, undefined flags taken out."""

    events: list[Any]
    registers: dict[str, str]
    flags: str
    stop: str
    data: bytes
    stack: bytes


def run(backend: Any, mode: str, program: Program, seed: int) -> Outcome:
    """Runs a program from a state that `seed` decides."""
    fill = bytes((seed + 7 * n * n) & 0xFF for n in range(0x1000))
    wide = mode == LONG
    start = {
        name: (seed * 0x9E3779B97F4A7C15 * (n + 1)) & ((1 << 64 if wide else 1 << 32) - 1)
        for n, name in enumerate(REGISTERS)
    }
    start |= {"rsp": STACK, "rbp": BASE}
    if not wide:
        start |= dict.fromkeys((f"r{n}" for n in range(8, 16)), 0)
    guest = Guest(backend, mode, TOUCH)
    try:
        guest.trace()
        guest.write(CODE, bytes(program.code))
        guest.place(guest.cpu, **start)
        if mode == REAL:
            sregs = guest.cpu.sregs
            sregs.es.base, sregs.es.selector = HOLE, HOLE >> 4
            guest.cpu.ioctl(io.KVM_SET_SREGS, sregs)
        guest.write(DATA, fill)
        events = guest.cpu.trace(answers=(seed * n + n for n in itertools.count()))
        return outcome(guest, events, program.undefined)
    finally:
        guest.close()


def outcome(guest: Guest, events: list[Any], undefined: int) -> Outcome:
    regs = guest.cpu.regs
    flags, stop, top = regs.rflags, f"{regs.rip:#x}", regs.rsp
    if isinstance(events[-1], Trapped):
        trap = guest.cpu.trap()
        flags, stop = trap.flags, f"{trap.vector} at {trap.ip:#x}"
        undefined |= 0x8D5  # a division that faults leaves no flag defined
        top += (6 if guest.bits == 16 else 12 if guest.bits == 32 else 40) + (trap.error is not None) * guest.bits // 8
    return Outcome(
        events,
        {name: f"{getattr(regs, name):#x}" for name in REGISTERS},
        f"{flags & FLAGS & ~undefined:#x}",
        stop,
        guest.read(DATA, 0x1000),
        guest.read(top, STACK - top),
    )


@pytest.fixture(scope="module")
def both():
    """The two backends, or the reason why there are not two."""
    try:
        return choose("kvm").backend, choose("soft").backend
    except NoBackendError as error:
        pytest.skip(str(error))


def compare(both: Any, mode: str, program: Program, seed: int) -> None:
    on_kvm, on_soft = (run(backend, mode, program, seed) for backend in both)
    if on_kvm == on_soft:
        return
    lines = [f"{mode} mode, seed {seed}:"]
    lines += [str(line) for line in disassemble(bytes(program.code), CODE, program.bits, count=200)]
    for name in ("events", "registers", "flags", "stop", "stack"):
        one, other = getattr(on_kvm, name), getattr(on_soft, name)
        if one != other:
            if isinstance(one, dict):
                one, other = ({k: v for k, v in a.items() if b[k] != v} for a, b in ((one, other), (other, one)))
            lines += [f"{name}: on KVM {one}", f"{name}: on soft {other}"]
    for n in [n for n in range(0x1000) if on_kvm.data[n] != on_soft.data[n]][:8]:
        lines.append(f"memory at {DATA + n:#x}: on KVM {on_kvm.data[n]:#04x}, on soft {on_soft.data[n]:#04x}")
    pytest.fail("\n".join(lines))


@given_programs
@given(program=programs(16), seed=st.integers(0, 255))
def test_real_mode(both, program, seed):
    compare(both, REAL, program, seed)


@given_programs
@given(program=programs(32), seed=st.integers(0, 255))
def test_protected_mode(both, program, seed):
    compare(both, PROTECTED, program, seed)


@given_programs
@given(program=programs(64), seed=st.integers(0, 255))
def test_long_mode(both, program, seed):
    compare(both, LONG, program, seed)
