"""The run loop: let the guest run until it needs us, serve what it needs, and again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from minivmm.bus import Bus
from minivmm.exits import (
    Debug,
    Exit,
    Halted,
    Interrupted,
    InterruptWindow,
    IoapicEoi,
    MmioRead,
    MmioWrite,
    PortIn,
    PortOut,
    ReadMsr,
    SetTpr,
    SystemEvent,
    WriteMsr,
)
from minivmm.irqchip import Irqchip
from minivmm.kvm import constants as k
from minivmm.machine.crew import Crew
from minivmm.machine.stop import DIED, Stop
from minivmm.vcpu import Vcpu
from minivmm.x86.bits import RFLAGS_IF

NOT_STARTED = k.KVM_MP_STATE_UNINITIALIZED, k.KVM_MP_STATE_INIT_RECEIVED


class Loop:
    """The run loop of one vCPU. `run` stands for `vcpu.run`, `record` sees every exit before it is served."""

    def __init__(
        self,
        vcpu: Vcpu,
        crew: Crew,
        ports: Bus,
        mmio: Bus,
        irqchip: Irqchip,
        history: deque[Exit],
        run: Callable[[], Exit],
        record: Callable[[Exit], object],
    ) -> None:
        self.vcpu = vcpu
        self._crew = crew
        self._ports = ports
        self._mmio = mmio
        self._irqchip = irqchip
        self._history = history
        self._run = run
        self._record = record
        self._settling = False

    def go(self) -> None:
        """Runs the guest until the crew holds."""
        crew, run, record, ports, mmio = self._crew, self._run, self._record, self._ports, self._mmio
        while not crew.hold or self._settling:
            exit = run()
            record(exit)
            match exit:
                case PortOut():
                    ports.write_from(exit.port, exit.size, exit.data)
                case PortIn():
                    ports.read_into(exit.port, exit.size, exit.buffer)
                case MmioWrite():
                    mmio.write_from(exit.address, exit.size, exit.data)
                case MmioRead():
                    mmio.read_into(exit.address, exit.size, exit.buffer)
                case Interrupted():
                    self._history.pop()  # a kick is ours, not the guest's
                    if self._settling:
                        return
                    self._doze()
                case Halted():
                    if not self._irqchip.sleeps(self.vcpu):
                        self._stop("halted", 0, exit)
                case InterruptWindow():
                    pass  # the irqchip looks at each way in whether it has an interrupt
                case SetTpr():
                    pass  # CR8 fell, which is news for a local APIC in userspace: there is none here
                case IoapicEoi():
                    self._irqchip.ended(exit.vector)
                case ReadMsr() | WriteMsr():
                    exit.refuse()  # the guest gets #GP, as on a processor without this MSR
                case SystemEvent(kind=k.KVM_SYSTEM_EVENT_SHUTDOWN):
                    self._stop("powered off", 0, exit)
                case SystemEvent(kind=k.KVM_SYSTEM_EVENT_RESET):
                    self._stop("reset", 0, exit)
                case Debug():
                    self._stop("debug", DIED, exit)
                case _:
                    self._stop("died", DIED, exit)

    def settle(self) -> None:
        """Completes the last access to a device, so that registers and memory are those behind the instruction.

        KVM completes it on the way in (api.rst, the note under KVM_EXIT_IO), and some instructions then have another
        one: so this is the loop itself, with a kick that stops it as soon as no access is open.
        """
        self._settling = True
        self.vcpu.run_page.c.immediate_exit = 1
        try:
            self.go()
        finally:
            self._settling = False

    def _stop(self, reason: str, code: int, exit: Exit) -> None:
        self._crew.stop(Stop(reason, code, exit, cpu=self.vcpu.index))

    def _doze(self) -> None:
        """Where HLT sleeps in the kernel, a vCPU that halts with interrupts off is gone for good, and no exit says so.
        The crew's heartbeat comes by here, so we look."""
        if self._irqchip.sleeps_in_kernel:
            state = self.vcpu.get_mp_state()
            halted = state == k.KVM_MP_STATE_HALTED and not self.vcpu.get_regs().rflags & RFLAGS_IF
            self._crew.note(self.vcpu, asleep=halted or state in NOT_STARTED)
