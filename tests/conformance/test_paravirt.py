"""What KVM offers a guest that knows it: hypercalls, kvmclock, steal time.

Source: Documentation/virt/kvm/x86/hypercalls.rst, msr.rst, cpuid.rst; KVM API, KVM_GET_CLOCK.
"""

from __future__ import annotations

import struct as packing
import time

import pytest
from rig import HLT, LONG, PATIENCE, PROTECTED, Trapped, asm32, asm64
from rig.layout import DATA

from minivmm.kvm import ioctls as io
from minivmm.kvm.calls import struct
from minivmm.x86 import msrs

KVM_ENOSYS, KVM_EPERM, KVM_EOPNOTSUPP = 1000, 1, 95
AMD = 0x68747541
WALL_CLOCK, SYSTEM_TIME, STEAL_TIME = (
    msrs.NUMBERS[name] for name in ("KVM_WALL_CLOCK_NEW", "KVM_SYSTEM_TIME_NEW", "KVM_STEAL_TIME")
)


@pytest.mark.parametrize("code", [asm64("vmcall; hlt"), asm64("vmmcall; hlt")], ids=["vmcall", "vmmcall"])
def test_an_unknown_hypercall(start, code):
    """Either instruction works on either vendor: KVM corrects the guest's code (KVM_X86_QUIRK_FIX_HYPERCALL_INSN)."""
    guest = start(LONG, code, rax=0x1234)
    assert guest.trace(patience=PATIENCE / 5) == [HLT]
    assert guest.regs.rax == (1 << 64) - KVM_ENOSYS


def hypercall(guest):
    """The hypercall instruction of this vendor."""
    return asm64("vmmcall; hlt") if guest.leaf(0).ebx == AMD else asm64("vmcall; hlt")


def test_the_hypercall_that_does_nothing(start):
    guest = start(LONG, asm64("hlt"), rax=1)  # KVM_HC_VAPIC_POLL_IRQ
    guest.write(0x1000, hypercall(guest))
    assert guest.trace(patience=PATIENCE / 5) == [HLT]
    assert guest.regs.rax == 0


def test_ring_3_may_not_call(start):
    guest = start(LONG, asm64("hlt"), ring=3, rax=1)
    guest.write(0x1000, hypercall(guest)[:3] + asm64("ud2"))
    assert guest.trace(patience=PATIENCE / 5) == [Trapped(6)]
    assert guest.regs.rax == (1 << 64) - KVM_EPERM


def test_a_hypercall_from_32_bit_code_returns_32_bits(start):
    guest = start(PROTECTED, asm32("vmcall; hlt"), rax=0x1234)
    guest.write(0x1000, hypercall(guest))
    assert guest.trace(patience=PATIENCE / 5) == [HLT]
    assert guest.regs.rax == (1 << 32) - KVM_ENOSYS


def test_cpuid_offers_the_clock(vm):
    assert vm.leaf(0x40000001).eax & 1 << 3  # KVM_FEATURE_CLOCKSOURCE2


def clock(guest):
    """struct pvclock_vcpu_time_info: version, TSC stamp, nanoseconds, multiplier, shift."""
    version, _, stamp, system, mul, shift, _ = packing.unpack("<IIQQIbB", guest.read(DATA, 30))
    return version, stamp, system, mul, shift


def test_kvmclock(start):
    guest = start(LONG, asm64("wrmsr; mov dx, 0x123; out dx, al; hlt"), rcx=SYSTEM_TIME, rax=DATA | 1)
    guest.cpu.run()
    version, stamp, system, mul, _ = clock(guest)
    assert (version % 2, version > 0, mul > 0, stamp > 0, system > 0) == (0, True, True, True, True)


def test_kvmclock_runs_with_real_time(start):
    code = asm64("""
        wrmsr; out 0x77, al; rdtsc; shl rdx, 32; or rax, rdx; mov rbx, rax; out 0x77, al
        rdtsc; shl rdx, 32; or rax, rdx; hlt
    """)  # fmt: skip
    guest = start(LONG, code, rcx=SYSTEM_TIME, rax=DATA | 1)
    guest.cpu.run()
    guest.cpu.run()
    begun = time.monotonic()
    time.sleep(0.3)
    assert guest.trace() == [HLT]
    waited = time.monotonic() - begun
    _, _, _, mul, shift = clock(guest)
    cycles = guest.regs.rax - guest.regs.rbx
    seconds = ((cycles << shift if shift >= 0 else cycles >> -shift) * mul >> 32) / 1e9
    assert 0.25 <= seconds <= waited * 1.5 + 0.1


def test_the_wall_clock(start):
    guest = start(LONG, asm64("wrmsr; hlt"), rcx=WALL_CLOCK, rax=DATA)
    assert guest.trace() == [HLT]
    version, seconds, _ = packing.unpack("<III", guest.read(DATA, 12))
    assert (version % 2, version > 0) == (0, True)
    assert abs(seconds - time.time()) < 3600 * 24  # the time of day when this VM's clock began


def test_steal_time(start):
    guest = start(LONG, asm64("wrmsr; mov dx, 0x123; out dx, al; hlt"), rcx=STEAL_TIME, rax=DATA | 1)
    if not guest.leaf(0x40000001).eax >> 5 & 1:
        pytest.skip("CPUID offers no steal time")
    guest.cpu.run()
    guest.trace()
    _, version = packing.unpack("<QI", guest.read(DATA, 12))  # KVM may begin with what its thread waited before
    assert (version % 2, version > 0) == (0, True)


def test_the_clock_can_be_set(start):
    guest = start(LONG, asm64("hlt"))
    guest.ioctl(io.KVM_SET_CLOCK, struct("kvm_clock_data", clock=10**15))
    now = struct("kvm_clock_data")
    guest.ioctl(io.KVM_GET_CLOCK, now)
    assert 10**15 <= now.clock < 10**15 + 600 * 10**9


def test_the_clock_goes_on(start):
    guest = start(LONG, asm64("hlt"))
    readings = []
    for _ in range(2):
        now = struct("kvm_clock_data")
        guest.ioctl(io.KVM_GET_CLOCK, now)
        readings.append(now.clock)
        time.sleep(0.01)
    assert readings[0] < readings[1]


def test_a_bad_address_for_steal_time_faults(start):
    guest = start(LONG, asm64("wrmsr; hlt"), rcx=STEAL_TIME, rax=DATA | 1 | 2)
    if not guest.leaf(0x40000001).eax >> 5 & 1:
        pytest.skip("CPUID offers no steal time")
    assert guest.trace() == [Trapped(13, 0)]
