"""The stretch problems of lab 06. They are checked like the others, and worth nothing but the insight."""

from __future__ import annotations

from autograder.model import Check, Hint
from autograder.stages import lab06_cases as cases
from autograder.stages import lab06_judges as judges
from autograder.stages.lab06_hints import hints

STRETCH = (
    Check(
        "06.14", "priorities that go round", 0,
        exercise="fair_request", driver="on_the_bench", cases=cases.in_turn,
        judge=judges.first_line("mask", "turn", "turn"),
        guests=("irq-log",),
        hints=hints(
            Hint("turn", "Line `chip.top` goes first, then the next ones, and 0 comes after 7: look at `(chip.top + n) "
                 "% 8` for n from 0 to 7. What is in service counts in the same order."),
            Hint("none", "The waiting line comes behind the one in service, as seen from `chip.top`: return None."),
            Hint("mask", "This line is masked: a 1 in `chip.imr` holds it back, as in task 06.4."),
            Hint("zero", "Line 0 is a line like any other, on top or not."),
            Hint("number", "The number of a line that is requested, 0 to 7, is asked for: not its place in the round."),
            Hint("touched", "It is a question: it changes nothing."),
        ),
    ),
    Check(
        "06.15", "the registers of KVM's own chip", 0,
        exercise="kernel_registers", driver="registers_in_the_kernel", cases=cases.read_back, judge=judges.read_back,
        guests=("irq-nest",),
        hints=hints(
            Hint("fields", "`struct(\"kvm_irqchip\", chip_id=chip)` asks; `.chip.pic` then has `irr`, `imr`, `isr` and "
                 "`irq_base`. The classic mistake forgets `chip_id`: then both answers are the master's."),
            Hint("four", "Return four numbers: (irr, imr, isr, base).", when="TypeError|AttributeError"),
            Hint("ioctl", "KVM_GET_IRQCHIP goes to the VM's handle.", when="ENOTTY|EFAULT|EINVAL|ENXIO"),
        ),
    ),
    Check(
        "06.16", "a watchdog", 0,
        exercise="watchdog", driver="watched_guest", cases=cases.guarded, judge=judges.watched,
        guests=("nmi-watchdog",),
        hints=hints(
            Hint("never", "After `patience` exits in a row with `run.if_flag` 0, `ioctl(vcpu, KVM_NMI)`. Return the "
                 "count, so that the next call can go on from it."),
            Hint("early", "The guest was well: it had interrupts on in between. The classic mistake counts all exits; "
                 "one with `run.if_flag` 1 starts the count anew."),
            Hint("when", "The NMI comes with the exit that makes the count `patience`, neither before nor after; until "
                 "then the new count is the old one plus one."),
            Hint("count", "Return the new count each time: it is what the next call gets.", when="TypeError"),
            Hint("ioctl", "KVM_NMI goes to the vCPU's handle and takes no structure.", when="ENOTTY|EFAULT|EINVAL"),
        ),
    ),
)  # fmt: skip
