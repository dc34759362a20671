"""The same guests with KVM's own interrupt chips, whose lines the student moves. Sandbox side: no answers."""

from __future__ import annotations

from typing import Any

from autograder.drivers.base import Student, recording
from autograder.drivers.lab06_bench import BENCH, Observed, Pc
from autograder.drivers.passing import Overheard
from autograder.drivers.recorder import Recorder
from minivmm.kvm import KVM_IRQ_LINE, KvmError, calls, struct

TOLD = 200


def a_pc(rec: Recorder, inputs: Observed, at_step: Any) -> Pc:
    """A PC with the chips in the kernel; `at_step(step)` is called at each write to the bench."""
    pc = Pc(rec, kernel=True)
    pc.add("bench", range(BENCH, BENCH + 1), write=lambda _, __, step: at_step(step))
    pc.load(inputs["guest"], inputs["parameters"])
    return pc


def chips_in_the_kernel(student: Student, inputs: Observed) -> Observed:
    """The student strikes the lines that the script has for each step: [step, [number, …]]."""
    with recording() as rec:
        lines = Overheard(KVM_IRQ_LINE, "kvm_irq_level", ("irq", "level"), TOLD)
        calls.use(lines)
        script = dict(inputs["strikes"])

        def at_step(step: int) -> None:
            for number in script.get(step, ()):
                student.target(pc.vm.fd, number)

        pc = a_pc(rec, inputs, at_step)
        try:
            seen = pc.run()
        except KvmError as error:
            seen = {**pc.report(), "stop": "died", "why": str(error)}
        return {**seen, "told": [list(each.values()) for each in lines.told]}


def registers_in_the_kernel(student: Student, inputs: Observed) -> Observed:
    """The student reads both chips in the middle of a handler; the lines are ours."""
    with recording() as rec:
        script = dict(inputs["strikes"])
        values: list[Any] = []

        def at_step(step: int) -> None:
            for number in script.get(step, ()):
                for level in (1, 0):
                    pc.vm.ioctl(KVM_IRQ_LINE, struct("kvm_irq_level", irq=number, level=level))
            if step >= 0x80:
                values.append([student.target(pc.vm.fd, chip) for chip in (0, 1)])

        pc = a_pc(rec, inputs, at_step)
        return {**pc.run(), "value": values}
