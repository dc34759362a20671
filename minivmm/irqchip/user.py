"""Everything in Python: two 8259A, an 8254, and HLT. No APIC, so there is one processor, as in the first PCs."""

from __future__ import annotations

from collections.abc import Sequence

from minivmm.bus import Device
from minivmm.irqchip.legacy import Legacy
from minivmm.irqchip.model import Runnable
from minivmm.timers import Timers
from minivmm.vcpu import Vcpu
from minivmm.vm import Vm

APIC_ENABLED = 1 << 11  # of IA32_APIC_BASE


class UserIrqchip(Legacy):
    """See model.Irqchip."""

    has_apics = in_kernel = sleeps_in_kernel = False
    addresses: Sequence[Device] = ()

    def __init__(self, vm: Vm, timers: Timers) -> None:
        super().__init__(timers)
        vm.prepare_for_vtx()

    def attach(self, vcpu: Vcpu) -> Runnable:
        if vcpu.index:
            raise ValueError("Without local APICs there is one processor: use the kernel's irqchip, or split.")
        sregs = vcpu.get_sregs()
        sregs.apic_base &= ~APIC_ENABLED  # CPUID's APIC bit follows it, whatever KVM_SET_CPUID2 said
        vcpu.set_sregs(sregs)
        return self._connect(vcpu)

    def sleeps(self, vcpu: Vcpu) -> bool:
        if not vcpu.run_page.c.if_flag:
            return False  # nothing but an NMI or a reset would end this sleep, and nobody here sends one
        assert self._injector is not None
        self._injector.is_halted = True
        return True

    def ended(self, vector: int) -> None:
        pass
