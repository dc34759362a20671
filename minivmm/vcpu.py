"""One virtual CPU: its registers, and KVM_RUN.

Source: KVM API 4.7 KVM_CREATE_VCPU, 4.10 KVM_RUN, 4.11–4.14 registers, 4.18–4.20 MSRs and CPUID, 6.5 KVM_CAP_SYNC_REGS.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from threading import Event, get_native_id
from typing import Any

from minivmm.exits import Exit, Interrupted, decode
from minivmm.kvm import constants as k
from minivmm.kvm import ioctls
from minivmm.kvm.binding import ffi
from minivmm.kvm.calls import struct
from minivmm.kvm.errors import KvmError, failure
from minivmm.kvm.handles import checked, created
from minivmm.kvm.ioctls import KVM_RUN
from minivmm.kvm.run_page import RunPage
from minivmm.kvm.seam import Backend, CData
from minivmm.x86.rules import Rule, errors

KNOWN_EXITS = 4096


class InvalidStateError(ValueError):
    """A register state that breaks rules of the architecture; `rules` are those, the text names them."""

    def __init__(self, rules: list[Rule]) -> None:
        self.rules = rules
        super().__init__("; ".join(f"{rule.sentence} ({rule.source})" for rule in rules))


class Vcpu:
    """A vCPU. KVM wants all its ioctls from one thread at a time; `kick` alone may come from any."""

    def __init__(self, backend: Backend, vm: int, index: int, run_size: int) -> None:
        self.index = index
        self.fd = created(backend, vm, ioctls.KVM_CREATE_VCPU, index)
        self.run_page = RunPage(backend.map_run(self.fd, run_size), run_size)
        self._backend = backend
        self._number = int(self.fd)  # a plain int is cheaper to pass than a Handle
        self._run = backend.run
        self._page = self.run_page.c
        self._known: dict[int, Exit] = {}  # by the mark that KVM_RUN gave
        self._thread = get_native_id()
        self._kicked = Event()  # for `wait`
        self._synced = False

    # ---- running ----

    def run(self) -> Exit:
        """Runs the guest until its next exit. A signal or `kick` comes back as `Interrupted`, never as an exception."""
        mark = self._run(self._number, self._page)
        # A guest comes back to the same few port accesses, and an exit is a value: no need to make it anew.
        return self._known.get(mark) or self._decode(mark)

    def _decode(self, mark: int) -> Exit:
        if not mark:
            return decode(self.run_page)
        if mark > 0:
            if len(self._known) >= KNOWN_EXITS:
                self._known.clear()
            return self._known.setdefault(mark, decode(self.run_page))
        # EAGAIN: an application processor that got its start-up signal (KVM_MP_STATE_SIPI_RECEIVED); run it again.
        if mark in (-errno.EINTR, -errno.EAGAIN):
            self._page.immediate_exit = 0
            return Interrupted()
        raise failure(KVM_RUN, -mark)

    def kick(self) -> None:
        """Makes the `run` in progress, or else the next one, return `Interrupted`. From any thread.

        `immediate_exit` covers the moment before KVM_RUN, the signal the time inside (api.rst, "immediate_exit").
        """
        self.run_page.c.immediate_exit = 1
        self._kicked.set()
        self._backend.kick(self._thread)

    def wait(self) -> None:
        """Sleeps until a kick comes, and takes it: HLT for a vCPU that KVM itself doesn't put to sleep.

        Look at what you wait for after it, and before the next: a kick that came meanwhile is not lost.
        """
        self._kicked.clear()
        if not self.run_page.c.immediate_exit:
            self._kicked.wait()
        self.run_page.c.immediate_exit = 0

    @property
    def is_here(self) -> bool:
        """Whether it is the calling thread that runs this vCPU."""
        return self._thread == get_native_id()

    def claim(self) -> None:
        """Says that this thread runs the vCPU from now on, so that `kick` signals the right one. At first that is the
        thread that made it."""
        self._thread = get_native_id()

    def finish_io(self) -> Exit:
        """Completes the last port or MMIO exit without running on, so that the registers are those after it.

        KVM finishes the instruction only on the way back in (api.rst, the note under KVM_EXIT_IO). Returns
        `Interrupted`, or another exit where the instruction has more to access: serve that, and call it again.
        """
        self.run_page.c.immediate_exit = 1
        return self.run()

    # ---- registers ----

    def sync_registers(self, on: bool = True) -> None:
        """Lets KVM leave the registers in the shared page at each exit: reading them then costs no ioctl.

        It makes every exit a little dearer, so it pays where registers are read at most exits (KVM_CAP_SYNC_REGS).
        """
        self.run_page.c.kvm_valid_regs = (k.KVM_SYNC_X86_REGS | k.KVM_SYNC_X86_SREGS) if on else 0
        self.finish_io()  # a way in and out that fills the page, or takes the last changes from it
        self._synced = on

    def get_regs(self) -> CData:
        """The general registers, RIP and RFLAGS: a `struct kvm_regs *` of your own."""
        if self._synced:
            return ffi.new("struct kvm_regs *", self.run_page.c.s.regs.regs)
        return self._get(ioctls.KVM_GET_REGS, "kvm_regs")

    def set_regs(self, regs: CData) -> None:
        if self._synced:
            self.run_page.c.s.regs.regs = regs[0]
            self.run_page.c.kvm_dirty_regs |= k.KVM_SYNC_X86_REGS
        else:
            self._ioctl(ioctls.KVM_SET_REGS, regs)

    def update(self, **fields: int) -> None:
        """Sets some general registers by name and leaves the others: `vcpu.update(rip=0x1000, rflags=2)`."""
        regs = self.get_regs()
        for name, value in fields.items():
            setattr(regs, name, value)
        self.set_regs(regs)

    def get_sregs(self) -> CData:
        """Segments, tables, control registers and EFER: a `struct kvm_sregs *` of your own."""
        if self._synced:
            return ffi.new("struct kvm_sregs *", self.run_page.c.s.regs.sregs)
        return self._get(ioctls.KVM_GET_SREGS, "kvm_sregs")

    def set_sregs(self, sregs: CData, *, validate: bool = True) -> None:
        """Sets them. Raises InvalidStateError, naming the rule, before KVM can say only EINVAL."""
        if validate and (broken := errors(sregs)):
            raise InvalidStateError(broken)
        if self._synced:
            self.run_page.c.s.regs.sregs = sregs[0]
            self.run_page.c.kvm_dirty_regs |= k.KVM_SYNC_X86_SREGS
        else:
            self._ioctl(ioctls.KVM_SET_SREGS, sregs)

    def get_events(self) -> CData:
        """Exceptions, interrupts and NMIs on their way to the guest: a `struct kvm_vcpu_events *` (api.rst 4.31)."""
        return self._get(ioctls.KVM_GET_VCPU_EVENTS, "kvm_vcpu_events")

    def get_fpu(self) -> CData:
        """The x87 and SSE registers: a `struct kvm_fpu *` (api.rst 4.22)."""
        return self._get(ioctls.KVM_GET_FPU, "kvm_fpu")

    def set_fpu(self, fpu: CData) -> None:
        self._ioctl(ioctls.KVM_SET_FPU, fpu)

    def set_guest_debug(self, control: int, registers: Iterable[int] = ()) -> None:
        """What a debugger wants of the next runs: KVM_GUESTDBG_* and DR0 to DR7 (api.rst 4.87)."""
        debug = struct("kvm_guest_debug", control=control)
        debug.arch.debugreg = [*registers] or [0] * 8
        self._ioctl(ioctls.KVM_SET_GUEST_DEBUG, debug)

    def interrupt(self, vector: int) -> None:
        """Queues an external interrupt, for a VM whose 8259 is not in the kernel (api.rst 4.16 KVM_INTERRUPT)."""
        self._ioctl(ioctls.KVM_INTERRUPT, struct("kvm_interrupt", irq=vector))

    def get_mp_state(self) -> int:
        """KVM_MP_STATE_*: whether it runs, sleeps, or waits to be started (api.rst 4.38)."""
        return int(self._get(ioctls.KVM_GET_MP_STATE, "kvm_mp_state").mp_state)

    def get_msr(self, index: int) -> int:
        """The value of one MSR. Raises KvmError where this KVM doesn't have it."""
        msrs = ffi.new("struct kvm_msrs *", {"nmsrs": 1, "entries": [{"index": index}]})
        if self._ioctl(ioctls.KVM_GET_MSRS, msrs) != 1:  # the result is how many were read
            raise KvmError("KVM_GET_MSRS", errno.EINVAL, f"This KVM has no MSR {index:#x}.")
        return int(msrs.entries[0].data)

    def set_msr(self, index: int, value: int) -> None:
        """Sets one MSR. Raises KvmError where this KVM doesn't have it or refuses the value."""
        msrs = ffi.new("struct kvm_msrs *", {"nmsrs": 1, "entries": [{"index": index, "data": value}]})
        if self._ioctl(ioctls.KVM_SET_MSRS, msrs) != 1:
            raise KvmError("KVM_SET_MSRS", errno.EINVAL, f"This KVM refuses {value:#x} for MSR {index:#x}.")

    def set_cpuid(self, entries: Iterable[Any]) -> None:
        """What CPUID will answer: `struct kvm_cpuid_entry2`s, or mappings with its fields."""
        listed = [entry if isinstance(entry, dict) else entry[0] for entry in entries]
        self._ioctl(ioctls.KVM_SET_CPUID2, ffi.new("struct kvm_cpuid2 *", {"nent": len(listed), "entries": listed}))

    def translate(self, address: int) -> int | None:
        """The GPA of a guest linear address by the vCPU's present page tables, or None where it has none."""
        translation = struct("kvm_translation", linear_address=address)
        self._ioctl(ioctls.KVM_TRANSLATE, translation)
        return int(translation.physical_address) if translation.valid else None

    # ---- the ioctls underneath ----

    def _get(self, request: int, kind: str) -> CData:
        value = struct(kind)
        self._ioctl(request, value)
        return value

    def _ioctl(self, request: int, argument: Any = 0) -> int:
        return checked(self._backend, self.fd, request, argument)

    def close(self) -> None:
        self.fd.close()
