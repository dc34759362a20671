"""Who brings interrupts to the vCPUs: nobody, KVM, or Python. Devices see a `Line` and no difference.

none     no interrupts; HLT is an exit. For the small guests of the labs.
kernel   KVM has all: two 8259A, an 8254, an IOAPIC, a local APIC for each vCPU. Fastest.
split    KVM has the local APICs; 8259A, 8254 and IOAPIC are ours, and their interrupts go in as messages.
user     8259A and 8254 are ours, and there is no APIC: one vCPU, interrupted by KVM_INTERRUPT.

Read in this order: `model`, `kernel`, `user` (with `legacy` and `injector`), `split`.
"""

from minivmm.irqchip.make import KINDS, make_irqchip
from minivmm.irqchip.model import Irqchip

__all__ = ["KINDS", "Irqchip", "make_irqchip"]
