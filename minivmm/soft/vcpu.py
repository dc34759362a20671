"""One vCPU of the soft backend: its state, and the ioctls on its handle. KVM_RUN itself is run/loop.py's.

Source: KVM API, section 4, "Type: vcpu ioctl".
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from minivmm.kvm import constants as k
from minivmm.kvm import ioctls
from minivmm.soft import fpu, registers, xcr0
from minivmm.soft.clock import TSC_KHZ
from minivmm.soft.control_registers import DR6_FIXED, DR7_FIXED
from minivmm.soft.engine import PHYSICAL_BITS, Engine
from minivmm.soft.irq_ioctls import vcpu_ioctl as irqchip_ioctl
from minivmm.soft.msrs import MsrRefused
from minivmm.soft.page import MOST
from minivmm.soft.parts import VcpuParts, VmParts
from minivmm.soft.pointers import struct_at
from minivmm.soft.processor import GuestFault
from minivmm.soft.run.loop import Runner

RUNNABLE = k.KVM_MP_STATE_RUNNABLE


class SoftVcpu:
    """The handle of vCPU `number`. All ioctls but those that only take note are made while no engine of the VM runs."""

    def __init__(self, vm: VmParts, number: int) -> None:
        self.vm = vm
        self.number = number
        self.parts = VcpuParts(vm, number)
        self.engine: Engine = self.parts.engine
        self.runner = Runner(self.parts)
        self.run: Callable[[], int] = self.runner.run

    # ---- the ioctls ----

    def ioctl(self, request: int, argument: Any) -> int:
        """One ioctl: its result, or -errno."""
        found = _IOCTLS.get(request)
        if found is None:
            return self._elsewhere(request, argument)
        answer, kind = found
        structure = argument if kind is None else struct_at(kind, argument)
        if structure is None:
            return -errno.EFAULT
        with self.vm.turn:
            return -errno.EBADF if self.parts.closed else answer(self, structure)

    def _elsewhere(self, request: int, argument: Any) -> int:
        if self.vm.irqchip is not None and request in (ioctls.KVM_GET_LAPIC, ioctls.KVM_SET_LAPIC):
            result = irqchip_ioctl(self.vm.irqchip, self.number, request, argument)
            return -errno.EINVAL if result is None else result
        return -errno.EINVAL  # as KVM: a vCPU's handle knows EINVAL for what it doesn't know

    def translate(self, translation: Any) -> int:
        cpu = self.parts.processor
        cpu.look()
        try:
            translation.physical_address = cpu.translate(translation.linear_address)
            translation.valid = 1
        except GuestFault:
            translation.physical_address, translation.valid = (1 << 64) - 1, 0
        translation.writeable, translation.usermode = 1, 0  # KVM says so always
        return 0

    def interrupt(self, interrupt: Any) -> int:
        if interrupt.irq > 255:
            return -errno.EINVAL
        chip = self.vm.irqchip
        if chip is None:
            self.parts.events.interrupt = interrupt.irq
            return 0
        if not chip.split:
            return -errno.ENXIO
        return 0 if chip.inject(self.number, interrupt.irq) else -errno.EEXIST

    def queue_nmi(self, _: Any) -> int:
        self.parts.nmi()
        return 0

    def get_mp_state(self, mp: Any) -> int:
        mp.mp_state = self.parts.mp_state
        return 0

    def set_mp_state(self, mp: Any) -> int:
        allowed = (RUNNABLE,) if self.vm.irqchip is None else range(5)
        if mp.mp_state not in allowed:
            return -errno.EINVAL
        self.parts.mp_state = mp.mp_state
        self.parts.wake()
        return 0

    def get_debugregs(self, registers: Any) -> int:
        for i in range(4):
            registers.db[i] = self.parts.processor.dr[i]
        registers.dr6, registers.dr7, registers.flags = self.parts.processor.dr[6], self.parts.processor.dr[7], 0
        return 0

    def set_debugregs(self, registers: Any) -> int:
        if registers.flags or registers.dr6 >> 32 or registers.dr7 >> 32:
            return -errno.EINVAL
        self.parts.processor.dr[:4] = list(registers.db)
        self.parts.processor.dr[6] = registers.dr6 | DR6_FIXED
        self.parts.processor.dr[7] = registers.dr7 | DR7_FIXED
        self.parts.debug.refresh()
        return 0

    def set_guest_debug(self, debug: Any) -> int:
        return self.parts.debug.set(debug)

    def get_msrs(self, msrs: Any) -> int:
        for done in range(msrs.nmsrs):
            try:
                msrs.entries[done].data = self.parts.msrs.read(msrs.entries[done].index, host=True)
            except MsrRefused:
                return done
        return int(msrs.nmsrs)

    def set_msrs(self, msrs: Any) -> int:
        for done in range(msrs.nmsrs):
            try:
                self.parts.msrs.write(msrs.entries[done].index, msrs.entries[done].data, host=True)
            except MsrRefused:
                return done
        return int(msrs.nmsrs)

    def set_cpuid2(self, cpuid: Any) -> int:
        if cpuid.nent > 256:
            return -errno.E2BIG
        self.parts.cpuid.set([cpuid.entries[i] for i in range(cpuid.nent)])
        if self.parts.apic:
            self.parts.apic.has_x2apic, self.parts.apic.has_deadline = (
                self.parts.cpuid.has("x2apic"),
                self.parts.cpuid.has("tsc_deadline_timer"),
            )
            self.parts.apic.physical_bits = PHYSICAL_BITS
        return 0

    def get_cpuid2(self, cpuid: Any) -> int:
        entries = self.parts.cpuid.entries()
        if cpuid.nent < len(entries):
            cpuid.nent = len(entries)
            return -errno.E2BIG
        for i, entry in enumerate(entries):
            for name, value in entry.items():
                setattr(cpuid.entries[i], name, value)
        cpuid.nent = len(entries)
        return 0

    def enable_cap(self, cap: Any) -> int:
        return -errno.EINVAL

    def tsc_khz(self, _: Any) -> int:
        return TSC_KHZ

    def map(self, size: int) -> Any:
        """What mmap() of the handle gives."""
        return self.parts.page.c if size <= MOST else None

    def close(self) -> None:
        self.parts.kick()  # ends its turn soon
        with self.vm.turn:
            self.vm.vcpus.pop(self.number, None)
            self.parts.close()


def _set_xcrs(parts: VcpuParts, xcrs: Any) -> int:
    return xcr0.set_xcrs(parts.processor, xcrs, parts.cpuid.xcr0_allowed)


def _of_parts(answer: Callable[[VcpuParts, Any], int]) -> Callable[[SoftVcpu, Any], int]:
    """An ioctl that is about the vCPU's state alone."""
    return lambda vcpu, structure: answer(vcpu.parts, structure)


