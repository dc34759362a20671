"""The chips that answer without leaving KVM_RUN, as one vCPU reaches them: by ports and by addresses."""

from __future__ import annotations

from minivmm.soft.parts import VcpuParts


class InternalDevices:
    """The in-kernel irqchip and timers, if the VM has them (device_memory.Internal)."""

    def __init__(self, vcpu: VcpuParts) -> None:
        self._vm = vcpu.vm
        self._number = vcpu.number

    def has_port(self, port: int) -> bool:
        chip = self._vm.irqchip
        return chip is not None and port in chip.ports

    def port_in(self, port: int, size: int) -> int:
        assert self._vm.irqchip is not None
        return self._vm.irqchip.port_read(port, size)

    def port_out(self, port: int, size: int, value: int) -> None:
        assert self._vm.irqchip is not None
        self._vm.irqchip.port_write(port, size, value)

    def claims(self, gpa: int) -> bool:
        chip = self._vm.irqchip
        return chip is not None and chip.claims(self._number, gpa)

    def read(self, gpa: int, size: int) -> bytes:
        assert self._vm.irqchip is not None
        return self._vm.irqchip.mmio_read(self._number, gpa, size).to_bytes(size, "little")

    def write(self, gpa: int, data: bytes) -> None:
        assert self._vm.irqchip is not None
        self._vm.irqchip.mmio_write(self._number, gpa, len(data), int.from_bytes(data, "little"))
