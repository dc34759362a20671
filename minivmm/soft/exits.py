"""The exits of one vCPU: what userspace finds in struct kvm_run when KVM_RUN returns, and what it answers.

Source: KVM API, "5. The kvm_run structure".
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from minivmm.kvm import constants as k
from minivmm.soft import state
from minivmm.soft.control_registers import DR6_FIXED
from minivmm.soft.parts import VcpuParts
from minivmm.soft.processor import MASK64
from minivmm.x86.bits import RFLAGS_IF

Result = int | None  # what KVM_RUN returns; None: go on in the guest
Pending = tuple[Callable[[], None], int]  # what completes an instruction, and the RIP that it must still be at


class Exits:
    """Fills in the page. `pending` completes the instruction of the last exit when userspace comes back."""

    def __init__(self, vcpu: VcpuParts) -> None:
        self.vcpu = vcpu
        self.page = vcpu.page
        self._cpu = vcpu.processor
        self._env = vcpu.engine.env
        self.pending: Pending | None = None

    def exit(self, reason: int) -> int:
        """What every exit carries. Returns 0, as KVM_RUN does for all of them."""
        vcpu, env = self.vcpu, self._cpu.look()
        if_flag = bool(env.rflags & RFLAGS_IF)
        ready = if_flag and not self._cpu.in_shadow and not vcpu.events.any
        self.page.head(reason, ready, if_flag, vcpu.read_cr8(), vcpu.msrs.apic_base)
        return 0

    def io(self, direction: int, size: int, port: int, count: int, data: bytes = b"") -> int:
        """KVM_EXIT_IO. Returns a mark where it is one small item, as the compiled KVM binding does (seam.py)."""
        vcpu, env = self.vcpu, self._env
        if_flag = bool(env.rflags & RFLAGS_IF)
        ready = if_flag and not env.hflags & state.HF_SHADOW
        self.page.io(ready, if_flag, vcpu.read_cr8(), vcpu.msrs.apic_base, direction, size, port, count, data)
        if count != 1 or (data and any(data[1:])):
            return 0
        return 1 << 52 | direction << 51 | size << 48 | port << 32 | (data[0] if data else 0)

    def mmio(self, gpa: int, size: int, data: bytes | None) -> int:
        """KVM_EXIT_MMIO: a write of `data`, or a read."""
        self.exit(k.KVM_EXIT_MMIO)
        self.page.mmio(gpa, size, data)
        return 0

    def debug(self, exception: int, dr6: int) -> int:
        """KVM_EXIT_DEBUG at the present instruction."""
        self.exit(k.KVM_EXIT_DEBUG)
        env, arch = self._env, self.page.c.debug.arch
        arch.exception, arch.pc = exception, env.cs.base + env.rip & MASK64
        arch.dr6, arch.dr7 = dr6 | DR6_FIXED, self.vcpu.debug.dr7
        return 0

    def interrupted(self) -> int:
        """Whoever kicked this vCPU gets what a signal does: EINTR."""
        self.vcpu.kicked = False
        self.vcpu.engine.cpu.kick = 0
        self.exit(k.KVM_EXIT_INTR)
        return -errno.EINTR

    def complete(self) -> None:
        """Finishes the instruction of the last exit. Raises GuestFault."""
        if self.pending is not None:
            (finish, rip), self.pending = self.pending, None
            if self._cpu.rip == rip:  # else userspace has set it elsewhere meanwhile
                finish()
