"""Drivers of lab 02, tasks 1 to 4: addresses, segment registers, descriptors."""

from __future__ import annotations

from typing import Any

from autograder.drivers.base import Student
from autograder.drivers.lab02_common import (
    ENTRY,
    GDT,
    MIB,
    SEGMENT,
    SEGMENTS,
    fields_of,
    load,
    new_vm,
    run,
    run_state,
)
from minivmm.boot import layout
from minivmm.kvm import struct
from minivmm.memory import GuestMemoryError
from minivmm.x86 import modes
from minivmm.x86.gdt import Gdt, flat_gdt

# ---- real mode ----


def addresses(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    return {"value": [student.target(selector, offset) for selector, offset in inputs["pairs"]]}


def bytes_by_name(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """real-segments prints where it put its bytes, as segment:offset; the student's address finds them, or not."""
    with new_vm(2 * MIB) as (rec, vm, vcpu):
        load(vm, inputs)
        try:
            vm.memory.write(student.target(0xFFFF, 0x10), inputs["above"])
        except GuestMemoryError as error:
            return {"outside": str(error)}
        layout.enter(vcpu, vm.memory, "real", ENTRY)
        done = run(rec, vcpu)
        found = []
        for line in done["console"].decode("ascii", "replace").splitlines()[:3]:
            selector, offset = (int(part, 16) for part in line.split()[0].split(":"))
            try:
                found.append(vm.memory.read(student.target(selector, offset), 1)[0])
            except GuestMemoryError as error:
                return {"outside": str(error)}
        return done | {"found": found}


def real_fields(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """One segment register that still holds what another mode left in it."""
    sregs = struct("kvm_sregs", ds=inputs["before"])
    student.target(sregs.ds, inputs["selector"], inputs["type"])
    return {"value": fields_of(sregs.ds)}


def hello_elsewhere(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """All six segment registers hold the same selector, and the image lies in that segment."""
    with new_vm() as (rec, vm, vcpu):
        load(vm, inputs, base=inputs["base"])
        sregs = vcpu.get_sregs()
        for name in SEGMENTS:
            student.target(getattr(sregs, name), inputs["selector"], 11 if name == "cs" else 3)
        return {"cs": fields_of(sregs.cs)} | run_state(rec, vcpu, sregs, "real")


# ---- descriptors ----


def encode(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    return {"value": [student.target(*fields) for fields in inputs["fields"]]}


def load_encoded(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """The guest loads FS with the student's descriptor, the one behind code and data."""
    raw = student.target(*inputs["fields"])
    if not isinstance(raw, (bytes, bytearray)):
        return {"raw": raw}
    with new_vm(inputs["memory"]) as (rec, vm, vcpu):
        load(vm, inputs)
        gdt = Gdt()
        gdt.add("code32", flat_gdt()["code32"])
        gdt.add("data", flat_gdt()["data"])
        table = bytes(gdt) + bytes(raw)[:8].ljust(8, b"\0")
        vm.memory.write(GDT, table)
        sregs = vcpu.get_sregs()
        modes.protected_mode(sregs, gdt=gdt, gdt_base=GDT)
        sregs.gdt.limit = len(table) - 1
        return {"raw": raw} | run_state(rec, vcpu, sregs, "protected")


def decode(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    return {"value": student.target(inputs["raw"])}


def load_decoded(student: Student, inputs: dict[str, Any]) -> dict[str, Any]:
    """FS gets what the student read out of a descriptor, straight into its hidden part."""
    fields = student.target(inputs["raw"])
    if not isinstance(fields, dict):
        return {"value": fields}
    with new_vm() as (rec, vm, vcpu):
        load(vm, inputs)
        layout.enter(vcpu, vm.memory, "protected", ENTRY)
        sregs = vcpu.get_sregs()
        for name in set(SEGMENT) & fields.keys():
            setattr(sregs.fs, name, fields[name])
        sregs.fs.selector, sregs.fs.unusable = 0x18, 0
        return {"value": fields} | run_state(rec, vcpu, sregs, "protected")
