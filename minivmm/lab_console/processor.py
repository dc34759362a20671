"""The processor of lab 08's PC with its memory, and the 8259 that interrupts it: one entry, one exit."""

from __future__ import annotations

from minivmm.devices.pic import Pic
from minivmm.exits import Exit, Halted, Interrupted
from minivmm.kvm.seam import Backend
from minivmm.vm import Vm
from minivmm.watch import Watch

SECONDS = 2.0  # for a guest that makes no exit


class EndlessError(RuntimeError):
    """The guest does not come to an end."""


class Processor:
    """A VM of one vCPU and 1 MiB, from one boot to the next.

    `sleeps`: the guest has halted with its interrupts on, so the next one wakes it.
    """

    def __init__(self, backend: Backend | None = None) -> None:
        self._vm = Vm(backend)
        self._vm.prepare_for_vtx()
        self.memory = self._vm.memory
        self.memory.add(0, 1 << 20)
        self.vcpu, self.pic, self.sleeps = self._vm.create_vcpu(), Pic(), False
        self._vm.show_supported_cpuid(self.vcpu)

    def close(self) -> None:
        """The VM is gone, and its memory with it."""
        self._vm.close()

    def run(self, watch: Watch) -> Exit | None:
        """Delivers what is due, and enters the guest. None if it sleeps, and nothing wakes it.

        Raises EndlessError for a guest that makes no exit until the watch has expired.
        """
        if self.sleeps and not self.pic.intr:
            return None  # KVM_RUN would go on behind the HLT: it is we who must wait for an interrupt
        page = self.vcpu.run_page
        if self.pic.intr and page.ready_for_interrupt_injection:
            self.vcpu.interrupt(self.pic.acknowledge())
            self.sleeps = False
        page.request_interrupt_window = self.pic.intr
        while isinstance(exit := self.vcpu.run(), Interrupted):
            if watch.expired:
                raise EndlessError(f"the guest made no exit for {SECONDS:g} s")
        self.sleeps = isinstance(exit, Halted) and bool(page.if_flag)
        return exit
