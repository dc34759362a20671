"""One VM under test, straight on the seam: memory, a first vCPU in the wanted mode, and everything a trap needs."""

from __future__ import annotations

import mmap
from typing import Any

from minivmm.kvm import ioctls as io
from minivmm.kvm.binding import ffi
from minivmm.kvm.calls import address_of, struct
from minivmm.kvm.handles import Handle, checked, created
from minivmm.kvm.seam import Backend
from minivmm.x86.gates import Gate
from rig import layout as at
from rig import modes
from rig.cpu import Cpu
from rig.stubs import STUB_SIZE

_supported: dict[str, Any] = {}


class Vm:
    """A VM with no memory and no vCPU yet."""

    mode = modes.REAL

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.system = Handle(backend.open(), backend)
        self.fd = created(backend, self.system, io.KVM_CREATE_VM)
        self.run_size = checked(backend, self.system, io.KVM_GET_VCPU_MMAP_SIZE)
        self.cpus: list[Cpu] = []
        self.slots: dict[int, mmap.mmap] = {}

    def ioctl(self, request: int, argument: Any = 0) -> int:
        return checked(self.backend, self.fd, request, argument)

    def has(self, capability: int) -> int:
        """What KVM_CHECK_EXTENSION says, asked at the VM's handle."""
        return self.ioctl(io.KVM_CHECK_EXTENSION, capability)

    def enable(self, capability: int, *arguments: int) -> None:
        self.ioctl(io.KVM_ENABLE_CAP, struct("kvm_enable_cap", cap=capability, args=arguments))

    def slot(self, number: int, gpa: int, size: int, flags: int = 0, memory: mmap.mmap | None = None) -> mmap.mmap:
        """KVM_SET_USER_MEMORY_REGION with new memory, or with `memory`. Size 0 deletes the slot."""
        memory = memory or mmap.mmap(-1, size or mmap.PAGESIZE)
        self.region(number, gpa, size, address_of(memory), flags)
        self.slots[number] = memory
        return memory

    def region(self, number: int, gpa: int, size: int, address: int, flags: int = 0) -> None:
        """KVM_SET_USER_MEMORY_REGION as it is."""
        fields = {
            "slot": number,
            "flags": flags,
            "guest_phys_addr": gpa,
            "memory_size": size,
            "userspace_addr": address,
        }
        self.ioctl(io.KVM_SET_USER_MEMORY_REGION, struct("kvm_userspace_memory_region", **fields))

    def add_cpu(self, *, cpuid: bool = True) -> Cpu:
        """A vCPU with the next number, in the state of reset."""
        cpu = Cpu(self, len(self.cpus))
        self.cpus.append(cpu)
        if cpuid:
            cpu.ioctl(io.KVM_SET_CPUID2, self.supported_cpuid())
        return cpu

    def supported_cpuid(self) -> Any:
        """KVM_GET_SUPPORTED_CPUID: a `struct kvm_cpuid2 *`."""
        name = self.backend.name
        if name not in _supported:
            _supported[name] = ffi.new("struct kvm_cpuid2 *", {"nent": 256, "entries": 256})
            checked(self.backend, self.system, io.KVM_GET_SUPPORTED_CPUID, _supported[name])
        return _supported[name]

    def leaf(self, function: int, index: int = 0) -> Any:
        """A leaf of the supported CPUID; all zeroes where there is none."""
        cpuid = self.supported_cpuid()
        for entry in (cpuid.entries[i] for i in range(cpuid.nent)):
            if entry.function == function and (entry.index == index or not entry.flags & 1):
                return entry
        return ffi.new("struct kvm_cpuid_entry2 *")[0]

    def close(self) -> None:
        for cpu in self.cpus:
            cpu.fd.close()
        self.fd.close()
        self.system.close()


class Guest(Vm):
    """A VM whose first vCPU is about to execute `code` at CODE, in `mode` and `ring`. Slot 0 is its RAM."""

    def __init__(
        self,
        backend: Backend,
        mode: str,
        code: bytes | dict[int, bytes],
        *,
        ring: int = 0,
        irqchip: bool = False,
        cpuid: bool = True,
        flags: int = 0,
        **regs: int,
    ) -> None:
        super().__init__(backend)
        self.mode, self.bits = mode, modes.WIDTH[mode]
        if irqchip:
            self.ioctl(io.KVM_CREATE_IRQCHIP)
        self.ram = self.slot(0, 0, at.RAM_SIZE, flags)
        for gpa, data in modes.memory(mode).items():
            self.write(gpa, data)
        self.write(at.CODE, code if isinstance(code, bytes) else code[self.bits])
        self.cpu = self.add_cpu(cpuid=cpuid)
        self.place(self.cpu, ring, **regs)

    def place(self, cpu: Cpu, ring: int = 0, **regs: int) -> None:
        """Puts a vCPU at CODE, in this guest's mode."""
        sregs = cpu.sregs
        modes.sregs(self.mode, sregs, ring)
        cpu.set_sregs(sregs)
        start = {"rip": at.CODE, "rsp": at.USER if ring else at.STACK, "rflags": 2, **regs}
        cpu.ioctl(io.KVM_SET_REGS, struct("kvm_regs", **start))

    # ---- what tests ask for all the time ----

    @property
    def trace(self) -> Any:
        return self.cpu.trace

    @property
    def regs(self) -> Any:
        return self.cpu.regs

    def read(self, gpa: int, size: int) -> bytes:
        """Guest memory below RAM_SIZE; what lies beyond is left out."""
        return self.ram[gpa : gpa + size]

    def write(self, gpa: int, data: bytes) -> None:
        self.ram[gpa : gpa + len(data)] = data

    def word(self, gpa: int, size: int = 4) -> int:
        """A little-endian number in guest memory."""
        return int.from_bytes(self.read(gpa, size), "little")

    def poke(self, gpa: int, value: int, size: int = 8) -> None:
        self.write(gpa, value.to_bytes(size, "little"))

    def gate(self, vector: int, offset: int | None = None, **fields: int) -> None:
        """Changes a gate of the IDT, or a vector of the IVT: a handler other than the stub, a DPL, an IST, a type."""
        where = at.STUBS + STUB_SIZE * vector if offset is None else offset
        if self.mode == modes.REAL:
            self.poke(4 * vector, where, 4)
            return
        gate = Gate(where, fields.pop("selector", at.KCODE), wide=self.bits == 64, **fields).encode()
        self.write(at.IDT + len(gate) * vector, gate)

    def entry(self, selector: int, value: int) -> None:
        """Writes an entry of the GDT."""
        self.poke(at.GDT + (selector & ~7), value)

    def page(self, linear: int) -> int:
        """The page-table entry of a linear address below 2 MiB."""
        where, size = self._page(linear)
        return self.word(where, size)

    def set_page(self, linear: int, entry: int) -> None:
        """Changes the page-table entry of a linear address below 2 MiB: set_page(DATA, DATA | 1)."""
        where, size = self._page(linear)
        self.poke(where, entry, size)

    def _page(self, linear: int) -> tuple[int, int]:
        table, size = {modes.PAGING32: (at.PT32, 4), modes.PAE: (at.PAE_PT, 8), modes.LONG: (at.PT, 8)}[self.mode]
        return table + size * (linear >> 12), size
