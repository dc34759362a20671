"""gdb for the guest: `minivmm run --gdb PORT`, then `target remote :PORT` in gdb.

Server → stub (commands) → session (what gdb has asked for) → a `Debuggable` machine.
"""

from minivmm.debug.gdb.machine_target import MachineTarget
from minivmm.debug.gdb.model import Abilities, Action, Cpu, Debuggable, Reason, StopEvent
from minivmm.debug.gdb.server import GdbServer

__all__ = ["Abilities", "Action", "Cpu", "Debuggable", "GdbServer", "MachineTarget", "Reason", "StopEvent"]
