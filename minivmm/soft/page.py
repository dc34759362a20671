"""The memory that KVM_RUN shares with userspace: struct kvm_run, a page for the data of port I/O, and the ring of
coalesced writes.

Source: KVM API, "5. The kvm_run structure".
"""

from __future__ import annotations

import mmap
import struct
from typing import Any

from minivmm.kvm import constants as k
from minivmm.kvm.binding import ffi
from minivmm.soft.host_memory import alias

PAGE = 4096
SIZE = 3 * PAGE  # KVM_GET_VCPU_MMAP_SIZE
MOST = 64 * PAGE  # what may be mapped: KVM, too, lets a mapping be longer than it need be; unused pages cost nothing
PIO_DATA = PAGE  # offset of the data of port I/O
RING = k.KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE  # offset of the ring of coalesced writes (coalesced.py)
SYNCED = k.KVM_SYNC_X86_REGS | k.KVM_SYNC_X86_SREGS | k.KVM_SYNC_X86_EVENTS  # what KVM_CAP_SYNC_REGS shares

_REASON = ffi.offsetof("struct kvm_run", "exit_reason")
_UNION = ffi.offsetof("struct kvm_run", "io")
_head = struct.Struct("<IBBHQQ").pack_into  # exit_reason, ready_for_interrupt_injection, if_flag, flags, cr8, apic_base
_whole_io = struct.Struct(f"<IBBHQQ{_UNION - _REASON - 24}xBBHIQ").pack_into
_mmio = struct.Struct("<Q8sIB").pack_into


class SharedPage:
    """One vCPU's pages. `c` is the `struct kvm_run *`, `bytes` all of it."""

    def __init__(self) -> None:
        self.bytes = mmap.mmap(-1, MOST)
        self.c: Any = ffi.from_buffer("struct kvm_run *", self.bytes)

    def share_ring(self, first: SharedPage) -> None:
        """Shows the ring of another vCPU in place of our own: a VM has one."""
        alias(self._address + RING, first._address + RING, PAGE)

    @property
    def _address(self) -> int:
        return int(ffi.cast("uintptr_t", self.c))

    def head(self, reason: int, ready: bool, if_flag: bool, cr8: int, apic_base: int) -> None:
        """What every exit fills in."""
        _head(self.bytes, _REASON, reason, ready, if_flag, 0, cr8, apic_base)

    def io(
        self,
        ready: bool,
        if_flag: bool,
        cr8: int,
        apic_base: int,
        direction: int,
        size: int,
        port: int,
        count: int,
        data: bytes = b"",
    ) -> None:
        """KVM_EXIT_IO, with all that every exit fills in, in one step; `data` is what an OUT sends."""
        io = direction, size, port, count, PIO_DATA
        _whole_io(self.bytes, _REASON, k.KVM_EXIT_IO, ready, if_flag, 0, cr8, apic_base, *io)
        if data:
            self.bytes[PIO_DATA : PIO_DATA + len(data)] = data

    def io_data(self, size: int) -> bytes:
        """What userspace answered to an IN."""
        return self.bytes[PIO_DATA : PIO_DATA + size]

    def mmio(self, address: int, size: int, data: bytes | None) -> None:
        """KVM_EXIT_MMIO: a write of `data`, or a read."""
        _mmio(self.bytes, _UNION, address, data or b"", size, data is not None)

    def mmio_data(self, size: int) -> bytes:
        """What userspace answered to an MMIO read."""
        return bytes(ffi.buffer(self.c.mmio.data, size))

    def emulation_failure(self, code: bytes) -> None:
        """KVM_EXIT_INTERNAL_ERROR, suberror 1: an instruction that can't be carried out."""
        failure = self.c.emulation_failure
        failure.suberror = k.KVM_INTERNAL_ERROR_EMULATION
        failure.ndata = 4 if code else 1
        failure.flags = k.KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES if code else 0
        failure.insn_size = len(code)
        for i, byte in enumerate(code.ljust(15, b"\0")):
            failure.insn_bytes[i] = byte
