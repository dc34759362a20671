"""The instructions that the engine stops before, carried out: I/O, HLT, MSRs, CPUID, control registers, system calls.

Each handler returns what KVM_RUN returns, or None where the guest goes on. A GuestFault is the guest's to handle.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import Protocol

from minivmm.kvm import constants as k
from minivmm.soft import port_io, segment_limits, state, syscalls
from minivmm.soft.binding import ffi, lib
from minivmm.soft.control_registers import (
    debug_register,
    operands,
    write_cr0,
    write_cr4,
    write_debug_register,
)
from minivmm.soft.engine import RAX
from minivmm.soft.internal_devices import InternalDevices
from minivmm.soft.lapic import BASE_ENABLED
from minivmm.soft.msrs import MsrRefused
from minivmm.soft.parts import VcpuParts
from minivmm.soft.port_io import PortInsn, StringStep
from minivmm.soft.processor import DEBUG, PROTECTION, UNDEFINED, GuestFault
from minivmm.soft.state import CR4_OSXSAVE

IN, OUT = k.KVM_EXIT_IO_IN, k.KVM_EXIT_IO_OUT
IRET_OPCODE = 0xCF
_VAPIC_POLL_IRQ, _EPERM, _ENOSYS = 1, 1, 1000  # a hypercall; what they return, negated (linux/kvm_para.h)


Result = int | None  # what KVM_RUN returns; None: go on in the guest
Pending = tuple[Callable[[], None], int]  # what completes an instruction, and the RIP that it must still be at


class Loop(Protocol):
    """What the instructions ask of the run loop."""

    vcpu: VcpuParts
    internal: InternalDevices
    pending: Pending | None  # completes the instruction when userspace comes back

    def exit(self, reason: int) -> int: ...
    def io_exit(self, direction: int, size: int, port: int, count: int, data: bytes = b"") -> int: ...
    def io_data(self, size: int) -> bytes: ...
    def debug_exit(self, exception: int, dr6: int) -> int: ...
    def halt(self) -> Result: ...
    def raise_in_guest(self, fault: GuestFault) -> None: ...
    def native_step(self) -> Result: ...


class Kind(IntEnum):
    """native/instructions.c, INSN_*."""

    NONE = 0
    IN = 1
    OUT = 2
    INS = 3
    OUTS = 4
    HLT = 5
    RDMSR = 6
    WRMSR = 7
    CPUID = 8
    SYSCALL = 9
    SYSENTER = 10
    HYPERCALL = 11
    MOV_TO_CR = 12
    MOV_FROM_CR = 13
    MOV_TO_DR = 14
    MOV_FROM_DR = 15
    LMSW = 16
    XSETBV = 17
    ABSENT = 18
    IRET = 19
    UNKNOWN = 20
    BREAKPOINT = 21
    LOAD_SEGMENT = 22
    NULL_SEGMENT = 23
    ICEBP = 24
    PAUSE = 25


class Instructions:
    """The handlers, for one vCPU. `env` is up to date when one is called: the engine looked before it stopped."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.vcpu = loop.vcpu
        self.vm = loop.vcpu.vm
        self.cpu = loop.vcpu.processor
        self.native = self.cpu.cpu
        self.env = self.cpu.env
        self._retires = [partial(self.cpu.retire, length) for length in range(16)]
        self._handlers: dict[int, Callable[[], Result]] = {
            Kind.IN: self._port,
            Kind.OUT: self._port,
            Kind.INS: self._string,
            Kind.OUTS: self._string,
            Kind.HLT: self._hlt,
            Kind.RDMSR: self._rdmsr,
            Kind.WRMSR: self._wrmsr,
            Kind.CPUID: self._cpuid,
            Kind.SYSCALL: self._syscall,
            Kind.SYSENTER: self._sysenter,
            Kind.HYPERCALL: self._hypercall,
            Kind.MOV_TO_CR: self._mov_to_cr,
            Kind.MOV_FROM_CR: self._mov_from_cr,
            Kind.MOV_TO_DR: self._mov_to_dr,
            Kind.MOV_FROM_DR: self._mov_from_dr,
            Kind.LMSW: self._lmsw,
            Kind.XSETBV: self._xsetbv,
            Kind.ABSENT: self._undefined,
            Kind.IRET: self._iret,
            Kind.UNKNOWN: self._native,
            Kind.BREAKPOINT: self._breakpoint,
            Kind.LOAD_SEGMENT: self._load_segment,
            Kind.NULL_SEGMENT: self._null_segment,
            Kind.ICEBP: self._icebp,
            Kind.PAUSE: self._pause,
        }

    def knows(self, kind: int) -> bool:
        """Whether the engine can't be left to do it."""
        return kind not in (Kind.NONE, Kind.UNKNOWN, Kind.PAUSE)

    def carry_out(self, kind: int) -> Result:
        return self._handlers[kind]()

    @property
    def _code(self) -> bytes:
        code: bytes = ffi.buffer(self.native.insn, self.native.length)[:]
        return code

    def _privileged(self) -> None:
        if self.cpu.protected and self.cpu.cpl:
            raise GuestFault(PROTECTION, 0)

    # ---- ports ----

    def _port(self) -> Result:
        insn = port_io.decode(self._code, self.cpu.bits)
        env, length, size = self.env, self.native.length, insn.size
        port = env.rdx & 0xFFFF if insn.port is None else insn.port
        if env.hflags & state.HF_CPL:  # ring 0 may use every port
            port_io.check_permission(self.cpu, port, size)
        internal = self.loop.internal
        if insn.is_in:
            if internal.has_port(port):
                self._finish_in(size, length, internal.port_in(port, size))
                return None
            self.loop.pending = (lambda: self._finish_in(size, length, self._answer(size))), env.rip
            return self.loop.io_exit(IN, size, port, 1)
        value = env.rax & (1 << 8 * size) - 1
        if internal.port_out(port, size, value):
            self.cpu.retire(length)
            return None
        self.loop.pending = self._retires[length], env.rip
        return self.loop.io_exit(OUT, size, port, 1, value.to_bytes(size, "little"))

    def _answer(self, size: int) -> int:
        return int.from_bytes(self.loop.io_data(size), "little")

    def _finish_in(self, size: int, length: int, value: int) -> None:
        rax = self.cpu.engine.get(RAX)
        mask = (1 << 8 * size) - 1
        # A 32-bit result clears the upper half of RAX, smaller ones leave it.
        self.cpu.engine.set(RAX, value if size == 4 else rax & ~mask | value & mask)
        self.cpu.retire(length)

    def _string(self) -> Result:
        insn = port_io.decode(self._code, self.cpu.bits)
        length, port = self.native.length, self.env.rdx & 0xFFFF
        port_io.check_permission(self.cpu, port, insn.size)
        step = port_io.next_items(self.cpu, insn)
        if step is None:
            self.cpu.retire(length)
            return None
        return self._ins(insn, step, port, length) if insn.is_in else self._outs(insn, step, port, length)

    def _outs(self, insn: PortInsn, step: StringStep, port: int, length: int) -> Result:
        data = port_io.outs_data(self.cpu, insn, step)
        try:
            self._advance(insn, step, length)
        except GuestFault as trap:
            self.loop.raise_in_guest(trap)  # a guest that steps itself: first the item goes out
        internal = self.loop.internal
        if internal.port_out(port, insn.size, int.from_bytes(data, "little")):
            return None
        return self.loop.io_exit(OUT, insn.size, port, step.count, data)

    def _ins(self, insn: PortInsn, step: StringStep, port: int, length: int) -> Result:
        port_io.check_ins(self.cpu, insn, step)
        total = insn.size * step.count
        internal = self.loop.internal
        if internal.has_port(port):
            items = (internal.port_in(port, insn.size).to_bytes(insn.size, "little") for _ in range(step.count))
            self._finish_ins(insn, step, length, b"".join(items))
            return None
        self.loop.pending = (lambda: self._finish_ins(insn, step, length, self.loop.io_data(total))), self.env.rip
        return self.loop.io_exit(IN, insn.size, port, step.count)

    def _finish_ins(self, insn: PortInsn, step: StringStep, length: int, data: bytes) -> None:
        self.cpu.look()
        self.cpu.write(step.address, data, user=self.cpu.cpl == 3)
        self._advance(insn, step, length)

    def _advance(self, insn: PortInsn, step: StringStep, length: int) -> None:
        done = port_io.advance(self.cpu, insn, step)
        lib.soft_put(self.native)
        if done:
            self.cpu.retire(length)

    # ---- HLT, CPUID, MSRs ----

    def _hlt(self) -> Result:
        self._privileged()
        self.cpu.retire(self.native.length)
        return self.loop.halt()

    def _cpuid(self) -> Result:
        env = self.env
        leaf, index = env.rax & 0xFFFFFFFF, env.rcx & 0xFFFFFFFF
        osxsave, apic = bool(env.cr4 & CR4_OSXSAVE), bool(self.vcpu.msrs.apic_base & BASE_ENABLED)
        answer = self.vcpu.cpuid.lookup(leaf, index, osxsave=osxsave, apic=apic)
        env.rax, env.rbx, env.rcx, env.rdx = answer
        lib.soft_put(self.native)
        self.cpu.retire(self.native.length)
        return None

    def _rdmsr(self) -> Result:
        self._privileged()
        index, length = self.env.rcx & 0xFFFFFFFF, self.native.length
        try:
            self.vcpu.msrs.check_filter(index, write=False)
            value = self.vcpu.msrs.read(index)
        except MsrRefused as refusal:
            return self._msr_exit(k.KVM_EXIT_X86_RDMSR, refusal.reason, index, 0, length)
        self._finish_rdmsr(value, length)
        return None

    def _finish_rdmsr(self, value: int, length: int) -> None:
        env = self.cpu.look()
        env.rax, env.rdx = value & 0xFFFFFFFF, value >> 32
        lib.soft_put(self.native)
        self.cpu.retire(length)

    def _wrmsr(self) -> Result:
        self._privileged()
        env, length = self.env, self.native.length
        index, value = env.rcx & 0xFFFFFFFF, (env.rdx & 0xFFFFFFFF) << 32 | env.rax & 0xFFFFFFFF
        try:
            self.vcpu.msrs.check_filter(index, write=True)
            self.vcpu.msrs.write(index, value)
        except MsrRefused as refusal:
            return self._msr_exit(k.KVM_EXIT_X86_WRMSR, refusal.reason, index, value, length)
        self.cpu.retire(length)
        return None

    def _msr_exit(self, reason: int, why: int, index: int, value: int, length: int) -> Result:
        """Userspace may answer instead of us, where KVM_CAP_X86_USER_SPACE_MSR says so; else it is #GP(0)."""
        if not why & self.vm.msr_exits:
            raise GuestFault(PROTECTION, 0)
        self.loop.exit(reason)
        msr = self.vcpu.page.c.msr
        msr.error, msr.reason, msr.index, msr.data = 0, why, index, value

        def complete() -> None:
            if msr.error:
                raise GuestFault(PROTECTION, 0)
            if reason == k.KVM_EXIT_X86_RDMSR:
                self._finish_rdmsr(msr.data, length)
            else:
                self.cpu.retire(length)

        self.loop.pending = complete, self.env.rip
        return 0

    # ---- system calls and hypercalls ----

    def _syscall(self) -> Result:
        traced = self.cpu.flags & state.TF
        syscalls.syscall(self.cpu, self.vcpu.msrs, self.native.length)
        self.native.retired += 1
        if traced and self.cpu.flags & state.TF:
            self.cpu.dr[6] |= 1 << 14
            raise GuestFault(DEBUG)
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
        env.rax = result & ((1 << 64) - 1 if self.cpu.bits == 64 else 0xFFFFFFFF)
        lib.soft_put(self.native)
        self.cpu.retire(self.native.length)
        return None

    # ---- control and debug registers ----

    def _mov_to_cr(self) -> Result:
        self._privileged()
        number, register = operands(self._code, self.cpu.bits)
        value = getattr(self.env, register) & ((1 << 64) - 1 if self.cpu.bits == 64 else 0xFFFFFFFF)
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
        self.cpu.retire(self.native.length)
        return None

    def _write_cr8(self, value: int) -> Result:
        if value >> 4:
            raise GuestFault(PROTECTION, 0)
        vcpu, length = self.vcpu, self.native.length
        before = vcpu.cr8
        vcpu.write_cr8(value)
        self.cpu.retire(length)
        if vcpu.apic is None and value < before:
            return self.loop.exit(k.KVM_EXIT_SET_TPR)  # an interrupt controller in userspace may have waited for it
        return None

    def _mov_from_cr(self) -> Result:
        self._privileged()
        number, register = operands(self._code, self.cpu.bits)
        vcpu = self.vcpu
        if number == 8:
            value = vcpu.read_cr8()
        else:
            value = self.env.cr0
        setattr(self.env, register, value)
        lib.soft_put(self.native)
        self.cpu.retire(self.native.length)
        return None

    def _mov_to_dr(self) -> Result:
        self._privileged()
        number, register = operands(self._code, self.cpu.bits)
        value = getattr(self.env, register) & ((1 << 64) - 1 if self.cpu.bits == 64 else 0xFFFFFFFF)
        write_debug_register(self.cpu, debug_register(self.cpu, number), value)
        self.cpu.retire(self.native.length)
        self.vcpu.debug.refresh()
        return None

    def _mov_from_dr(self) -> Result:
        self._privileged()
        number, register = operands(self._code, self.cpu.bits)
        setattr(self.env, register, self.cpu.dr[debug_register(self.cpu, number)])
        lib.soft_put(self.native)
        self.cpu.retire(self.native.length)
        return None

    def _lmsw(self) -> Result:
        """LMSW may set PE but not clear it (SDM vol. 2). Its operand the engine reads, by a step; we watch CR0."""
        self._privileged()
        result = self._native()
        self.cpu.look()
        self.cpu.put()  # the page walk must know of the new CR0
        return result

    def _xsetbv(self) -> Result:
        """Checked here, carried out by the engine."""
        env = self.env
        if not env.cr4 & CR4_OSXSAVE:
            raise GuestFault(UNDEFINED)
        self._privileged()
        value = (env.rdx & 0xFFFFFFFF) << 32 | env.rax & 0xFFFFFFFF
        if env.rcx & 0xFFFFFFFF or not value & 1 or value & ~self.vcpu.cpuid.xcr0_allowed:
            raise GuestFault(PROTECTION, 0)
        return self._native()

    # ---- the rest ----

    def _undefined(self) -> Result:
        raise GuestFault(UNDEFINED)

    def _native(self) -> Result:
        """Left to the engine, alone."""
        return self.loop.native_step()

    def _iret(self) -> Result:
        """The end of an NMI handler: the next NMI may come (SDM vol. 3, "Handling Multiple NMIs")."""
        result = self._native()
        self.vcpu.events.nmi_masked = False
        self.native.watch_iret = 0
        return result

    def _load_segment(self) -> Result:
        """Left to the engine; but limits may matter from now on. IRET is one of these, too."""
        is_iret = self._code[-1] == IRET_OPCODE
        if self.cpu.limited:
            segment_limits.check(self.cpu, self._code)
        result = self._iret() if is_iret and self.native.watch_iret else self._native()
        self.cpu.look()
        self.cpu.notice_segments()
        return result

    def _null_segment(self) -> Result:
        """An access through FS or GS, which is null."""
        segment_limits.check(self.cpu, self._code)
        return self._native()

    def _icebp(self) -> Result:
        """INT1: a debug trap behind the instruction."""
        self.cpu.retire(self.native.length)
        raise GuestFault(DEBUG)

    def _pause(self) -> Result:
        """The guest waits for another vCPU: the run loop lets that one have its turn."""
        self.cpu.retire(self.native.length)
        return None

    def _breakpoint(self) -> Result:
        hit = self.vcpu.debug.hit(self.native.pc)
        if self.vcpu.debug.owns_breakpoints:
            return self.loop.debug_exit(DEBUG, hit)
        self.cpu.dr[6] = self.cpu.dr[6] & ~0xF | hit
        raise GuestFault(DEBUG)
