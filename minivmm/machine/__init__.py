"""The machine: a VM, its buses and devices, and the run loops that drive them. The only package that knows them all.

Read in this order: `loop` (the run loop of one vCPU, on one screen), `machine` (what it works on), `crew` (several
vCPUs, each on its thread, and how all of them stop), `pc` (the devices that a kernel expects).
"""

from minivmm.machine.machine import CONSOLE_KEPT, HISTORY, Machine
from minivmm.machine.stop import DIED, TIMED_OUT, Stop

__all__ = ["CONSOLE_KEPT", "DIED", "HISTORY", "TIMED_OUT", "Machine", "Stop"]
