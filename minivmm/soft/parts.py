"""What one VM and one vCPU consist of: the parts that KVM_RUN and the ioctls share."""

from __future__ import annotations

from threading import Event as Flag

from minivmm.kvm import constants as k
from minivmm.soft import fpu, state, xcr0
from minivmm.soft.clock import CountingClock, TscCounter, WallClock
from minivmm.soft.coalesced import Ring, Zones
from minivmm.soft.control_registers import DR6_FIXED, DR7_FIXED
from minivmm.soft.cpuid import CpuidTable
from minivmm.soft.device_memory import DeviceMemory
from minivmm.soft.engine import Engine
from minivmm.soft.events import Events
from minivmm.soft.guest_debug import GuestDebug
from minivmm.soft.ioeventfd import IoEventFds
from minivmm.soft.irqchip import IrqChip
from minivmm.soft.kvmclock import KvmClock
from minivmm.soft.lapic import LocalApic
from minivmm.soft.memory import GuestSlots
from minivmm.soft.msr_filter import MsrFilter
from minivmm.soft.msrs import Msrs
from minivmm.soft.page import SharedPage
from minivmm.soft.processor import Processor
from minivmm.soft.selfcheck import layout
from minivmm.soft.tsc_sync import TscSync
from minivmm.soft.turn import Turn
from minivmm.x86.state import reset_state


class VmParts:
    """A VM. `turn` is held by whoever runs an engine, or changes what a running one relies on."""

    def __init__(self, clock: WallClock | CountingClock) -> None:
        self.clock = clock
        self.memory = GuestSlots()
        self.irqchip: IrqChip | None = None
        self.vcpus: dict[int, VcpuParts] = {}
        self.turn = Turn(self._end_slices)
        self.msr_filter = MsrFilter()
        self.msr_exits = 0  # KVM_MSR_EXIT_REASON_*, by KVM_CAP_X86_USER_SPACE_MSR
        self.tsc_sync = TscSync()
        self.zones = Zones()  # of coalesced I/O
        self.eventfds = IoEventFds()

    def _end_slices(self) -> None:
        for vcpu in list(self.vcpus.values()):
            vcpu.engine.cpu.kick = 1

    def others_sleep(self, vcpu: VcpuParts) -> bool:
        """Whether no other vCPU has anything to do before the next timer."""
        return all(each is vcpu or each.mp_state != k.KVM_MP_STATE_RUNNABLE for each in self.vcpus.values())


class VcpuParts:
    """vCPU `number` of `vm`, as after power-up. With an irqchip, all but number 0 wait for a start-up IPI."""

    def __init__(self, vm: VmParts, number: int) -> None:
        self.vm = vm
        self.number = number
        offsets = layout()
        self.engine = Engine(offsets.exception, offsets.fault, counting=vm.clock.counting)
        vm.memory.attach(self.engine)
        self.processor = Processor(self.engine, vm.memory)
        self.page = SharedPage()
        if first := next(iter(vm.vcpus.values()), None):
            self.page.share_ring(first.page)
        self.ring = Ring(self.page)
        self.events = Events()
        self.tsc = TscCounter(vm.clock, self.engine)
        self.cpuid = CpuidTable()
        self.kvmclock = KvmClock(self.tsc, vm.clock.now, vm.clock.wall, vm.memory.write)
        self.devices = DeviceMemory(self.processor)
        self.debug = GuestDebug(self.processor)
        self.mp_state = k.KVM_MP_STATE_RUNNABLE
        self.cr8 = 0  # where there is no local APIC
        self.thread = 0  # the one in KVM_RUN
        self.kicked = False
        self.closed = False
        self.awake = Flag()
        self.apic: LocalApic | None = None
        if vm.irqchip is not None:
            self.apic = vm.irqchip.add_cpu(number, self, self.tsc)
            if number:
                self.mp_state = k.KVM_MP_STATE_UNINITIALIZED
        self.reset()
        fpu.reset(self.engine)
        xcr0.set_xcr0(self.processor, xcr0.RESET)
        self.msrs = Msrs(
            self.processor,
            self.cpuid,
            self.tsc,
            self.kvmclock,
            is_bsp=number == 0,
            apic=self.apic,
            sync=vm.tsc_sync,
            filter=vm.msr_filter,
        )

    def reset(self) -> None:
        """The registers after power-up or INIT: SDM vol. 3, "Processor State After Reset"."""
        env = self.processor.look()
        regs, sregs = reset_state()
        for name in state.GPRS:
            setattr(env, name, getattr(regs, name))
        env.rip = regs.rip
        state.sregs_from_kvm(sregs, env)
        env.hflags &= ~state.HF_SHADOW
        state.set_flags(env, regs.rflags)
        self.processor.put()
        self.processor.dr[:] = [0, 0, 0, 0, 0, 0, DR6_FIXED, DR7_FIXED]
        self.cr8 = 0

    def init_registers(self) -> None:
        """INIT: as at power-up, but MSRs, x87 and SSE keep their state."""
        self.reset()
        if self.apic:
            self.apic.reset(init=True)

    def read_cr8(self) -> int:
        return self.apic.cr8 if self.apic else self.cr8

    def write_cr8(self, value: int) -> None:
        if self.apic:
            self.apic.cr8 = value & 0xF
        else:
            self.cr8 = value & 0xF

    # ---- what the interrupt chips ask of a processor (lapic.Cpu): it only takes note ----

    def wake(self) -> None:
        self.engine.cpu.kick = 1  # ends the slice
        self.awake.set()

    def nmi(self) -> None:
        self.events.nmi_pending = True
        self.wake()

    def init(self) -> None:
        self.events.init_pending = True
        self.wake()

    def sipi(self, vector: int) -> None:
        self.events.sipi_vector = vector
        self.wake()

    def kick(self) -> None:
        """Ends KVM_RUN soon, with EINTR."""
        self.kicked = True
        self.wake()

    def close(self) -> None:
        """Gives up the engine; a second call does nothing. It must be our turn. Whoever waits in KVM_RUN comes back."""
        if not self.closed:
            self.closed = True
            self.vm.clock.after_run(self.engine)
            self.vm.memory.detach(self.engine)
            self.engine.close()
            self.awake.set()
