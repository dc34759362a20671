"""Split: KVM has a local APIC for each vCPU; the 8259A pair, the 8254 and the IOAPIC are in Python.

The IOAPIC sends its interrupts as messages (KVM_SIGNAL_MSI). For a level-triggered one it must hear when the processor
has ended it; KVM tells (KVM_EXIT_IOAPIC_EOI) of those vectors that it finds in the routes of the IOAPIC's pins, so the
routes follow the redirection table. The 8259A's INTR is wired to the first processor, as an external interrupt.

Source: KVM API 7.5 KVM_CAP_SPLIT_IRQCHIP, 4.70 KVM_SIGNAL_MSI, 4.52 KVM_SET_GSI_ROUTING.
"""

from __future__ import annotations

from collections.abc import Sequence

from minivmm.bus import Device
from minivmm.devices.ioapic import LEVEL, MASKED, PINS, IoApic, message_of
from minivmm.devices.msi import Message
from minivmm.irqchip.guarded import Guarded
from minivmm.irqchip.legacy import Legacy
from minivmm.irqchip.model import Runnable
from minivmm.kvm import constants as k
from minivmm.kvm import ioctls
from minivmm.kvm.binding import ffi
from minivmm.kvm.calls import struct
from minivmm.kvm.errors import KvmError
from minivmm.timers import Timers
from minivmm.vcpu import Vcpu
from minivmm.vm import Vm


class SplitIrqchip(Legacy):
    """See model.Irqchip. Raises KvmError where this KVM can't split."""

    has_apics = sleeps_in_kernel = True
    in_kernel = False

    def __init__(self, vm: Vm, timers: Timers) -> None:
        super().__init__(timers)
        self._vm = vm
        vm.prepare_for_vtx()
        vm.enable_cap(k.KVM_CAP_SPLIT_IRQCHIP, PINS)
        self._ioapic = IoApic(self._send)
        self._routed: dict[int, tuple[int, int]] = {}
        self.addresses: Sequence[Device] = [Guarded(self._ioapic, self._lock, self._reroute)]

    def attach(self, vcpu: Vcpu) -> Runnable:
        return vcpu if vcpu.index else self._connect(vcpu)

    def sleeps(self, vcpu: Vcpu) -> bool:
        return False  # KVM's local APIC puts the vCPU to sleep; such a HLT never comes out

    def ended(self, vector: int) -> None:
        with self._lock:
            self._ioapic.eoi(vector)

    def _drive(self, number: int, level: bool) -> None:
        with self._lock:
            super()._drive(number, level)
            self._ioapic.set_line(number, level)

    def _send(self, message: Message) -> int:
        address, data = message.to_msi()
        try:
            return self._vm.ioctl(ioctls.KVM_SIGNAL_MSI, struct("kvm_msi", address_lo=address, data=data))
        except KvmError:
            return 0  # for a processor that isn't there, or of a kind that is no message: it is lost, as on a bus

    def _reroute(self) -> None:
        with self._lock:
            table = enumerate(self._ioapic.table)
            routes = {pin: message_of(entry).to_msi() for pin, entry in table if entry & LEVEL and not entry & MASKED}
            if routes == self._routed:
                return
            self._routed = routes
        entries = [
            {
                "gsi": pin,
                "type": k.KVM_IRQ_ROUTING_MSI,
                "u": {"msi": {"address_lo": address, "data": data}},
            }
            for pin, (address, data) in routes.items()
        ]
        routing = ffi.new("struct kvm_irq_routing *", {"nr": len(entries), "entries": entries})
        self._vm.ioctl(ioctls.KVM_SET_GSI_ROUTING, routing)
