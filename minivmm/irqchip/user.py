"""Everything in Python: two 8259A, an 8254, and HLT. No APIC, so there is one processor, as in the first PCs."""

from __future__ import annotations

from collections.abc import Sequence

from minivmm.bus import Device
from minivmm.irqchip.legacy import Legacy
from minivmm.irqchip.model import Runnable
from minivmm.vcpu import Vcpu
from minivmm.vm import Vm


class UserIrqchip(Legacy):
    """See model.Irqchip."""

    name = "user"
    has_apics = in_kernel = sleeps_in_kernel = False
    addresses: Sequence[Device] = ()

    def __init__(self, vm: Vm) -> None:
        super().__init__()
        vm.prepare_for_vtx()

    def attach(self, vcpu: Vcpu) -> Runnable:
        if vcpu.index:
            raise ValueError("Without local APICs there is one processor: use the kernel's irqchip, or split.")
        return self._connect(vcpu)

    def sleeps(self, vcpu: Vcpu) -> bool:
        if not vcpu.run_page.c.if_flag:
            return False  # nothing but an NMI or a reset would end this sleep, and nobody here sends one
        assert self._injector is not None
        self._injector.is_halted = True
        return True

    def ended(self, vector: int) -> None:
        pass
