"""What one gdb knows and has asked for: which vCPU it looks at, its picture of the registers, its points.

The machine stands still while any of this is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from minivmm.debug.gdb import features, parse
from minivmm.debug.gdb.memory import VirtualMemory
from minivmm.debug.gdb.model import Action, Debuggable, Reason, StopEvent
from minivmm.debug.gdb.parse import CommandError
from minivmm.debug.gdb.points import Points
from minivmm.debug.gdb.registers import Registers
from minivmm.kvm import constants as k
from minivmm.x86.bits import EFER_LMA
from minivmm.x86.modes import code_bits


class Session:
    """The state behind the commands. Thread n of gdb is vCPU n - 1; `monitor` answers a line of gdb's `monitor`."""

    def __init__(self, target: Debuggable, monitor: Callable[[str], str] | None = None) -> None:
        self.target = target
        self.monitor = monitor
        self.points = Points(target.memory, target.abilities)
        self.last = StopEvent(0, Reason.ASKED)
        self._cache: dict[int, Registers] = {}
        self.attach()

    def attach(self) -> None:
        """A gdb has connected: it gets the picture that fits the mode the vCPU is in now."""
        self.forget()
        self.quiet = False  # gdb wants no acknowledgements
        self.reports: set[str] = set()  # the stop reasons that gdb understands
        self.cpu = 0 if self.last.reason is Reason.ASKED else self.last.cpu  # the one that g, m and friends are about
        self.description = self.fitting()

    def forget(self) -> None:
        """Drops what was read from the vCPUs: they have run, or somebody else has changed them."""
        self._cache.clear()

    def stopped(self, event: StopEvent) -> None:
        """The machine has stopped: gdb's next questions are about the vCPU that did."""
        self.forget()
        self.last = event
        self.cpu = event.cpu

    @property
    def all_go(self) -> dict[int, Action]:
        """Every vCPU continues."""
        return dict.fromkeys(range(len(self.target.cpus)), Action.CONTINUE)

    def thread(self, text: bytes) -> int:
        """The vCPU that gdb means; 0 stands for any. Raises CommandError."""
        number, cpus = parse.number(text), len(self.target.cpus)
        if number > cpus:
            raise CommandError(f"there is no thread {number}: this machine has {cpus} vCPU(s)")
        return max(number, 1) - 1

    def registers(self, cpu: int) -> Registers:
        """The registers of a vCPU, read from KVM once a stop."""
        found = self._cache.get(cpu)
        return found or self._cache.setdefault(cpu, Registers(self.target.cpus[cpu], self.target.memory))

    @property
    def memory(self) -> VirtualMemory:
        """Memory as the selected vCPU sees it."""
        return VirtualMemory(self.target.memory, self.registers(self.cpu).sregs)

    def fitting(self) -> features.Description:
        """What gdb should take the selected vCPU for. In long mode that is 64-bit, also while it runs a 32-bit program:
        the kernel around it is 64-bit."""
        registers = self.registers(self.cpu)
        is_long = registers.sregs.efer & EFER_LMA
        return features.description(64 if is_long else code_bits(registers.sregs, registers.regs))

    def arm(self, actions: Mapping[int, Action], inject: int | None = None) -> None:
        """Tells KVM of the points and steps, before the vCPUs in `actions` go. Raises KvmError.

        With `inject`, the one that stopped gets back an exception of its own (stops.py).
        """
        for cpu, action in actions.items():
            control, registers = self.points.control(step=action is Action.STEP)
            if inject is not None and cpu == self.last.cpu:
                control |= k.KVM_GUESTDBG_ENABLE | inject
            self.target.cpus[cpu].set_guest_debug(control, registers)
