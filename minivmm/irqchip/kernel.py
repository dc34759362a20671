"""All of it in the kernel: ports 0x20, 0x40, 0xA0 and the APICs' addresses never exit, nor does HLT.

Source: KVM API 4.24 KVM_CREATE_IRQCHIP, 4.25 KVM_IRQ_LINE, 4.71 KVM_CREATE_PIT2.
"""

from __future__ import annotations

from collections.abc import Sequence

from minivmm.bus import Device
from minivmm.irqchip.model import Runnable
from minivmm.kvm import constants as k
from minivmm.kvm import ioctls
from minivmm.kvm.calls import struct
from minivmm.line import Line
from minivmm.vcpu import Vcpu
from minivmm.vm import Vm


class KernelIrqchip:
    """See model.Irqchip."""

    has_apics = in_kernel = sleeps_in_kernel = True
    ports: Sequence[Device] = ()
    addresses: Sequence[Device] = ()

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        vm.prepare_for_vtx()
        vm.ioctl(ioctls.KVM_CREATE_IRQCHIP)
        # The speaker's port 0x61 comes along: through it guests watch counter 2, and measure the TSC.
        vm.ioctl(ioctls.KVM_CREATE_PIT2, struct("kvm_pit_config", flags=k.KVM_PIT_SPEAKER_DUMMY))

    def line(self, number: int) -> Line:
        wire = struct("kvm_irq_level", irq=number)  # one for each line: it is driven by one thread at a time

        def drive(number: int, level: bool) -> None:
            wire.irq, wire.level = number, level  # the kernel answers in the place of `irq`
            self._vm.ioctl(ioctls.KVM_IRQ_LINE, wire)

        return Line(drive, number)

    def attach(self, vcpu: Vcpu) -> Runnable:
        return vcpu

    def sleeps(self, vcpu: Vcpu) -> bool:
        return False  # such a HLT never comes out

    def ended(self, vector: int) -> None:
        pass