def _of_engine(answer: Callable[[Engine, Any], int | None]) -> Callable[[SoftVcpu, Any], int]:
    """An ioctl that the engine alone answers."""
    return lambda vcpu, structure: answer(vcpu.engine, structure) or 0


_IOCTLS: dict[int, tuple[Callable[[SoftVcpu, Any], int], str | None]] = {
    ioctls.KVM_GET_REGS: (_of_parts(registers.get_regs), "kvm_regs"),
    ioctls.KVM_SET_REGS: (_of_parts(registers.set_regs), "kvm_regs"),
    ioctls.KVM_GET_SREGS: (_of_parts(registers.get_sregs), "kvm_sregs"),
    ioctls.KVM_SET_SREGS: (_of_parts(registers.set_sregs), "kvm_sregs"),
    ioctls.KVM_TRANSLATE: (SoftVcpu.translate, "kvm_translation"),
    ioctls.KVM_INTERRUPT: (SoftVcpu.interrupt, "kvm_interrupt"),
    ioctls.KVM_NMI: (SoftVcpu.queue_nmi, None),
    ioctls.KVM_GET_MSRS: (SoftVcpu.get_msrs, "kvm_msrs"),
    ioctls.KVM_SET_MSRS: (SoftVcpu.set_msrs, "kvm_msrs"),
    ioctls.KVM_GET_FPU: (_of_engine(fpu.get_fpu), "kvm_fpu"),
    ioctls.KVM_SET_FPU: (_of_engine(fpu.set_fpu), "kvm_fpu"),
    ioctls.KVM_GET_XSAVE: (_of_engine(fpu.get_xsave), "kvm_xsave"),
    ioctls.KVM_SET_XSAVE: (_of_engine(fpu.set_xsave), "kvm_xsave"),
    ioctls.KVM_GET_XCRS: (lambda vcpu, xcrs: xcr0.get_xcrs(vcpu.parts.processor, xcrs), "kvm_xcrs"),
    ioctls.KVM_SET_XCRS: (lambda vcpu, xcrs: _set_xcrs(vcpu.parts, xcrs), "kvm_xcrs"),
    ioctls.KVM_SET_CPUID2: (SoftVcpu.set_cpuid2, "kvm_cpuid2"),
    ioctls.KVM_GET_CPUID2: (SoftVcpu.get_cpuid2, "kvm_cpuid2"),
    ioctls.KVM_GET_MP_STATE: (SoftVcpu.get_mp_state, "kvm_mp_state"),
    ioctls.KVM_SET_MP_STATE: (SoftVcpu.set_mp_state, "kvm_mp_state"),
    ioctls.KVM_GET_VCPU_EVENTS: (_of_parts(registers.get_events), "kvm_vcpu_events"),
    ioctls.KVM_SET_VCPU_EVENTS: (_of_parts(registers.set_events), "kvm_vcpu_events"),
    ioctls.KVM_GET_DEBUGREGS: (SoftVcpu.get_debugregs, "kvm_debugregs"),
    ioctls.KVM_SET_DEBUGREGS: (SoftVcpu.set_debugregs, "kvm_debugregs"),
    ioctls.KVM_SET_GUEST_DEBUG: (SoftVcpu.set_guest_debug, "kvm_guest_debug"),
    ioctls.KVM_GET_TSC_KHZ: (SoftVcpu.tsc_khz, None),
    ioctls.KVM_ENABLE_CAP: (SoftVcpu.enable_cap, "kvm_enable_cap"),
}
