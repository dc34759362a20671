"""Drivers of lab 06: the student's parts of a PC's interrupts, among parts that are right. Sandbox side: no answers."""

from __future__ import annotations

from typing import Any

from autograder.drivers.base import Student, recording
from autograder.drivers.lab06_bench import BENCH, STRAYS, Observed, Pc, a_bench, run
from autograder.drivers.lab06_kernel import chips_in_the_kernel, registers_in_the_kernel
from autograder.drivers.lab06_keys import etch_a_sketch
from autograder.drivers.lab06_loop import typed_guest, whole_machine
from autograder.drivers.lab06_parts import Chip, Parts, alone
from minivmm.boot.layout import PML4

__all__ = [
    "chips_in_the_kernel", "etch_a_sketch", "exception_gates", "interrupts_offered", "of_a_chip", "of_two_chips",
    "on_the_bench", "registers_in_the_kernel", "typed_guest", "vectors_hooked", "watched_guest",
    "whole_machine",
]  # fmt: skip

MOST_FLOOD = 50  # window exits with nothing to hand over


def vectors_hooked(student: Student, inputs: Observed) -> Observed:
    """Gives the guest handlers, some of them by the student's hand: [vector, segment, offset, what it leaves in AL]."""
    with recording() as rec:
        pc = Pc(rec)
        pc.load(inputs["guest"], inputs["parameters"])
        memory = pc.vm.memory.slots[0].data
        olds = []
        for theirs, handlers in ((False, inputs["first"]), (True, inputs["then"])):
            for vector, segment, offset, value in handlers:
                pc.vm.memory.write(16 * segment + offset, bytes((0xB0, value, 0xCF)))  # mov al; iret
                if theirs:
                    olds.append(student.target(memory, vector, segment, offset))
                else:
                    pointer = offset.to_bytes(2, "little") + segment.to_bytes(2, "little")
                    pc.vm.memory.write(4 * vector, pointer)
        table = pc.vm.memory.read(0, STRAYS // 16)
        return {**pc.run(), "value": olds, "table": bytes(table[:0x400])}


def exception_gates(student: Student, inputs: Observed) -> Observed:
    """An IDT with one gate, the student's, for a handler of ours. The upper half of the address space is the lower one
    once more, so that a handler may be at any canonical address. Where no guest is named, the gate alone."""
    gate = student.target(inputs["handler"], inputs["selector"], inputs["trap"])
    seen: Observed = {"value": gate}
    if not isinstance(gate, (bytes, bytearray)) or len(gate) != 16 or "guest" not in inputs:
        return seen
    with recording() as rec:
        pc = Pc(rec)
        pc.load(inputs["guest"], inputs["parameters"])
        memory = pc.vm.memory
        memory.write(PML4 + 8 * 511, bytes(memory.read(PML4, 8)))
        code = b"\x9c\x59\xb8" + inputs["number"].to_bytes(4, "little")  # pushfq; pop rcx; mov eax
        memory.write(inputs["place"], code + b"\x48\x83\x04\x24\x02\x48\xcf")  # add qword [rsp], 2; iretq
        memory.write(inputs["parameters"]["address"] + 16 * 6, bytes(gate))
        return {**seen, **pc.run()}


def of_a_chip(student: Student, inputs: Observed) -> Observed:
    """Calls the student's function of one chip, again and again: `calls` are its arguments after the chip. An entry
    {"taken": n} stands for an acknowledge in between. All registers come after each call."""
    function, chip = alone(student.target), Chip(**inputs.get("chip", {}))
    values: list[Any] = []
    states = []
    for arguments in inputs["calls"]:
        if isinstance(arguments, dict):
            chip.irr &= ~(1 << arguments["taken"])
            values.append(None)
        else:
            values.append(function(chip, *arguments))
        states.append(chip.registers())
    return {"values": values, "states": states}


def of_two_chips(student: Student, inputs: Observed) -> Observed:
    """Calls the student's function of both chips, `times` times."""
    function, master, slave = alone(student.target), Chip(**inputs["master"]), Chip(**inputs["slave"])
    values = [function(master, slave) for _ in range(inputs["times"])]
    return {"values": values, "master": master.registers(), "slave": slave.registers()}


def on_the_bench(student: Student, inputs: Observed) -> Observed:
    """One kind of case for the parts: a few chips by themselves, or a guest whose chips have the student's part.
    `theirs` maps the part's name to the student's name of it."""
    if "calls" in inputs:
        return of_a_chip(student, inputs)
    if "times" in inputs:
        return of_two_chips(student, inputs)
    return run(Parts({part: alone(student.get(name)) for part, name in inputs["theirs"].items()}), inputs)


def interrupts_offered(student: Student, inputs: Observed) -> Observed:
    """The student's `offer` before every entry; chips and guest are ours. Where `hand` is given, one call, and no
    guest."""
    if "hand" in inputs:
        return offered_by_hand(student, *inputs["hand"])
    with a_bench(Parts(), inputs) as bench:
        early = idle = 0

        def inta() -> Any:
            nonlocal early
            early += not bench.page.ready_for_interrupt_injection
            return bench.inta()

        def before() -> None:
            nonlocal idle
            student.target(bench.vcpu.fd, bench.page, lambda: bool(bench.intr()), inta)
            idle += bench.idle_window
            if idle > MOST_FLOOD:
                bench.stop("flood")

        return {**bench.run(before), "early": early, "idle": idle}


def offered_by_hand(student: Student, ready: int, flag: int, waiting: int) -> Observed:
    """One `offer` to a vCPU that says `ready` and IF = `flag`, while so many requests wait."""
    with recording() as rec:
        page = (pc := Pc(rec)).page  # of a guest that never runs, so what it says is ours to choose
        page.ready_for_interrupt_injection, page.if_flag, page.request_interrupt_window = ready, flag, not waiting
        taken = 0

        def inta() -> int:
            nonlocal taken
            taken += 1
            return 0x20 + taken % 0x80

        student.target(pc.vcpu.fd, page, lambda: taken < waiting, inta)
        given = sum(call.startswith("KVM_INTERRUPT:") for call in rec.calls)
        return {"hand": [taken, given, page.request_interrupt_window]}


def watched_guest(student: Student, inputs: Observed) -> Observed:
    """The student's watchdog looks at a guest after each exit; `counts` are the last counts that it gave. Where `flags`
    are given, IF at each exit, there is no guest: (count, NMIs so far) after each."""
    with recording() as rec:
        pc = Pc(rec)
        if "flags" in inputs:
            steps: list[list[Any]] = [[0, 0]]
            for pc.page.if_flag in inputs["flags"]:
                count = student.target(pc.vcpu.fd, pc.page, steps[-1][0], inputs["patience"])
                steps.append([count, sum(call.startswith("KVM_NMI:") for call in rec.calls)])
                if type(count) is not int:
                    break
            return {"steps": steps[1:]}
        pc.add("bench", range(BENCH, BENCH + 1))
        pc.load(inputs["guest"], inputs["parameters"])
        counts: list[Any] = [0]

        def after() -> None:
            if pc.seen:  # not before the first entry
                counts.append(student.target(pc.vcpu.fd, pc.page, counts[-1], inputs["patience"]))
                del counts[:-64]

        return {**pc.run(after), "counts": counts, "calls": rec.calls}
