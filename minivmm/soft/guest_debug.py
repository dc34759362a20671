"""Debugging the guest: single steps and breakpoints, by userspace (KVM_SET_GUEST_DEBUG) or by the guest's own DR7.

Source: KVM API 4.87 KVM_SET_GUEST_DEBUG; SDM vol. 3, "Debug Registers".
"""

from __future__ import annotations

import errno
from typing import Any

from minivmm.kvm import constants as k
from minivmm.soft.binding import lib
from minivmm.soft.processor import Processor

CONTROL_FLAGS = (  # of KVM_SET_GUEST_DEBUG
    k.KVM_GUESTDBG_ENABLE
    | k.KVM_GUESTDBG_SINGLESTEP
    | k.KVM_GUESTDBG_USE_SW_BP
    | k.KVM_GUESTDBG_USE_HW_BP
    | k.KVM_GUESTDBG_INJECT_DB
    | k.KVM_GUESTDBG_INJECT_BP
    | k.KVM_GUESTDBG_BLOCKIRQ
)
EXECUTE, ON_WRITE, ON_ACCESS = 0, 1, 3  # DR7.R/W: the kind of access that a breakpoint waits for
_LENGTHS = (1, 2, 8, 4)  # DR7.LEN, in bytes


class GuestDebug:
    """What stops the guest for a debugger. `control` is what userspace set."""

    def __init__(self, cpu: Processor) -> None:
        self.cpu = cpu
        self.control = 0
        self._registers = [0] * 8
        self.watches = False  # a breakpoint on data is in force: each instruction is looked at before it runs

    @property
    def steps(self) -> bool:
        """Whether every instruction is to be followed by an exit."""
        return bool(self.control & k.KVM_GUESTDBG_SINGLESTEP)

    @property
    def takes_int3(self) -> bool:
        return bool(self.control & k.KVM_GUESTDBG_USE_SW_BP)

    @property
    def blocks_interrupts(self) -> bool:
        return self.steps and bool(self.control & k.KVM_GUESTDBG_BLOCKIRQ)

    @property
    def owns_breakpoints(self) -> bool:
        """Whether the debug registers in force are userspace's; else the guest's own are."""
        return bool(self.control & k.KVM_GUESTDBG_USE_HW_BP)

    @property
    def dr7(self) -> int:
        return self._in_force[7]

    def set(self, debug: Any) -> int:
        """KVM_SET_GUEST_DEBUG. 0, or -EINVAL for what there isn't."""
        control = debug.control
        if control & ~CONTROL_FLAGS:
            return -errno.EINVAL
        registers = list(debug.arch.debugreg)
        self.control = control if control & k.KVM_GUESTDBG_ENABLE else 0
        self._registers = registers if self.control & k.KVM_GUESTDBG_USE_HW_BP else [0] * 8
        self.refresh()
        return 0

    def refresh(self) -> None:
        """Puts the breakpoints in force: the engine stops at those on execution, and steps if one is on data."""
        registers = self._in_force
        self.watches = any(_enabled(registers[7], i) and _kind(registers[7], i) != EXECUTE for i in range(4))
        addresses = [registers[i] for i in range(4) if _enabled(registers[7], i) and _kind(registers[7], i) == EXECUTE]
        native = self.cpu.cpu
        for i, address in enumerate(addresses):
            native.breakpoints[i] = address
        native.breakpoint_count = len(addresses)
        for address in addresses:
            lib.soft_add_site(native, address)

    @property
    def _in_force(self) -> list[int]:
        return self._registers if self.owns_breakpoints else self.cpu.dr

    def data_hits(self, code: bytes) -> int:
        """DR6's bits for the data breakpoints that the instruction `code`, at CS:RIP, will touch."""
        bits, registers = self.cpu.bits, self._in_force
        hits = 0
        for operand in self.cpu.decode(code).operands:
            start = operand.linear(self.cpu.env, bits)
            for i in range(4):
                kind, length = _kind(registers[7], i), _length(registers[7], i)
                watched = _enabled(registers[7], i) and (kind == ON_ACCESS or (kind == ON_WRITE and operand.writes))
                first = registers[i] & ~(length - 1)
                if watched and start < first + length and first < start + operand.size:
                    hits |= 1 << i
        return hits

    def hit(self, pc: int) -> int:
        """DR6's bits for an execution breakpoint at `pc`."""
        registers = self._in_force
        return sum(1 << i for i in range(4) if registers[i] == pc and _enabled(registers[7], i))


def _enabled(dr7: int, number: int) -> bool:
    return bool(dr7 >> 2 * number & 3)


def _kind(dr7: int, number: int) -> int:
    return dr7 >> 16 + 4 * number & 3


def _length(dr7: int, number: int) -> int:
    return _LENGTHS[dr7 >> 18 + 4 * number & 3]
