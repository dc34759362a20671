"""A machine for the gdb stub that is made of plain Python: two vCPUs, 64 KiB of memory, and stops as a test wants."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from queue import SimpleQueue
from typing import Any

from minivmm.debug.gdb import Abilities, Action, Reason, StopEvent
from minivmm.kvm.calls import struct
from minivmm.x86.bits import CR4_SMAP
from minivmm.x86.gdt import flat_gdt
from minivmm.x86.modes import long_mode, protected_mode, real_mode
from minivmm.x86.paging import PageTableBuilder
from minivmm.x86.state import Regs, Sregs

GDT = 0x7000


class Memory:
    """RAM from 0 up."""

    def __init__(self, size: int = 1 << 16) -> None:
        self.bytes = bytearray(size)

    def read(self, gpa: int, size: int) -> bytes:
        self._check(gpa, size)
        return bytes(self.bytes[gpa : gpa + size])

    def write(self, gpa: int, data: bytes) -> None:
        self._check(gpa, len(data))
        self.bytes[gpa : gpa + len(data)] = data

    def _check(self, gpa: int, size: int) -> None:
        if gpa + size > len(self.bytes):
            raise ValueError(f"there is no memory at {gpa:#x}")


class FakeCpu:
    """A vCPU that remembers what it was told."""

    def __init__(self, sregs: Sregs) -> None:
        self.regs, self.sregs, self.fpu = Regs(), sregs, struct("kvm_fpu", fcw=0x37F, mxcsr=0x1F80)
        self.debug: tuple[int, list[int]] = (0, [])

    def get_regs(self) -> Any:
        return copy.copy(self.regs)

    def set_regs(self, regs: Any) -> None:
        self.regs = regs

    def get_sregs(self) -> Any:
        return copy.deepcopy(self.sregs)

    def set_sregs(self, sregs: Any) -> None:
        if sregs.cr0 & 1 << 31 and not sregs.cr0 & 1:
            raise ValueError("CR0.PG needs CR0.PE")
        self.sregs = sregs

    def get_fpu(self) -> Any:
        return self.fpu

    def set_fpu(self, fpu: Any) -> None:
        self.fpu = fpu

    def set_guest_debug(self, control: int, registers: Sequence[int] = ()) -> None:
        self.debug = (control, list(registers))


class FakeMachine:
    """`Debuggable`. Each resume ends with the next of `stops`; None stands for "runs until it is stopped"."""

    def __init__(
        self, mode: str = "long", stops: Sequence[StopEvent | None] = (), abilities: Abilities | None = None
    ) -> None:
        self.memory = Memory()
        self.abilities = abilities or Abilities()
        self.resumed: list[dict[int, Action]] = []
        self.cpus = [FakeCpu(self._sregs(mode)), FakeCpu(self._sregs("real"))]
        self._stops = list(stops)
        self._events: SimpleQueue[StopEvent] = SimpleQueue()

    def _sregs(self, mode: str) -> Sregs:
        sregs, gdt = Sregs(), flat_gdt()
        self.memory.write(GDT, bytes(gdt))
        if mode == "real":
            real_mode(sregs)
        elif mode == "protected":
            protected_mode(sregs, gdt=gdt, gdt_base=GDT)
        else:
            # All of it at its own address; 0x2000 at 0x40_0000, read-only, and behind that a hole; 0x3000 for users.
            tables = PageTableBuilder(self.memory, range(0x8000, 0xF000))
            tables.map(0, 0, 1 << 16)
            tables.map(0x40_0000, 0x2000, 0x1000, writable=False)
            tables.map(0x40_1000, 0x10_0000, 0x1000)
            tables.map(0x42_0000, 0x3000, 0x1000, user=True)
            sregs.cr4 |= CR4_SMAP
            long_mode(sregs, cr3=tables.root, gdt=gdt, gdt_base=GDT)
        return sregs

    def resume(self, actions: Mapping[int, Action]) -> None:
        self.resumed.append(dict(actions))
        event = self._stops.pop(0) if self._stops else None
        if event is not None:
            self._events.put(event)

    def stop_all(self) -> None:
        self._events.put(StopEvent(0, Reason.ASKED))

    def wait_stop(self) -> StopEvent:
        return self._events.get()
