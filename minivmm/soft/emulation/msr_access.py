"""RDMSR and WRMSR; where they are refused, userspace may answer instead of us.

Source: KVM API, KVM_CAP_X86_USER_SPACE_MSR; KVM_EXIT_X86_RDMSR and KVM_EXIT_X86_WRMSR.
"""

from __future__ import annotations

from minivmm.kvm import constants as k
from minivmm.soft.binding import lib
from minivmm.soft.emulation.group import Group, Handlers
from minivmm.soft.emulation.kinds import Kind
from minivmm.soft.exits import Result
from minivmm.soft.msrs import MsrRefused
from minivmm.soft.processor import PROTECTION, GuestFault


class MsrInstructions(Group):
    def handlers(self) -> Handlers:
        return {Kind.RDMSR: self._rdmsr, Kind.WRMSR: self._wrmsr}

    def _rdmsr(self) -> Result:
        self.require_ring_0()
        index, length = self.env.rcx & 0xFFFFFFFF, self.native.length
        try:
            self.vcpu.msrs.check_filter(index, write=False)
            value = self.vcpu.msrs.read(index)
        except MsrRefused as refusal:
            return self._exit(k.KVM_EXIT_X86_RDMSR, refusal.reason, index, 0, length)
        self._finish_rdmsr(value, length)
        return None

    def _finish_rdmsr(self, value: int, length: int) -> None:
        env = self.cpu.look()
        env.rax, env.rdx = value & 0xFFFFFFFF, value >> 32
        lib.soft_put(self.native)
        self.cpu.retire(length)

    def _wrmsr(self) -> Result:
        self.require_ring_0()
        env, length = self.env, self.native.length
        index, value = env.rcx & 0xFFFFFFFF, (env.rdx & 0xFFFFFFFF) << 32 | env.rax & 0xFFFFFFFF
        try:
            self.vcpu.msrs.check_filter(index, write=True)
            self.vcpu.msrs.write(index, value)
        except MsrRefused as refusal:
            return self._exit(k.KVM_EXIT_X86_WRMSR, refusal.reason, index, value, length)
        self.cpu.retire(length)
        return None

    def _exit(self, reason: int, why: int, index: int, value: int, length: int) -> Result:
        if not why & self.vcpu.vm.msr_exits:
            raise GuestFault(PROTECTION, 0)
        self.exits.exit(reason)
        msr = self.exits.page.c.msr
        msr.error, msr.reason, msr.index, msr.data = 0, why, index, value

        def complete() -> None:
            if msr.error:
                raise GuestFault(PROTECTION, 0)
            if reason == k.KVM_EXIT_X86_RDMSR:
                self._finish_rdmsr(msr.data, length)
            else:
                self.cpu.retire(length)

        self.exits.pending = complete, self.env.rip
        return 0
