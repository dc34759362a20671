"""The interrupt controllers by name. Each is imported when it is asked for: a small guest needs none of them."""

from __future__ import annotations

from minivmm.irqchip.model import Irqchip
from minivmm.timers import Timers
from minivmm.vm import Vm

KINDS = ("none", "kernel", "split", "user")


def make_irqchip(kind: str, vm: Vm, timers: Timers) -> Irqchip:
    """An interrupt controller for `vm`, which has no vCPU yet; `timers` wakes those in Python.

    Raises ValueError for a kind that there isn't, KvmError where this KVM doesn't have it.
    """
    match kind:
        case "none":
            from minivmm.irqchip.none import NoIrqchip

            return NoIrqchip()
        case "kernel":
            from minivmm.irqchip.kernel import KernelIrqchip

            return KernelIrqchip(vm)
        case "split":
            from minivmm.irqchip.split import SplitIrqchip

            return SplitIrqchip(vm, timers)
        case "user":
            from minivmm.irqchip.user import UserIrqchip

            return UserIrqchip(vm, timers)
    raise ValueError(f"An irqchip is one of {', '.join(KINDS)}, not {kind!r}.")
