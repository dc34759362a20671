"""Drivers of lab 02, tasks 5 to 8: protected mode, page tables, long mode, and the mode's name."""

from __future__ import annotations

from typing import Any

from autograder.drivers.base import Student
from autograder.drivers.lab02_common import (
    ENTRY,
    GDT,
    LARGE,
    load,
    new_vm,
    run,
    run_state,
    state_of,
)
from minivmm.boot import layout
from minivmm.kvm import struct
from minivmm.x86 import modes
from minivmm.x86.gdt import flat_gdt
from minivmm.x86.paging import PageTableBuilder


def protected(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """From reset to protected mode. The guest may load one more descriptor from the table."""
    with new_vm() as (rec, vm, vcpu):
        load(vm, inputs)
        gdt = flat_gdt()
        table = bytes(gdt)[:24] + inputs["extra"]
        vm.memory.write(inputs["gdt"], table)
        sregs = vcpu.get_sregs()
        student.target(sregs, inputs["gdt"], len(table))
        return state_of(sregs) | run_state(rec, vcpu, sregs, "protected")


def tables(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """The three pages as the student wrote them, and the first writes that missed them or the entries in them."""
    where, written = inputs["where"], bytearray(3 * 4096)
    outside: list[int] = []
    misaligned: list[int] = []

    def write_u64(gpa: int, value: int) -> None:
        at = gpa - where
        if at % 8 and len(misaligned) < 4:
            misaligned.append(gpa)
        if 0 <= at <= len(written) - 8:
            written[at : at + 8] = (value & (1 << 64) - 1).to_bytes(8, "little")
        elif len(outside) < 4:
            outside.append(gpa)

    return {"value": student.target(write_u64, where), "tables": written, "outside": outside, "misaligned": misaligned}


def checksum_through(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """A 64-bit guest reads memory through the student's tables."""
    with new_vm(inputs["memory"]) as (rec, vm, vcpu):
        load(vm, inputs)
        cr3 = student.target(lambda gpa, value: vm.memory.write_int(gpa, 8, value), inputs["where"])
        sregs = vcpu.get_sregs()
        vm.memory.write(GDT, bytes(flat_gdt()))
        modes.long_mode(sregs, cr3=cr3 if isinstance(cr3, int) else 0, gdt=flat_gdt(), gdt_base=GDT)
        return {"value": cr3} | run_state(rec, vcpu, sregs, "long")


def long(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """From protected mode to 64-bit mode, over page tables that are there already."""
    with new_vm() as (rec, vm, vcpu):
        load(vm, inputs)
        builder = PageTableBuilder(vm.memory, range(inputs["where"], inputs["where"] + 3 * 4096))
        builder.map(0, 0, LARGE, page=LARGE)
        gdt = flat_gdt()
        vm.memory.write(GDT, bytes(gdt))
        sregs = vcpu.get_sregs()
        modes.protected_mode(sregs, gdt=gdt, gdt_base=GDT)
        student.target(sregs, builder.root)
        return state_of(sregs) | run_state(rec, vcpu, sregs, "long")


def names(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    found = []
    for state in inputs["states"]:
        cs = {"l": state["l"], "db": state["db"], "s": 1, "present": 1, "type": 11}
        sregs = struct("kvm_sregs", cr0=state["cr0"], cr4=state["cr4"], efer=state["efer"], cs=cs)
        found.append(student.target(sregs))
    return {"value": found}


def watch_walk(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """Asks for the mode's name at the first character of each line that mode-walk prints."""
    with new_vm() as (rec, vm, vcpu):
        load(vm, inputs)
        layout.enter(vcpu, vm.memory, "real", ENTRY)
        seen: list[Any] = []

        def on_out(length: int) -> None:
            if length % inputs["line"] == 0 and len(seen) < 8:
                seen.append(student.target(vcpu.get_sregs()))

        return run(rec, vcpu, on_out) | {"value": seen}
