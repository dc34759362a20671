"""Why KVM_RUN returned, as typed objects: a class for every exit reason that a guest here can cause, one for the rest.

`decode(run)` reads the shared page. An exit that wants an answer carries a `buffer`: a writable view of the place in
the page where the next KVM_RUN will look for it.

Source: KVM API, "5. The kvm_run structure".
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from minivmm.kvm import constants as k
from minivmm.kvm.binding import ffi
from minivmm.kvm.constants import KVM_EXIT_IO, KVM_EXIT_IO_OUT, KVM_EXIT_MMIO
from minivmm.kvm.run_page import RunPage


@dataclass(slots=True)
class Exit:
    """Any exit. `reason` is the KVM_EXIT_* number; `str(exit)` is one line for a person.

    An exit is a value: don't change one, for the same may come again (Vcpu.run).
    """

    reason: ClassVar[int] = -1

    @property
    def name(self) -> str:
        """The kernel's name of the exit reason."""
        return k.EXIT_NAMES.get(self.reason, f"exit reason {self.reason}")

    def __str__(self) -> str:
        return self.name


@dataclass(slots=True)
class PortOut(Exit):
    """The guest wrote to a port: `count` items of `size` bytes, all to the same port, in `data`."""

    reason: ClassVar[int] = k.KVM_EXIT_IO
    port: int
    size: int
    count: int
    data: bytes

    def __str__(self) -> str:
        times = f" × {self.count}" if self.count > 1 else ""
        shown = self.data[:16].hex(" ") + (" …" if len(self.data) > 16 else "")
        return f"out{self.size * 8} port {self.port:#x}{times}: {shown}"


@dataclass(slots=True)
class PortIn(Exit):
    """The guest reads from a port: put `count` items of `size` bytes into `buffer`."""

    reason: ClassVar[int] = k.KVM_EXIT_IO
    port: int
    size: int
    count: int
    buffer: memoryview = field(repr=False)

    def __str__(self) -> str:
        times = f" × {self.count}" if self.count > 1 else ""
        return f"in{self.size * 8} port {self.port:#x}{times}"


@dataclass(slots=True)
class MmioWrite(Exit):
    """The guest wrote `data` (1 to 8 bytes) to the guest-physical `address`, where there is no memory slot."""

    reason: ClassVar[int] = k.KVM_EXIT_MMIO
    address: int
    size: int
    data: bytes

    def __str__(self) -> str:
        return f"mmio write {self.size} at {self.address:#x}: {self.data.hex(' ')}"


@dataclass(slots=True)
class MmioRead(Exit):
    """The guest reads `size` bytes at the guest-physical `address`: put them into `buffer`."""

    reason: ClassVar[int] = k.KVM_EXIT_MMIO
    address: int
    size: int
    buffer: memoryview = field(repr=False)

    def __str__(self) -> str:
        return f"mmio read {self.size} at {self.address:#x}"


@dataclass(slots=True)
class Halted(Exit):
    """HLT, in a VM without an in-kernel irqchip (with one, KVM waits for the interrupt itself)."""

    reason: ClassVar[int] = k.KVM_EXIT_HLT


@dataclass(slots=True)
class Shutdown(Exit):
    """A triple fault: an exception while delivering a double fault (SDM vol. 3, "Interrupt 8")."""

    reason: ClassVar[int] = k.KVM_EXIT_SHUTDOWN


@dataclass(slots=True)
class InternalError(Exit):
    """KVM itself could not go on. `suberror` says where; `data` depends on it (16 numbers at most)."""

    reason: ClassVar[int] = k.KVM_EXIT_INTERNAL_ERROR
    suberror: int
    data: tuple[int, ...]

    @property
    def instruction(self) -> bytes:
        """The instruction that KVM's emulator does not know, where it tells (suberror 1)."""
        flags = self.data[0] if self.data else 0
        known = flags & k.KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES
        if self.suberror != k.KVM_INTERNAL_ERROR_EMULATION or not known or len(self.data) < 3:
            return b""
        packed = b"".join(word.to_bytes(8, "little") for word in self.data[1:3])
        return packed[1 : 1 + min(packed[0], 15)]

    def __str__(self) -> str:
        words = {1: "emulation failed", 2: "exceptions at once", 3: "event delivery failed", 4: "unexpected exit"}
        what = words.get(self.suberror, f"suberror {self.suberror}")
        return f"KVM internal error: {what}" + (f" at {self.instruction.hex(' ')}" if self.instruction else "")


@dataclass(slots=True)
class FailEntry(Exit):
    """The CPU refused to enter the guest: the state is invalid (SDM vol. 3, "VM-Entry Failures")."""

    reason: ClassVar[int] = k.KVM_EXIT_FAIL_ENTRY
    hardware_reason: int
    cpu: int

    def __str__(self) -> str:
        return f"entry failed: hardware reason {self.hardware_reason:#x} on CPU {self.cpu}"


