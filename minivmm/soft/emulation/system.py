"""HLT, CPUID, system calls and hypercalls, and PAUSE."""

from __future__ import annotations

from minivmm.soft import syscalls
from minivmm.soft.binding import lib
from minivmm.soft.emulation.group import Group, Handlers
from minivmm.soft.emulation.kinds import Kind
from minivmm.soft.exits import Result
from minivmm.soft.lapic import BASE_ENABLED
from minivmm.soft.processor import MASK64, UNDEFINED, GuestFault
from minivmm.x86.bits import CR4_OSXSAVE, RFLAGS_TF

_VAPIC_POLL_IRQ, _EPERM, _ENOSYS = 1, 1, 1000  # a hypercall; what they return, negated (linux/kvm_para.h)


class SystemInstructions(Group):
    def handlers(self) -> Handlers:
        return {
            Kind.HLT: self._hlt,
            Kind.PAUSE: self._pause,
            Kind.CPUID: self._cpuid,
            Kind.SYSCALL: self._syscall,
            Kind.SYSENTER: self._sysenter,
            Kind.HYPERCALL: self._hypercall,
            Kind.ABSENT: self._undefined,
        }

    def _hlt(self) -> Result:
        self.require_ring_0()
        self.retire()
        return self.loop.halt()

    def _pause(self) -> Result:
        """The guest waits for another vCPU: the run loop lets that one have its turn."""
        self.retire()
        return None

    def _cpuid(self) -> Result:
        env = self.env
        leaf, index = env.rax & 0xFFFFFFFF, env.rcx & 0xFFFFFFFF
        osxsave, apic = bool(env.cr4 & CR4_OSXSAVE), bool(self.vcpu.msrs.apic_base & BASE_ENABLED)
        answer = self.vcpu.cpuid.lookup(leaf, index, osxsave=osxsave, apic=apic)
        env.rax, env.rbx, env.rcx, env.rdx = answer
        lib.soft_put(self.native)
        self.retire()
        return None

    def _syscall(self) -> Result:
        traced = self.cpu.flags & RFLAGS_TF
        syscalls.syscall(self.cpu, self.vcpu.msrs, self.native.length)
        self.native.retired += 1
        if traced and self.cpu.flags & RFLAGS_TF:
            raise self.cpu.single_step_trap()
        return None

    def _sysenter(self) -> Result:
        syscalls.sysenter(self.cpu, self.vcpu.msrs)
        self.native.retired += 1
        return None

    def _hypercall(self) -> Result:
        """KVM's own hypercalls: of those, only the one that does nothing needs no feature that CPUID would show."""
        env = self.env
        if self.cpu.protected and self.cpu.cpl:
            result = -_EPERM
        else:
            result = 0 if env.rax & 0xFFFFFFFF == _VAPIC_POLL_IRQ else -_ENOSYS
        env.rax = result & (MASK64 if self.cpu.bits == 64 else 0xFFFFFFFF)
        lib.soft_put(self.native)
        self.retire()
        return None

    def _undefined(self) -> Result:
        raise GuestFault(UNDEFINED)
