"""What answers without leaving KVM_RUN, as one vCPU reaches it, by ports and by addresses: the chips, eventfds, and
the ring of coalesced writes."""

from __future__ import annotations

from minivmm.soft.parts import VcpuParts


class InternalDevices:
    """The in-kernel irqchip and timers, ioeventfds, zones of coalesced I/O: those that the VM has."""

    def __init__(self, vcpu: VcpuParts) -> None:
        self._vm = vcpu.vm
        self._number = vcpu.number
        self._ring = vcpu.ring

    def has_port(self, port: int) -> bool:
        chip = self._vm.irqchip
        return chip is not None and port in chip.ports

    def port_in(self, port: int, size: int) -> int:
        assert self._vm.irqchip is not None
        return self._vm.irqchip.port_read(port, size)

    def port_out(self, port: int, size: int, value: int) -> bool:
        """Takes a write to a port. False: it is userspace's."""
        vm = self._vm
        if vm.irqchip is not None and port in vm.irqchip.ports:
            vm.irqchip.port_write(port, size, value)
            return True
        return bool(vm.zones or vm.eventfds) and self._takes(True, port, value.to_bytes(size, "little"))

    def claims(self, gpa: int) -> bool:
        chip = self._vm.irqchip
        return chip is not None and chip.claims(self._number, gpa)

    def read(self, gpa: int, size: int) -> bytes:
        assert self._vm.irqchip is not None
        return self._vm.irqchip.mmio_read(self._number, gpa, size).to_bytes(size, "little")

    def write(self, gpa: int, data: bytes) -> bool:
        """Takes a write to device memory. False: it is userspace's."""
        chip = self._vm.irqchip
        if chip is not None and chip.claims(self._number, gpa):
            chip.mmio_write(self._number, gpa, len(data), int.from_bytes(data, "little"))
            return True
        return self._takes(False, gpa, data)

    def _takes(self, pio: bool, address: int, data: bytes) -> bool:
        if self._vm.eventfds.ring(pio, address, data):
            return True
        return self._vm.zones.cover(pio, address, len(data)) and self._ring.put(pio, address, data)
