"""From the 8259A's INTR pin into a vCPU: KVM_INTERRUPT when the guest can take it, else ask for the moment it can.

An interrupt must not be queued while the guest has interrupts off, or in the shadow of STI. KVM says at each exit
whether it may be (`ready_for_interrupt_injection`, `if_flag`); if not, `request_interrupt_window` makes KVM_RUN return
as soon as it is so.

Source: KVM API 4.16 KVM_INTERRUPT, "5. The kvm_run structure"; SDM vol. 2, "STI", for the shadow.
"""

from __future__ import annotations

import errno
from contextlib import AbstractContextManager
from typing import Any

from minivmm.devices.pic import Pic
from minivmm.exits import Exit, Interrupted
from minivmm.kvm.errors import KvmError
from minivmm.vcpu import Vcpu


class Injector:
    """Runs `vcpu`, and gives it the interrupts of `pic`, all of whose uses are guarded by `lock`.

    Whoever raises INTR must kick the vCPU, so that it comes by here.
    """

    def __init__(self, vcpu: Vcpu, pic: Pic, lock: AbstractContextManager[Any]) -> None:
        self.index = vcpu.index
        self.is_halted = False  # HLT came out, and nothing has woken the vCPU yet
        self._vcpu = vcpu
        self._page = vcpu.run_page.c
        self._pic = pic
        self._lock = lock

    def run(self) -> Exit:
        if self.is_halted:
            if not self._pic.intr:
                self._vcpu.wait()
            if not self._pic.intr:
                return Interrupted()  # somebody else wanted us
            self.is_halted = False
        if self._pic.intr and self._page.ready_for_interrupt_injection and self._page.if_flag:
            self._inject()
        self._page.request_interrupt_window = self._pic.intr
        return self._vcpu.run()

    def _inject(self) -> None:
        with self._lock:
            vector = self._pic.pending_vector()
            if vector is None:
                return  # it has been withdrawn
            try:
                self._vcpu.interrupt(vector)
            except KvmError as error:
                if error.errno == errno.EEXIST:
                    return  # the one before is still on its way: this one stays with the 8259A
                raise
            self._pic.acknowledge()
