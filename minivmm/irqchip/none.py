"""No interrupt controller: lines lead nowhere, and HLT is the end."""

from __future__ import annotations

from collections.abc import Sequence

from minivmm.bus import Device
from minivmm.irqchip.model import Runnable
from minivmm.line import Line
from minivmm.vcpu import Vcpu


class NoIrqchip:
    """See model.Irqchip."""

    has_apics = in_kernel = sleeps_in_kernel = False
    ports: Sequence[Device] = ()
    addresses: Sequence[Device] = ()

    def line(self, number: int) -> Line:
        return Line(lambda number, level: None, number)

    def attach(self, vcpu: Vcpu) -> Runnable:
        return vcpu

    def sleeps(self, vcpu: Vcpu) -> bool:
        return False

    def ended(self, vector: int) -> None:
        pass
