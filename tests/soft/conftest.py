"""The chips of a VM seen twice: KVM's own, through a guest that touches them, and ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from minivmm.exits import PortOut
from minivmm.kvm import ioctls
from minivmm.kvm.binding import ffi
from minivmm.kvm.calls import struct
from minivmm.kvm.seam import Backend
from minivmm.soft.irq_ioctls import vcpu_ioctl, vm_ioctl
from minivmm.soft.irqchip import IrqChip
from minivmm.vm import Vm


class Side(Protocol):
    """What both sides can do. `take` lets the vCPU take an interrupt, and gives its vector; None: there was none."""

    def outb(self, port: int, value: int) -> None: ...
    def inb(self, port: int) -> int: ...
    def poke(self, address: int, value: int) -> None: ...
    def peek(self, address: int) -> int: ...
    def take(self) -> int | None: ...
    def vm(self, request: int, argument: Any) -> int: ...
    def vcpu(self, request: int, argument: Any) -> int: ...


class FakeCpu:
    """Notes what the chips tell a processor."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1

    def nmi(self) -> None:
        self.events.append("nmi")

    def init(self) -> None:
        self.events.append("init")

    def sipi(self, vector: int) -> None:
        self.events.append(("sipi", vector))


class Clock:
    """Time stands still until it is told to go on. It is a TSC of 1 GHz, too."""

    khz = 1_000_000

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns

    def read(self) -> int:
        return self.ns


class SoftSide:
    """Ours, with one vCPU."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.cpu = FakeCpu()
        self.chip = IrqChip(self.clock)
        self.chip.add_cpu(0, self.cpu, self.clock)

    def outb(self, port: int, value: int) -> None:
        self.chip.port_write(port, 1, value)

    def inb(self, port: int) -> int:
        return self.chip.port_read(port, 1)

    def poke(self, address: int, value: int) -> None:
        assert self.chip.claims(0, address)
        self.chip.mmio_write(0, address, 4, value)

    def peek(self, address: int) -> int:
        return self.chip.mmio_read(0, address, 4)

    def take(self) -> int | None:
        return None if self.chip.interrupt_for(0) is None else self.chip.acknowledge(0)

    def vm(self, request: int, argument: Any) -> int:
        result = vm_ioctl(self.chip, request, argument)
        assert result is not None
        return result

    def vcpu(self, request: int, argument: Any) -> int:
        result = vcpu_ioctl(self.chip, 0, request, argument)
        assert result is not None
        return result


DONE, TAKEN = 0xF4, 0xF5
OUT, IN, POKE, PEEK, WAIT, STUBS = 0x1000, 0x1010, 0x1020, 0x1030, 0x1040, 0x2000


class KvmSide:
    """KVM's: a real-mode guest makes each access, and says so at a port. DS is where it pokes and peeks."""

    def __init__(self, backend: Backend) -> None:
        self._vm = Vm(backend)
        self._vm.ioctl(ioctls.KVM_CREATE_IRQCHIP)
        self._vm.memory.add(0, 1 << 16)
        self._vcpu = self._vm.create_vcpu()
        self._vm.show_supported_cpuid(self._vcpu)
        done = bytes((0xE6, DONE))
        for at, code in (
            (OUT, b"\xee"),  # out dx, al
            (IN, b"\xec"),  # in al, dx
            (POKE, b"\x66\x89\x07"),  # mov [bx], eax
            (PEEK, b"\x66\x8b\x07"),  # mov eax, [bx]
            (WAIT, b"\x90"),  # nop
        ):
            self._vm.memory.write(at, code + done)
        for vector in range(256):
            self._vm.memory.write(4 * vector, (STUBS + 4 * vector).to_bytes(4, "little"))
            self._vm.memory.write(STUBS + 4 * vector, bytes((0xE6, TAKEN, 0x90, 0x90)))  # out TAKEN, al

    def _run(self, rip: int, ds: int = 0, rflags: int = 2, **registers: int) -> tuple[int, Any]:
        sregs = self._vcpu.get_sregs()
        sregs.cs.base = sregs.cs.selector = 0
        sregs.ss.base = sregs.ss.selector = 0
        sregs.ds.base = ds
        self._vcpu.set_sregs(sregs, validate=False)
        self._vcpu.update(rip=rip, rflags=rflags, rsp=0x8000, **registers)
        exit = self._vcpu.run()
        assert isinstance(exit, PortOut), exit
        return exit.port, self._vcpu.get_regs()

    def outb(self, port: int, value: int) -> None:
        self._run(OUT, rdx=port, rax=value)

    def inb(self, port: int) -> int:
        return int(self._run(IN, rdx=port, rax=0)[1].rax & 0xFF)

    def poke(self, address: int, value: int) -> None:
        self._run(POKE, ds=address & ~0xFFF, rbx=address & 0xFFF, rax=value)

    def peek(self, address: int) -> int:
        return int(self._run(PEEK, ds=address & ~0xFFF, rbx=address & 0xFFF, rax=0)[1].rax & 0xFFFF_FFFF)

    def take(self) -> int | None:
        port, regs = self._run(WAIT, rflags=0x202)  # interrupts on: one is delivered on the way in
        return None if port == DONE else int(regs.rip - STUBS) // 4

    def vm(self, request: int, argument: Any) -> int:
        return self._vm.backend.ioctl(self._vm.fd, request, argument)

    def vcpu(self, request: int, argument: Any) -> int:
        return self._vm.backend.ioctl(self._vcpu.fd, request, argument)

    def close(self) -> None:
        self._vm.close()


def line(side: Side, gsi: int, level: int) -> int:
    """KVM_IRQ_LINE_STATUS."""
    argument = struct("kvm_irq_level", irq=gsi, level=level)
    assert side.vm(ioctls.KVM_IRQ_LINE_STATUS, argument) == 0
    return int(argument.status)


def fields(side: Side, number: int) -> dict[str, Any]:
    """KVM_GET_IRQCHIP as plain numbers, `number` as in chip_id."""
    argument = struct("kvm_irqchip", chip_id=number)
    assert side.vm(ioctls.KVM_GET_IRQCHIP, argument) == 0
    chip = argument.chip.ioapic if number == 2 else argument.chip.pic
    values = {name: getattr(chip, name) for name, _ in ffi.typeof(chip).fields}
    return {name: list(value) if name == "redirtbl" else value for name, value in values.items()}


def page(side: Side) -> bytes:
    """KVM_GET_LAPIC."""
    state = struct("kvm_lapic_state")
    assert side.vcpu(ioctls.KVM_GET_LAPIC, state) == 0
    return bytes(ffi.buffer(state.regs))


@pytest.fixture
def soft() -> SoftSide:
    return SoftSide()


@pytest.fixture
def kvm_side(kvm_backend: Backend) -> Iterator[KvmSide]:
    side = KvmSide(kvm_backend)
    yield side
    side.close()
