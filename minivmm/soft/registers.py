"""The registers and events of a vCPU as userspace sees them: by ioctls, and in the shared page.

Each function takes a structure of the KVM API and returns 0, or -errno.

Source: KVM API 4.11 KVM_GET_REGS to 4.14 KVM_SET_SREGS, 4.31 KVM_GET_VCPU_EVENTS, KVM_CAP_SYNC_REGS.
"""

from __future__ import annotations

import errno
from typing import Any

from minivmm.kvm import constants as k
from minivmm.kvm.binding import ffi
from minivmm.soft import state
from minivmm.soft.binding import ffi as native
from minivmm.soft.binding import lib
from minivmm.soft.control_registers import valid_sregs
from minivmm.soft.page import SYNCED
from minivmm.soft.parts import VcpuParts
from minivmm.x86.bits import RFLAGS_FIXED


def get_regs(vcpu: VcpuParts, regs: Any) -> int:
    lib.soft_get_regs(vcpu.engine.cpu, _as_array(regs))
    return 0


def set_regs(vcpu: VcpuParts, regs: Any) -> int:
    regs_in = ffi.new("struct kvm_regs *", regs[0])
    regs_in.rflags = regs_in.rflags & state.DEFINED_FLAGS | RFLAGS_FIXED
    if regs_in.rip != vcpu.processor.rip:
        vcpu.devices.forget()  # another instruction comes next; else the one that waits is still completed
    vcpu.events.exception = None
    lib.soft_set_regs(vcpu.engine.cpu, _as_array(regs_in))
    return 0


def _as_array(regs: Any) -> Any:
    """A `struct kvm_regs *` as the engine's array of numbers: they lie in the same order."""
    return native.cast("uint64_t *", regs)


def get_sregs(vcpu: VcpuParts, sregs: Any) -> int:
    state.sregs_to_kvm(vcpu.processor.look(), sregs)
    sregs.cr8 = vcpu.read_cr8()
    sregs.apic_base = vcpu.msrs.apic_base
    for i in range(4):
        sregs.interrupt_bitmap[i] = 0
    if (vector := vcpu.events.interrupt) is not None:
        sregs.interrupt_bitmap[vector // 64] |= 1 << vector % 64
    return 0


def set_sregs(vcpu: VcpuParts, sregs: Any) -> int:
    if not valid_sregs(sregs, vcpu.cpuid.cr4_allowed) or not vcpu.msrs.set_apic_base(sregs.apic_base):
        return -errno.EINVAL
    env = vcpu.processor.look()
    flags = vcpu.processor.flags
    state.sregs_from_kvm(sregs, env)
    state.set_flags(env, flags)
    vcpu.processor.put()
    vcpu.engine.flush_tlb()  # CR3 may be another
    vcpu.write_cr8(sregs.cr8)
    pending = [i for i in range(256) if sregs.interrupt_bitmap[i // 64] >> i % 64 & 1]
    vcpu.events.interrupt = pending[-1] if pending else vcpu.events.interrupt
    return 0


def get_events(vcpu: VcpuParts, events: Any) -> int:
    in_shadow = vcpu.processor.look().hflags & state.HF_SHADOW
    vcpu.events.to_kvm(events, k.KVM_X86_SHADOW_INT_STI if in_shadow else 0)
    return 0


def set_events(vcpu: VcpuParts, events: Any) -> int:
    result = vcpu.events.from_kvm(events)
    if not result and events.flags & k.KVM_VCPUEVENT_VALID_SHADOW:
        env = vcpu.processor.look()
        env.hflags = env.hflags & ~state.HF_SHADOW | (state.HF_SHADOW if events.interrupt.shadow else 0)
        vcpu.engine.put()
    return result


# ---- in the shared page (KVM_CAP_SYNC_REGS) ----


def sync_in(vcpu: VcpuParts) -> int:
    """Takes over what userspace changed in the page."""
    run = vcpu.page.c
    dirty, regs = run.kvm_dirty_regs, run.s.regs
    if (run.kvm_valid_regs | dirty) & ~SYNCED:
        return -errno.EINVAL
    if dirty & k.KVM_SYNC_X86_REGS:
        set_regs(vcpu, ffi.addressof(regs.regs))
    if dirty & k.KVM_SYNC_X86_SREGS and (result := set_sregs(vcpu, ffi.addressof(regs.sregs))):
        return result
    if dirty & k.KVM_SYNC_X86_EVENTS and (result := set_events(vcpu, ffi.addressof(regs.events))):
        return result
    run.kvm_dirty_regs = 0
    return 0


def sync_out(vcpu: VcpuParts) -> None:
    """Leaves the registers in the page, as far as userspace asked for them."""
    valid, regs = vcpu.page.c.kvm_valid_regs, vcpu.page.c.s.regs
    if valid & k.KVM_SYNC_X86_REGS:
        get_regs(vcpu, ffi.addressof(regs.regs))
    if valid & k.KVM_SYNC_X86_SREGS:
        get_sregs(vcpu, ffi.addressof(regs.sregs))
    if valid & k.KVM_SYNC_X86_EVENTS:
        get_events(vcpu, ffi.addressof(regs.events))
