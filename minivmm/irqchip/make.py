"""The interrupt controllers by name."""

from __future__ import annotations

from collections.abc import Callable

from minivmm.irqchip.kernel import KernelIrqchip
from minivmm.irqchip.model import Irqchip
from minivmm.irqchip.none import NoIrqchip
from minivmm.irqchip.split import SplitIrqchip
from minivmm.irqchip.user import UserIrqchip
from minivmm.timers import Timers
from minivmm.vm import Vm

KINDS: dict[str, Callable[[Vm, Timers], Irqchip]] = {
    "none": NoIrqchip,
    "kernel": KernelIrqchip,
    "split": SplitIrqchip,
    "user": UserIrqchip,
}


def make_irqchip(kind: str, vm: Vm, timers: Timers) -> Irqchip:
    """An interrupt controller for `vm`, which has no vCPU yet; `timers` wakes those in Python.

    Raises ValueError for a kind that there isn't, KvmError where this KVM doesn't have it.
    """
    if kind not in KINDS:
        raise ValueError(f"An irqchip is one of {', '.join(KINDS)}, not {kind!r}.")
    return KINDS[kind](vm, timers)
