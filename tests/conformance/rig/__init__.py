"""The test rig: a guest in any mode, its code in assembly, and what it did as a list of events.

guest = start("long", asm64("mov dx, 0x123; mov eax, 7; out dx, eax; hlt"))
assert guest.trace() == [Out(0x123, 4, 7), HLT]
"""

from rig.assembly import asm, asm16, asm32, asm64
from rig.cpu import PATIENCE, Cpu, HangError
from rig.events import EMULATION_FAILED, HLT, SHUTDOWN, Ended, In, Load, Out, Store, Trapped
from rig.guest import Guest, Vm
from rig.modes import LONG, PAE, PAGING32, PROTECTED, REAL, WIDTH
from rig.stubs import Trap

ALL_MODES = (REAL, PROTECTED, PAGING32, PAE, LONG)
MODES = (REAL, PROTECTED, LONG)
PAGED = (PAGING32, PAE, LONG)

__all__ = [
    "ALL_MODES", "EMULATION_FAILED", "HLT", "LONG", "MODES", "PAE", "PAGED", "PAGING32", "PATIENCE", "PROTECTED",
    "REAL", "SHUTDOWN", "WIDTH", "Cpu", "Ended", "Guest", "HangError", "In", "Load", "Out", "Store", "Trap", "Trapped",
    "Vm", "asm", "asm16", "asm32", "asm64",
]  # fmt: skip
