"""MOV to and from control and debug registers, LMSW, XSETBV. What is allowed, control_registers.py knows."""

from __future__ import annotations

from minivmm.kvm import constants as k
from minivmm.soft.binding import lib
from minivmm.soft.control_registers import (
    debug_register,
    operands,
    write_cr0,
    write_cr4,
    write_debug_register,
)
from minivmm.soft.emulation.group import Group, Handlers
from minivmm.soft.emulation.kinds import Kind
from minivmm.soft.exits import Result
from minivmm.soft.processor import MASK64, PROTECTION, UNDEFINED, GuestFault
from minivmm.x86.bits import CR4_OSXSAVE


class ControlRegisterInstructions(Group):
    def handlers(self) -> Handlers:
        return {
            Kind.MOV_TO_CR: self._mov_to_cr,
            Kind.MOV_FROM_CR: self._mov_from_cr,
            Kind.MOV_TO_DR: self._mov_to_dr,
            Kind.MOV_FROM_DR: self._mov_from_dr,
            Kind.LMSW: self._lmsw,
            Kind.XSETBV: self._xsetbv,
        }

    def _operands(self) -> tuple[int, str, int]:
        """The number of the special register, the name of the general one, and its value as far as it counts."""
        self.require_ring_0()
        number, register = operands(self.code, self.cpu.bits)
        return number, register, getattr(self.env, register) & (MASK64 if self.cpu.bits == 64 else 0xFFFFFFFF)

    def _mov_to_cr(self) -> Result:
        number, _, value = self._operands()
        if number == 0:
            write_cr0(self.cpu, value)
        elif number == 2:
            self.env.cr2 = value
        elif number == 4:
            write_cr4(self.cpu, value, self.vcpu.cpuid.cr4_allowed)
        elif number == 8:
            return self._write_cr8(value)
        else:
            raise GuestFault(UNDEFINED)
        self.cpu.put()
        self.cpu.engine.flush_tlb()
        self.retire()
        return None

    def _write_cr8(self, value: int) -> Result:
        if value >> 4:
            raise GuestFault(PROTECTION, 0)
        before = self.vcpu.cr8
        self.vcpu.write_cr8(value)
        self.finish_before_exit(self.retire)
        if self.vcpu.apic is None and value < before:
            return self.exits.exit(k.KVM_EXIT_SET_TPR)  # an interrupt controller in userspace may have waited for it
        return None

    def _mov_from_cr(self) -> Result:
        number, register, _ = self._operands()
        self._give(register, self.vcpu.read_cr8() if number == 8 else self.env.cr0)
        return None

    def _mov_to_dr(self) -> Result:
        number, _, value = self._operands()
        write_debug_register(self.cpu, debug_register(self.cpu, number), value)
        self.vcpu.debug.refresh()
        self.retire()
        return None

    def _mov_from_dr(self) -> Result:
        number, register, _ = self._operands()
        self._give(register, self.cpu.dr[debug_register(self.cpu, number)])
        return None

    def _give(self, register: str, value: int) -> None:
        setattr(self.env, register, value)
        lib.soft_put(self.native)
        self.retire()

    def _lmsw(self) -> Result:
        """LMSW may set PE but not clear it (SDM vol. 2). Its operand the engine reads, by a step; we watch CR0."""
        self.require_ring_0()
        result = self.loop.native_step()
        self.cpu.look()
        self.cpu.put()  # the page walk must know of the new CR0
        return result

    def _xsetbv(self) -> Result:
        """Checked here, carried out by the engine."""
        env = self.env
        if not env.cr4 & CR4_OSXSAVE:
            raise GuestFault(UNDEFINED)
        self.require_ring_0()
        value = (env.rdx & 0xFFFFFFFF) << 32 | env.rax & 0xFFFFFFFF
        if env.rcx & 0xFFFFFFFF or not value & 1 or value & ~self.vcpu.cpuid.xcr0_allowed:
            raise GuestFault(PROTECTION, 0)
        return self.loop.native_step()