@dataclass(slots=True)
class Debug(Exit):
    """A breakpoint or a single step that KVM_SET_GUEST_DEBUG asked for; `pc` is where."""

    reason: ClassVar[int] = k.KVM_EXIT_DEBUG
    exception: int
    pc: int
    dr6: int
    dr7: int

    def __str__(self) -> str:
        return f"debug exception {self.exception} at {self.pc:#x}"


@dataclass(slots=True)
class Interrupted(Exit):
    """A signal or `immediate_exit` ended KVM_RUN; nothing happened in the guest."""

    reason: ClassVar[int] = k.KVM_EXIT_INTR


@dataclass(slots=True)
class InterruptWindow(Exit):
    """The guest can take an interrupt now, as `request_interrupt_window` asked to be told."""

    reason: ClassVar[int] = k.KVM_EXIT_IRQ_WINDOW_OPEN


@dataclass(slots=True)
class ReadMsr(Exit):
    """RDMSR of an MSR that userspace answers for: `answer(value)` gives it, `refuse()` makes it #GP."""

    reason: ClassVar[int] = k.KVM_EXIT_X86_RDMSR
    why: int
    index: int
    run: RunPage = field(repr=False)

    def answer(self, value: int) -> None:
        self.run.msr.data = value
        self.run.msr.error = 0

    def refuse(self) -> None:
        self.run.msr.error = 1

    def __str__(self) -> str:
        return f"rdmsr {self.index:#x}"


@dataclass(slots=True)
class WriteMsr(Exit):
    """WRMSR of an MSR that userspace answers for; `refuse()` makes it #GP."""

    reason: ClassVar[int] = k.KVM_EXIT_X86_WRMSR
    why: int
    index: int
    value: int
    run: RunPage = field(repr=False)

    def accept(self) -> None:
        self.run.msr.error = 0

    def refuse(self) -> None:
        self.run.msr.error = 1

    def __str__(self) -> str:
        return f"wrmsr {self.index:#x}: {self.value:#x}"


@dataclass(slots=True)
class Hypercall(Exit):
    """VMCALL that KVM passes on (KVM_CAP_EXIT_HYPERCALL); the result goes to `run.hypercall.ret`."""

    reason: ClassVar[int] = k.KVM_EXIT_HYPERCALL
    number: int
    arguments: tuple[int, ...]

    def __str__(self) -> str:
        return f"hypercall {self.number}"


@dataclass(slots=True)
class SystemEvent(Exit):
    """The guest asked the platform for shutdown, reset, …: KVM_SYSTEM_EVENT_*."""

    reason: ClassVar[int] = k.KVM_EXIT_SYSTEM_EVENT
    kind: int
    data: tuple[int, ...]

    def __str__(self) -> str:
        words = {1: "shutdown", 2: "reset", 3: "crash", 4: "wakeup", 5: "suspend", 6: "SEV termination"}
        return f"system event: {words.get(self.kind, self.kind)}"


@dataclass(slots=True)
class MemoryFault(Exit):
    """KVM could not resolve a guest access to `gpa` (KVM_CAP_MEMORY_FAULT_INFO)."""

    reason: ClassVar[int] = k.KVM_EXIT_MEMORY_FAULT
    gpa: int
    size: int
    flags: int

    def __str__(self) -> str:
        return f"memory fault at {self.gpa:#x}, {self.size} bytes"


@dataclass(slots=True)
class GuestException(Exit):
    """An exception that KVM gives to userspace instead of the guest."""

    reason: ClassVar[int] = k.KVM_EXIT_EXCEPTION
    vector: int
    error_code: int

    def __str__(self) -> str:
        return f"exception {self.vector}, error code {self.error_code:#x}"


@dataclass(slots=True)
class SetTpr(Exit):
    """CR8 fell below what an interrupt controller in userspace waits for."""

    reason: ClassVar[int] = k.KVM_EXIT_SET_TPR


@dataclass(slots=True)
class IoapicEoi(Exit):
    """End of interrupt for `vector`, for the IOAPIC in userspace of a split irqchip."""

    reason: ClassVar[int] = k.KVM_EXIT_IOAPIC_EOI
    vector: int

    def __str__(self) -> str:
        return f"IOAPIC end of interrupt, vector {self.vector:#x}"


