"""One vCPU under test: registers, and KVM_RUN with a watch beside it, straight on the seam."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from threading import get_native_id
from typing import Any

from minivmm import exits
from minivmm.kvm import ioctls as io
from minivmm.kvm.binding import ffi
from minivmm.kvm.calls import struct
from minivmm.kvm.errors import failure
from minivmm.kvm.handles import checked, created
from minivmm.kvm.run_page import RunPage
from minivmm.watch import Watch
from minivmm.x86.descriptors import BUSY_TSS, TSS
from rig import layout as at
from rig.events import Event, Trapped, events_of, is_trap
from rig.stubs import Trap, frame, vector_at

IN_BOX = "MINIVMM_BOX" in os.environ
PATIENCE = 60.0 if IN_BOX else 5.0  # seconds until a guest counts as hanging
ENOUGH = 2000  # events in one trace


class HangError(AssertionError):
    """KVM_RUN did not come back by itself."""


class Cpu:
    """A vCPU. `guest` is the VM it belongs to (rig/guest.py)."""

    def __init__(self, guest: Any, index: int) -> None:
        self.backend, self.guest = guest.backend, guest
        self.fd = created(self.backend, guest.fd, io.KVM_CREATE_VCPU, index)
        self.page = RunPage(self.backend.map_run(self.fd, guest.run_size), guest.run_size)
        self.thread = get_native_id()

    # ---- state ----

    def ioctl(self, request: int, argument: Any = 0) -> int:
        return checked(self.backend, self.fd, request, argument)

    def get(self, request: int, kind: str) -> Any:
        """A KVM_GET_* of a `struct kind`."""
        value = struct(kind)
        self.ioctl(request, value)
        return value

    @property
    def regs(self) -> Any:
        return self.get(io.KVM_GET_REGS, "kvm_regs")

    @property
    def sregs(self) -> Any:
        return self.get(io.KVM_GET_SREGS, "kvm_sregs")

    @property
    def events(self) -> Any:
        return self.get(io.KVM_GET_VCPU_EVENTS, "kvm_vcpu_events")

    def set(self, **fields: int) -> None:
        """Sets some general registers."""
        regs = self.regs
        for name, value in fields.items():
            setattr(regs, name, value)
        self.ioctl(io.KVM_SET_REGS, regs)

    def change(self, **fields: int) -> None:
        """Sets some special registers: change(cr4=…)."""
        sregs = self.sregs
        for name, value in fields.items():
            setattr(sregs, name, value)
        self.set_sregs(sregs)

    def set_sregs(self, sregs: Any) -> None:
        if IN_BOX and sregs.tr.type == BUSY_TSS:
            # Every TSS in use is busy, but QEMU 7.2 wants TR to be free: it aborts ("invalid tss type") when a 32-bit
            # nested guest changes stacks, and finds no I/O bitmap. kvm-amd takes either type.
            sregs.tr.type = TSS
        self.ioctl(io.KVM_SET_SREGS, sregs)

    def msr(self, index: int) -> int | None:
        """An MSR's value; None where the backend doesn't know it."""
        msrs = ffi.new("struct kvm_msrs *", {"nmsrs": 1, "entries": [{"index": index}]})
        return int(msrs.entries[0].data) if self.ioctl(io.KVM_GET_MSRS, msrs) == 1 else None

    def set_msr(self, index: int, value: int) -> bool:
        """Sets an MSR; False where the backend refuses."""
        msrs = ffi.new("struct kvm_msrs *", {"nmsrs": 1, "entries": [{"index": index, "data": value}]})
        return self.ioctl(io.KVM_SET_MSRS, msrs) == 1

    # ---- running ----

    def enter(self) -> int:
        """KVM_RUN, once: 0, or -errno."""
        return min(0, self.backend.run(int(self.fd), self.page.c))

    def kick(self) -> None:
        """Makes KVM_RUN come back with EINTR, from any thread."""
        self.page.immediate_exit = 1
        self.backend.kick(self.thread)

    def run(self, patience: float = PATIENCE) -> exits.Exit:
        """The next exit. Raises HangError where none comes within `patience` seconds, KvmError where KVM_RUN fails."""
        self.thread = get_native_id()
        with Watch(self.kick, patience) as watch:
            exit = self._run(watch)
        self.page.immediate_exit = 0
        return exit

    def _run(self, watch: Watch) -> exits.Exit:
        # The heartbeat of the watch interrupts, and so does a SIPI that comes to a waiting vCPU (EAGAIN).
        while (result := self.enter()) in (-errno.EINTR, -errno.EAGAIN):
            self.page.immediate_exit = 0
            if watch.expired:
                raise HangError(f"no exit in time; the guest is at {self.regs.rip:#x}, {self.guest.mode} mode")
        if result:
            raise failure(io.KVM_RUN, -result)
        return exits.decode(self.page)

    def trace(self, answers: Iterable[int] = (), patience: float = PATIENCE, past_traps: int = 0) -> list[Event]:
        """Runs until the guest can't go on or takes an exception, and says what happened on the way.

        Reads are answered with `answers`, in this order, then with all ones. The stubs of the first `past_traps`
        exceptions are let run, so that they return.
        """
        seen: list[Event] = []
        supply = iter(answers)
        self.thread = get_native_id()
        with Watch(self.kick, patience) as watch:
            while len(seen) < ENOUGH:
                exit = self._run(watch)
                if is_trap(exit):
                    trap = self.trap()
                    seen.append(Trapped(trap.vector, trap.error))
                    past_traps -= 1
                    if past_traps < 0:
                        break
                    continue
                seen += events_of(exit, supply)
                if not isinstance(exit, exits.PortOut | exits.PortIn | exits.MmioWrite | exits.MmioRead):
                    break
        self.page.immediate_exit = 0
        return seen

    def trap(self) -> Trap:
        """The frame of the exception whose stub the guest has just entered."""
        self.finish()
        regs, sregs = self.regs, self.sregs
        vector = vector_at(regs.rip)
        assert vector is not None, f"RIP {regs.rip:#x} is in no stub"
        bits = self.guest.bits if sregs.cr0 & 1 else 16
        return frame(bits, vector, self.guest.read(sregs.ss.base * (bits != 64) + regs.rsp, 48))

    def finish(self) -> None:
        """Completes the instruction of the last port or MMIO exit without running on (api.rst, KVM_EXIT_IO)."""
        self.page.immediate_exit = 1
        assert self.enter() == -errno.EINTR
        self.page.immediate_exit = 0

    def jump(self, rip: int = at.CODE, **fields: int) -> None:
        """Goes on elsewhere."""
        self.set(rip=rip, **fields)

    def set_lapic_enabled(self, on: bool = True) -> None:
        """Switches the local APIC on by its spurious-interrupt vector register, as a guest's kernel does first.

        Source: SDM vol. 3, "Spurious Interrupt": register 0xF0, bit 8; the spurious vector is 0xFF.
        """
        lapic = self.get(io.KVM_GET_LAPIC, "kvm_lapic_state")
        ffi.buffer(lapic)[0xF0:0xF4] = (0x1FF if on else 0xFF).to_bytes(4, "little")
        self.ioctl(io.KVM_SET_LAPIC, lapic)

    def lapic(self, register: int) -> int:
        """A register of the local APIC, by its offset."""
        lapic = self.get(io.KVM_GET_LAPIC, "kvm_lapic_state")
        return int.from_bytes(ffi.buffer(lapic)[register : register + 4], "little")
