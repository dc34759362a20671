"""An engine of its own that runs a few instructions, to learn what the engine itself answers."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager

from minivmm.soft import engine as soft
from minivmm.soft.binding import ffi
from minivmm.soft.engine import Engine, Stop
from minivmm.soft.library import EngineError
from minivmm.soft.selfcheck import layout

_CODE = 0x1000
_CODE_SEGMENT, _DATA_SEGMENT = 0xA0_9B00, 0xC0_9300  # upper halves of descriptors: ring 0, 64-bit code


class Scratch:
    """Runs one instruction again and again, with other registers each time."""

    def __init__(self, engine: Engine, memory: mmap.mmap, instruction: bytes) -> None:
        self.engine = engine
        self.memory = memory  # from address 0 on
        self._instruction = instruction

    def execute(self, *registers: tuple[int, int]) -> None:
        """Sets registers (Unicorn's number, value), and carries out the instruction. Raises EngineError."""
        for register, value in registers:
            self.engine.set(register, value)
        self.engine.set(soft.RIP, _CODE)
        if self.engine.step() != Stop.STEPPED:  # stepping goes past the hooks
            code = self._instruction.hex(" ")
            raise EngineError(f"Unicorn does not carry out {code}: install it again, pip install unicorn==2.1.4.")


@contextmanager
def scratch(instruction: bytes) -> Iterator[Scratch]:
    """An engine as it comes up (64-bit code, no paging), with two pages of memory; `instruction` is in the second."""
    found = layout()
    engine, memory = Engine(found.exception, found.fault), mmap.mmap(-1, 2 * mmap.PAGESIZE)
    memory[_CODE : _CODE + len(instruction)] = instruction
    view, slots = ffi.from_buffer(memory), ffi.new("struct soft_slot[1]")
    slots[0].size, slots[0].host = len(memory), ffi.cast("uint8_t *", view)
    engine.cpu.slots, engine.cpu.slot_count = slots, 1
    engine.map(0, len(memory), int(ffi.cast("uintptr_t", view)))
    engine.look()
    engine.env.cs.flags, engine.env.ss.flags = _CODE_SEGMENT, _DATA_SEGMENT  # the engine leaves them empty
    engine.put()
    try:
        yield Scratch(engine, memory, instruction)
    finally:
        engine.close()