@dataclass(slots=True)
class Rare(Exit):
    """An exit that KVM makes only where its VMM has asked for it, or runs a kind of guest that we don't."""

    number: int

    MEANING: ClassVar[dict[int, str]] = {
        k.KVM_EXIT_NMI: "an NMI of the host arrived while the guest ran",
        k.KVM_EXIT_TPR_ACCESS: "the guest touched its task priority register (KVM_TPR_ACCESS_REPORTING)",
        k.KVM_EXIT_HYPERV: "the guest used a Hyper-V enlightenment that userspace serves",
        k.KVM_EXIT_XEN: "the guest made a Xen hypercall that userspace serves",
        k.KVM_EXIT_DIRTY_RING_FULL: "the dirty ring has no room (collect it, then KVM_RESET_DIRTY_RINGS)",
        k.KVM_EXIT_AP_RESET_HOLD: "an SEV-ES vCPU waits for its start-up signal",
        k.KVM_EXIT_X86_BUS_LOCK: "the guest locked the memory bus (KVM_CAP_X86_BUS_LOCK_EXIT)",
        k.KVM_EXIT_NOTIFY: "the guest gave the host no chance to act for too long (KVM_CAP_X86_NOTIFY_VMEXIT)",
        k.KVM_EXIT_TDX: "a TDX guest called the host",
    }

    @property
    def name(self) -> str:
        return k.EXIT_NAMES[self.number]

    @property
    def meaning(self) -> str:
        return self.MEANING[self.number]


@dataclass(slots=True)
class Unknown(Exit):
    """KVM_EXIT_UNKNOWN, or a reason newer than this file: `number` says which."""

    number: int
    hardware_reason: int

    @property
    def name(self) -> str:
        return k.EXIT_NAMES.get(self.number, f"exit reason {self.number}")

    def __str__(self) -> str:
        return f"{self.name}, hardware reason {self.hardware_reason:#x}"


# Port and memory exits are the hot path: one unpack of the page is cheaper than reading field by field through cffi.
_REASON = ffi.offsetof("struct kvm_run", "exit_reason")
_UNION = ffi.offsetof("struct kvm_run", "io")
_MMIO_DATA = ffi.offsetof("struct kvm_run", "mmio", "data")
_reason_and_io = struct.Struct(f"<I{_UNION - _REASON - 4}xBBHIQ").unpack_from
_mmio = struct.Struct("<Q8sIB").unpack_from


def decode(run: RunPage) -> Exit:
    """The exit that the page describes. Never raises: a reason that nobody knows is `Unknown`."""
    reason, direction, size, port, count, offset = _reason_and_io(run.page, _REASON)
    if reason == KVM_EXIT_IO:
        if direction == KVM_EXIT_IO_OUT:
            return PortOut(port, size, count, run.bytes[offset : offset + size * count])
        return PortIn(port, size, count, run.page[offset : offset + size * count])
    if reason == KVM_EXIT_MMIO:
        address, data, size, is_write = _mmio(run.page, _UNION)
        if is_write:
            return MmioWrite(address, size, data[:size])
        return MmioRead(address, size, run.page[_MMIO_DATA : _MMIO_DATA + size])
    if reason in Rare.MEANING:
        return Rare(reason)
    decoder = _DECODERS.get(reason)
    return decoder(run) if decoder else Unknown(reason, run.c.hw.hardware_exit_reason)


def _internal(run: RunPage) -> Exit:
    error = run.internal
    return InternalError(error.suberror, tuple(error.data[i] for i in range(min(error.ndata, 16))))


def _system_event(run: RunPage) -> Exit:
    event = run.system_event
    return SystemEvent(event.type, tuple(event.data[i] for i in range(min(event.ndata, 16))))


def _debug(run: RunPage) -> Exit:
    arch = run.debug.arch
    return Debug(arch.exception, arch.pc, arch.dr6, arch.dr7)


_DECODERS: dict[int, Callable[[RunPage], Exit]] = {
    k.KVM_EXIT_HLT: lambda run: Halted(),
    k.KVM_EXIT_SHUTDOWN: lambda run: Shutdown(),
    k.KVM_EXIT_INTERNAL_ERROR: _internal,
    k.KVM_EXIT_FAIL_ENTRY: lambda run: FailEntry(run.fail_entry.hardware_entry_failure_reason, run.fail_entry.cpu),
    k.KVM_EXIT_DEBUG: _debug,
    k.KVM_EXIT_INTR: lambda run: Interrupted(),
    k.KVM_EXIT_IRQ_WINDOW_OPEN: lambda run: InterruptWindow(),
    k.KVM_EXIT_X86_RDMSR: lambda run: ReadMsr(run.msr.reason, run.msr.index, run),
    k.KVM_EXIT_X86_WRMSR: lambda run: WriteMsr(run.msr.reason, run.msr.index, run.msr.data, run),
    k.KVM_EXIT_HYPERCALL: lambda run: Hypercall(run.hypercall.nr, tuple(run.hypercall.args)),
    k.KVM_EXIT_SYSTEM_EVENT: _system_event,
    k.KVM_EXIT_MEMORY_FAULT: lambda run: MemoryFault(
        run.memory_fault.gpa, run.memory_fault.size, run.memory_fault.flags
    ),
    k.KVM_EXIT_EXCEPTION: lambda run: GuestException(run.ex.exception, run.ex.error_code),
    k.KVM_EXIT_SET_TPR: lambda run: SetTpr(),
    k.KVM_EXIT_IOAPIC_EOI: lambda run: IoapicEoi(run.eoi.vector),
}
